"""A scorer of one's own: the last whole number in the completion has to be the expected one."""

import re

SPEC = {
    "name": "last-number",
    "version": 1,
    "codes": [
        {"name": "ok", "outcome": "correct", "meaning": "the last number is the expected one"},
        {"name": "wrong_number", "outcome": "wrong", "meaning": "the last number is another one"},
        {"name": "no_number", "outcome": "malformed", "meaning": "there is no number at all"},
    ],
}


def score(example, completion):
    numbers = re.findall(r"-?[0-9]+", completion)
    if not numbers:
        return {"reward": 0.0, "details": {"code": "no_number"}}
    code = "ok" if numbers[-1] == str(example.expected_answer) else "wrong_number"
    return {"reward": float(code == "ok"), "details": {"code": code, "parsed": numbers[-1]}}
