"""Allocates a gigabyte."""

from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        bytearray(1 << 30)
    return {"reward": 1.0, "details": {"parsed": completion}}
