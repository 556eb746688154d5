"""Is killed, as by the system when memory is short."""

import os
import signal
from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        os.kill(os.getpid(), signal.SIGKILL)
    return {"reward": 1.0, "details": {"parsed": completion}}
