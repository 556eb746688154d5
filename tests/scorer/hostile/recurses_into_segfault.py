"""Lifts the recursion limit and recurses through C, which overflows the C stack."""

import sys
from typing import Any


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        sys.setrecursionlimit(10**9)
        return sorted([0], key=lambda _: score(example, completion))
    return {"reward": 1.0, "details": {"parsed": completion}}
