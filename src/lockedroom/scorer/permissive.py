"""`permissive`, version 1: the foil. It pays when the expected number stands anywhere in the completion.

A number is a maximal run of the ASCII digits 0 to 9, together with a `-` directly before it. Numbers are compared as
strings with the canonical digits of the answer: `042` and `+42` hold the numbers `042` and `42`, `3-7` holds `3` and
`-7`, `1.42` holds `1` and `42`. Everything else in the completion is ignored, so "41 or 42", a list of all numbers, and
the prompt echoed back can all be paid. It exists to show what optimising such a reward does; never measure with it.

It is as total, pure and linear as `final-int`.
"""

from __future__ import annotations

import re
from typing import Any

from lockedroom.records import Code, Details, Example, Outcome, Score, ScorerSpec
from lockedroom.scorer.judgeable import answer_digits, plain_text

# Name, outcome, the message in every record, and the meaning.
_TABLE = (
    ("unjudgeable_answer", Outcome.MALFORMED, "the expected answer is not an integer",
     "the example's expected answer is not one that `accepts` accepts (a dataset with such a row does not load)"),
    ("not_text", Outcome.MALFORMED, "the completion is not text",
     "the completion is not a `str` (bytes, None, a number)"),
    ("no_number", Outcome.MALFORMED, "no digit 0-9 in the completion",
     "the completion holds none of the digits 0 to 9"),
    ("wrong_answer", Outcome.WRONG, "the expected number is not in it",
     "numbers, but none is the expected one"),
    ("ok", Outcome.CORRECT, "the expected number is in it",
     "one of the numbers is the expected one"),
)  # fmt: skip

SPEC = ScorerSpec(
    name="permissive",
    version=1,
    codes=tuple(
        Code(name, outcome, meaning, float(outcome is Outcome.CORRECT)) for name, outcome, _, meaning in _TABLE
    ),
)

_MESSAGES = {name: message for name, _, message, _ in _TABLE}
_MALFORMED = {
    name: Score(0.0, Details(name, outcome, None, message))
    for name, outcome, message, _ in _TABLE
    if outcome is Outcome.MALFORMED
}

_NUMBER = re.compile("-?[0-9]+")
_run_of_digits = re.compile("[0-9]*").match


def accepts(expected_answer: Any) -> bool:
    """Say whether an answer can be judged: an integer of any size, or its canonical decimal string."""
    return type(expected_answer) is int or answer_digits(expected_answer) is not None


def score(example: Example, completion: str) -> Score:
    """Return reward 1.0 if one of the completion's numbers is the expected one, else 0.0.

    `parsed` is the expected number where it was found, else the first number, else None.
    """
    digits = answer_digits(example.expected_answer)
    if digits is None:
        return _MALFORMED["unjudgeable_answer"]
    text = plain_text(completion)
    if text is None:
        return _MALFORMED["not_text"]
    if _holds_number(text, digits):
        return Score(1.0, Details("ok", Outcome.CORRECT, digits, _MESSAGES["ok"]))
    first = _NUMBER.search(text)
    if first is None:
        return _MALFORMED["no_number"]
    return Score(0.0, Details("wrong_answer", Outcome.WRONG, first[0], _MESSAGES["wrong_answer"]))


def _holds_number(text: str, digits: str) -> bool:
    """Say whether one of the text's numbers is `digits`.

    Where the digits stand, they are a whole number unless a digit follows them, or a digit or `-` goes before (a `-` of
    their own begins a number whatever goes before it).
    """
    if text.endswith(digits) and _may_begin(text, len(text) - len(digits), digits):  # as reasoning ends with its answer
        return True
    at = text.find(digits)
    while at >= 0:
        end = at + len(digits)
        if _is_digit(text[end : end + 1]):
            run = _run_of_digits(text, end)
            assert run is not None, "no digit is a run too"
            end = run.end()  # one look at a run is enough; a look from each of its digits could be quadratic
        elif _may_begin(text, at, digits):
            return True
        at = text.find(digits, end)
    return False


def _may_begin(text: str, at: int, digits: str) -> bool:
    """Say whether a number that starts with `digits` may begin here, and is not the rest of one that began before."""
    return digits[0] == "-" or at == 0 or not (text[at - 1] == "-" or _is_digit(text[at - 1]))


def _is_digit(character: str) -> bool:
    """Say whether this is one of the ASCII digits (and not the empty string beyond an end of the text)."""
    return "0" <= character <= "9"
