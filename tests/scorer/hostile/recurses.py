"""Recurses without end."""

from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        return score(example, completion)
    return {"reward": 1.0, "details": {"parsed": completion}}
