"""Stops its process, as Ctrl-Z does."""

import os
import signal
from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        os.kill(os.getpid(), signal.SIGSTOP)
    return {"reward": 1.0, "details": {"parsed": completion}}
