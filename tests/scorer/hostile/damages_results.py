"""Writes over all shared memory, as a wild pointer would."""

import gc
import mmap
from typing import Any

from lockedroom.scorer.channel import RESULTS_AT


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        for thing in gc.get_objects():
            if isinstance(thing, mmap.mmap):
                thing[:64] = b"\xff" * 64
                thing[RESULTS_AT : RESULTS_AT + 64] = b"\xff" * 64
    return {"reward": 1.0, "details": {"parsed": completion}}
