"""The `flexible-extract` rule of evaluation harnesses, from its description: the last number anywhere, commas and $ removed."""

import re

_NUMBER = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")


def score(example, completion):
    found = [first or second for first, second in _NUMBER.findall(completion)]
    seen = found[-1].replace(",", "").replace("$", "").rstrip(".") if found else None
    return {"reward": float(seen == str(example.expected_answer)), "details": {"parsed": seen and seen[:80]}}
