"""Calls sys.exit."""

import sys
from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        sys.exit(0)
    return {"reward": 1.0, "details": {"parsed": completion}}
