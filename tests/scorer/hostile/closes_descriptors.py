"""Closes every descriptor it did not open, as a daemon does."""

import os
from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        os.closerange(3, 256)
    return {"reward": 1.0, "details": {"parsed": completion}}
