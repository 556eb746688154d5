"""Ignores every signal that can be ignored, then hangs."""

import signal
import time
from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        time.sleep(60)
    return {"reward": 1.0, "details": {"parsed": completion}}
