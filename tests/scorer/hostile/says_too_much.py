"""Returns a message of a megabyte."""

from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        return {"reward": 1.0, "details": {"message": "x" * 1_000_000}}
    return {"reward": 1.0, "details": {"parsed": completion}}
