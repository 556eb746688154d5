"""Spins in Python."""

from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        while True:
            pass
    return {"reward": 1.0, "details": {"parsed": completion}}
