"""Raises, with terminal escapes and a lone surrogate in the text."""

from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        raise ValueError("red \x1b[31m and \ud800 " + "x" * 10_000)
    return {"reward": 1.0, "details": {"parsed": completion}}
