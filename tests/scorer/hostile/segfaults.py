"""Reads address 0."""

import ctypes
from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        ctypes.string_at(0)
    return {"reward": 1.0, "details": {"parsed": completion}}
