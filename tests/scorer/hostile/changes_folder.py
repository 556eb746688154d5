"""Changes the working folder."""

import os
from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        os.chdir("/")
    return {"reward": 1.0, "details": {"parsed": completion}}
