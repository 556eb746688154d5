"""Kills the process that forked it."""

import os
import signal
import time
from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return {"reward": 1.0, "details": {"parsed": completion}}
