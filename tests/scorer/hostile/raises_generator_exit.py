"""Raises an exception that is not an Exception."""

from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        raise GeneratorExit
    return {"reward": 1.0, "details": {"parsed": completion}}
