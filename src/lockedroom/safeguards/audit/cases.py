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
from lockedroom.safeguards.audit.characters import MINUS_LOOK_ALIKES
from lockedroom.safeguards.audit.decimals import decimal_of, told_alike
from lockedroom.safeguards.audit.grammar import Grammar
from lockedroom.safeguards.audit.structured import spellings
from lockedroom.scorer.judgeable import answer_digits

# A minus behind a digit is a dash.
_NUMBER = re.compile("(?<![0-9])(-)([0-9]+)|()([0-9]+)")


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
    """The texts that are right or contested, by expected answer. `allowed` are families that the person accepts.

    With a grammar, every text in it is right.
    """

    right: dict[str, frozenset[str]]
    contested: dict[str, frozenset[str]]
    shapes: dict[str, frozenset[str]]
    allowed: frozenset[str]
    grammar: Grammar | None = None

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
        if period and _shape(completion[:-1]) in shapes:
            return "punctuation"
        if decimal_of(example.expected_answer) is None:
            return None
        alike = (told_alike(_shape(completion), shape) for shape in sorted(shapes))
        return next((choice for choice in alike if choice is not None), None)

    def is_right(self, example: Example, completion: Any) -> bool:
        if not isinstance(completion, str):
            return False
        answer = answer_key(example.expected_answer)
        return completion in self.right.get(answer, frozenset()) or self.in_grammar(example, completion)

    def in_grammar(self, example: Example, completion: Any) -> bool:
        """Say whether there is a grammar, and the text is in it."""
        if self.grammar is None or not isinstance(completion, str):
            return False
        digits = answer_digits(example.expected_answer)
        return self.grammar.accepts(spellings(example.expected_answer) if digits is None else (digits,), completion)


def answer_key(answer: Any) -> str:
    """Return the text that an answer is told by; equal for an integer and its decimal string."""
    digits = answer_digits(answer)
    return digits if digits is not None else answer if isinstance(answer, str) else repr(answer)


def know(goldens: Iterable[Golden], allowed: frozenset[str] = frozenset(), grammar: Grammar | None = None) -> Known:
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
        grammar,
    )


def slot_of(golden: Golden) -> Slot | None:
    """Cut a golden text at the last place where its expected answer stands whole; None where it stands nowhere."""
    text, answer = golden.completion, golden.expected_answer
    if not isinstance(text, str):
        return None
    digits = answer_digits(answer)
    if digits is not None:
        return _cut(text, digits, integer=True)
    slots = (_cut(text, spelled, integer=False) for spelled in spellings(answer))
    return next((slot for slot in slots if slot is not None), None)


def _cut(text: str, answer: str, *, integer: bool) -> Slot | None:
    at = len(text) if answer else -1
    while at > 0 and (at := text.rfind(answer, 0, at + len(answer) - 1)) >= 0:
        end = at + len(answer)
        whole = not integer or not (text[end : end + 1].isdecimal() or text[max(at - 1, 0) : at].isdecimal())
        signed = integer and not answer.startswith("-") and text[max(at - 1, 0) : at] == "-"
        if whole and not signed:
            return Slot(text[:at], answer, text[end:], integer)
    return None


def numbers_in(text: str) -> set[str]:
    """Return the whole numbers that a generous reader sees, in canonical digits.

    Digits of any script count, a minus or what looks like one directly before them, and no character that does not show.
    """
    if not text.isascii():
        text = "".join(map(_as_seen, text))
    return {_canonical(minus, negative or digits) for minus, negative, _, digits in _NUMBER.findall(text)}


def reading(example: Example, completion: str, golden: str) -> Reading:
    """Say how a text that is not `golden` relates to the expected answer."""
    answer = answer_key(example.expected_answer)
    if answer_digits(example.expected_answer) is None:
        told = [spelled for spelled in spellings(example.expected_answer) if spelled in golden] or [golden]
        return Reading.OTHER_FORM if any(spelled in completion for spelled in told) else Reading.NO_ANSWER
    numbers = numbers_in(completion)
    if answer not in numbers:
        return Reading.NO_ANSWER
    return Reading.SEVERAL_ANSWERS if numbers - numbers_in(golden) - {answer} else Reading.OTHER_FORM


def _as_seen(character: str) -> str:
    value = unicodedata.digit(character, None)
    if value is not None:
        return str(value)
    if character in MINUS_LOOK_ALIKES and not character.isascii():
        return "-"
    return "" if unicodedata.category(character) in ("Cf", "Mn") else character


def _canonical(sign: str, digits: str) -> str:
    digits = digits.lstrip("0")
    return sign + digits if digits else "0"


def _shape(text: str) -> str:
    """Return a text without what careful people disagree about: runs of ASCII white space, and a BOM at the start."""
    text = re.sub(r"[ \t\r\n]+", " ", text.removeprefix("\ufeff")).strip(" ")
    return re.sub(r"(?<=[:#={(\[,]) | (?=[})\]])|(?<=[\"0-9})\]]) (?=[:,])", "", text)
