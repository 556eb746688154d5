"""Starts a thread that never ends, and no daemon at that."""

import threading
import time
from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        threading.Thread(target=time.sleep, args=(60,)).start()
    return {"reward": 1.0, "details": {"parsed": completion}}
