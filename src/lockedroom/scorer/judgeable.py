"""What the built-in scorers can judge: real text, against a whole number of any size.

The functions look at the real type of a value (`type`, never `__class__`) and at its real content, so an odd subclass
can neither raise nor lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lockedroom.scorer.decimal_text import decimal_string


def answer_digits(expected_answer: Any) -> str | None:
    """Return the canonical decimal digits of an answer, or None when it is not an integer.

    An integer is an `int` of any size (`True` and `False` are not) or its canonical decimal string: an optional `-`,
    ASCII digits, no leading zero, no `-0`.
    """
    kind = type(expected_answer)
    if issubclass(kind, str):
        text = str.__str__(expected_answer)
        unsigned = text.removeprefix("-")
        canonical = unsigned.isascii() and unsigned.isdigit() and (unsigned[0] != "0" or text == "0")
        return text if canonical else None
    if issubclass(kind, int) and kind is not bool:
        return decimal_string(int.__int__(expected_answer))
    return None


def first_refused(answers: Sequence[Any]) -> int | None:
    """Return the position of the first answer that is not an integer (see `answer_digits`), or None."""
    if set(map(type, answers)) == {int}:
        return None
    return next((i for i, answer in enumerate(answers) if answer_digits(answer) is None), None)


def plain_text(completion: object) -> str | None:
    """Return the real characters of a `str` or of a subclass of it, and None for anything else."""
    return str.__str__(completion) if issubclass(type(completion), str) else None
