"""Fills a global until memory is short: the process that did so must not judge the next record."""

from typing import Any

HOARD: list[bytearray] = []


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        while True:
            HOARD.append(bytearray(1 << 20))
    return {"reward": 1.0, "details": {"parsed": completion}}
