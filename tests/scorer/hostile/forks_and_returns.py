"""Forks, and both copies return."""

import os
from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        os.fork()
    return {"reward": 1.0, "details": {"parsed": completion}}
