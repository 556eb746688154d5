"""Prints, to Python's stdout and to the descriptor."""

import os
from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        print("noise" * 10_000)  # noqa: T201  # the behaviour under test
        os.write(1, b"noise")
        os.write(2, b"noise")
    return {"reward": 1.0, "details": {"parsed": completion}}
