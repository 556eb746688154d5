"""Spins in C, in a regular expression, without looking at signals."""

import re
from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        re.match(r"(a+)+$", "a" * 40 + "b")
    return {"reward": 1.0, "details": {"parsed": completion}}
