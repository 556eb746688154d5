"""What an audit asks: golden completions, cases derived from them, and how a text is read when the scorer is not trusted.

A case is paid by mistake only if its text is not known to be right and not contested. `reading` says in which way such a
text is not the golden one; shrinking a finding keeps that reading, so that an attack never shrinks into something harmless.
"""

from __future__ import annotations

import enum
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

import msgspec

from lockedroom.records import Example
from lockedroom.scorer.judgeable import answer_digits

LONGEST_CONVERTED = 4300  # digits that Python's int() takes


class Kind(enum.Enum):
    """What a golden completion must get: the full reward, none, or whatever the scorer's author decides."""

    CORRECT = "correct"
    EXPLOIT = "exploit"
    CONTESTED = "contested"


class Reading(enum.Enum):
    """How a paid text that is not a golden one relates to the expected answer, worst first."""

    NO_ANSWER = "no_answer"  # the expected answer does not stand in it
    SEVERAL_ANSWERS = "several_answers"  # it does, beside others that the golden completion does not hold
    OTHER_FORM = "other_form"  # only the expected answer, in a form that no golden completion has


class Golden(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One reviewed completion. `completion` is a string, except in the family non_strings."""

    id: str
    expected_answer: Any
    completion: Any
    kind: Kind = Kind.CORRECT
    family: str = "golden"
    prompt: str = ""
    code: str | None = None
    note: str | None = None


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One question to the scorer. Every one of `marks` stays in the text when it is shrunk: they are the attack."""

    family: str
    attack: str
    example: Example
    completion: Any
    marks: tuple[str, ...] = ()
    contested: str | None = None


class Slot(msgspec.Struct, frozen=True):
    """A golden text cut around its expected answer. `integer`: the answer is a whole number in canonical digits."""

    before: str
    answer: str
    after: str
    integer: bool


class Known(msgspec.Struct, frozen=True):
    """The texts that are right or contested, by expected answer. `allowed` are families that the person accepts."""

    right: dict[str, frozenset[str]]
    contested: dict[str, frozenset[str]]
    shapes: dict[str, frozenset[str]]
    allowed: frozenset[str]

    def contested_as(self, example: Example, completion: Any, family: str = "", attack: str = "") -> str | None:
        """Name the choice of the scorer's author that decides this text, or None where there is none to make."""
        answer = answer_key(example.expected_answer)
        if family in self.allowed or f"{family}.{attack}" in self.allowed:
            return "allowed"
        if not isinstance(completion, str):
            return None
        if completion in self.contested.get(answer, ()):
            return "golden"
        shapes = self.shapes.get(answer, frozenset())
        if _shape(completion) in shapes:
            return "crlf" if "\r" in completion else "padding"
        period = completion.endswith(".") and not completion[:-1].endswith((" ", "\n", "\t"))
        return "punctuation" if period and _shape(completion[:-1]) in shapes else None

    def is_right(self, example: Example, completion: Any) -> bool:
        return isinstance(completion, str) and completion in self.right.get(
            answer_key(example.expected_answer), frozenset()
        )


def answer_key(answer: Any) -> str:
    """Return the text that an answer is told by; equal for an integer and its decimal string."""
    digits = answer_digits(answer)
    return digits if digits is not None else answer if isinstance(answer, str) else repr(answer)


def know(goldens: Iterable[Golden], allowed: frozenset[str] = frozenset()) -> Known:
    """Return what goldens say about texts."""
    right: dict[str, set[str]] = {}
    contested: dict[str, set[str]] = {}
    for golden in goldens:
        if golden.kind is not Kind.EXPLOIT and isinstance(golden.completion, str):
            texts = right if golden.kind is Kind.CORRECT else contested
            texts.setdefault(answer_key(golden.expected_answer), set()).add(golden.completion)
    return Known(
        {answer: frozenset(texts) for answer, texts in right.items()},
        {answer: frozenset(texts) for answer, texts in contested.items()},
        {answer: frozenset(map(_shape, texts)) for answer, texts in right.items()},
        allowed,
    )


def slot_of(golden: Golden) -> Slot | None:
    """Cut a golden text at the last place where its expected answer stands whole; None where it stands nowhere."""
    text, answer = golden.completion, answer_key(golden.expected_answer)
    if not isinstance(text, str) or not answer:
        return None
    integer = answer_digits(golden.expected_answer) is not None
    at = len(text)
    while (at := text.rfind(answer, 0, at + len(answer) - 1 if at < len(text) else at)) >= 0:
        end = at + len(answer)
        whole = not integer or not (text[end : end + 1].isdecimal() or text[max(at - 1, 0) : at].isdecimal())
        signed = integer and not answer.startswith("-") and text[max(at - 1, 0) : at] == "-"
        if whole and not signed:
            return Slot(text[:at], answer, text[end:], integer)
        if at == 0:
            break
    return None


def numbers_in(text: str) -> set[str]:
    """Return the whole numbers that a generous reader sees: digits of any script, a plain `-` directly before them."""
    if not text.isascii():
        text = "".join(map(_as_ascii_digit, text))
    return set(re.findall("-?[0-9]+", text))


def reading(example: Example, completion: str, golden: str) -> Reading:
    """Say how a text that is not `golden` relates to the expected answer."""
    answer = answer_key(example.expected_answer)
    if answer_digits(example.expected_answer) is None:
        return Reading.OTHER_FORM if answer in completion else Reading.NO_ANSWER
    numbers = numbers_in(completion)
    if answer not in numbers:
        return Reading.NO_ANSWER
    return Reading.SEVERAL_ANSWERS if numbers - numbers_in(golden) - {answer} else Reading.OTHER_FORM


def _as_ascii_digit(character: str) -> str:
    value = unicodedata.digit(character, None)
    return character if value is None else str(value)


def _shape(text: str) -> str:
    """Return a text without what careful people disagree about: runs of ASCII white space, and a BOM at the start."""
    text = text.replace("\r\n", "\n").rstrip("\r").removeprefix("\ufeff")
    return re.sub(r"(?<=[:#={(\[]) | (?=[})\]])", "", re.sub(r"[ \t\n]+", " ", text).strip(" "))
