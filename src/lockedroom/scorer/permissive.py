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
    first = _NUMBER.search(text)
    if first is None:
        return _MALFORMED["no_number"]
    # The substring test spares the walk over the numbers of a long completion that cannot be right.
    if digits in text and any(number[0] == digits for number in _NUMBER.finditer(text, first.start())):
        return Score(1.0, Details("ok", Outcome.CORRECT, digits, _MESSAGES["ok"]))
    return Score(0.0, Details("wrong_answer", Outcome.WRONG, first[0], _MESSAGES["wrong_answer"]))
