"""Makes a gigabyte of text."""

from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        return "x" * 10**9
    return {"reward": 1.0, "details": {"parsed": completion}}
