"""A person's scorer, as one would write it, for the benches of isolation and of workers."""

from __future__ import annotations

import re
from typing import Any

_NUMBER = re.compile(r"Final: (-?[0-9]+)\n?")


def score(example: Any, completion: str) -> dict[str, Any]:
    found = _NUMBER.fullmatch(completion)
    if found is None:
        return {"reward": 0.0, "details": {"code": "malformed", "outcome": "malformed", "message": "not Final: N"}}
    right = int(found[1]) == example.expected_answer
    return {
        "reward": float(right),
        "details": {"code": "ok" if right else "wrong", "parsed": found[1], "message": "compared as integers"},
    }


def slow_score(example: Any, completion: str) -> dict[str, Any]:
    """About a millisecond of CPU time before the same verdict."""
    n = 1
    for i in range(1, 25_000):
        n = n * i % 1_000_003
    return score(example, completion)
