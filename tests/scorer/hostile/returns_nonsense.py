"""Returns nothing."""

from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        return None
    return {"reward": 1.0, "details": {"parsed": completion}}
