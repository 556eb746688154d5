"""Ends the process without an exception."""

import os
from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        os._exit(3)
    return {"reward": 1.0, "details": {"parsed": completion}}
