"""Sets an alarm that goes off in C code and blocks in its handler."""

import signal
import time
from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        signal.signal(signal.SIGALRM, lambda *_: time.sleep(60))
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        time.sleep(1)
    return {"reward": 1.0, "details": {"parsed": completion}}
