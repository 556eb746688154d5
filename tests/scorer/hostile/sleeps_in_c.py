"""Sleeps in C."""

import time
from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        time.sleep(60)
    return {"reward": 1.0, "details": {"parsed": completion}}
