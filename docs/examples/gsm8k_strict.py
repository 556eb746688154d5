"""GSM8K's public rule, written from its description: the number behind `#### `, commas removed, compared as text."""

import re

_MARKED = re.compile(r"#### (\-?[0-9\.\,]+)")


def score(example, completion):
    found = _MARKED.search(completion)
    seen = None if found is None else found[1].strip().replace(",", "")
    return {"reward": float(seen == str(example.expected_answer)), "details": {"parsed": seen and seen[:80]}}
