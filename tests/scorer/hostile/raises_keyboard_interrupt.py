"""Raises what Ctrl-C raises."""

from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        raise KeyboardInterrupt
    return {"reward": 1.0, "details": {"parsed": completion}}
