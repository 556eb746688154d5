"""Raises an exception whose text raises."""

from typing import Any


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def score(example: Any, completion: str) -> Any:
    if completion == "bad":
        raise UnprintableError
    return {"reward": 1.0, "details": {"parsed": completion}}
