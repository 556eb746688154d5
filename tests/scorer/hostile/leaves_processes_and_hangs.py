"""Starts processes, one in a session of its own whose parent is gone, then hangs."""

import subprocess
import time
from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        subprocess.Popen(["sleep", "60"])
        subprocess.Popen(["sh", "-c", "setsid sleep 60 &"], start_new_session=True).wait()
        time.sleep(60)
    return {"reward": 1.0, "details": {"parsed": completion}}
