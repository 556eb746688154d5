r"""`final-int`, version 1: the last word of a completion is one integer, in one exact form.

A completion is judged only if it is exactly in the language

    Final: (0|-?[1-9][0-9]*)        then at most one newline, "\n"

in ASCII. Nothing is stripped, folded, repaired or converted. It is correct if those digits are the canonical decimal
digits of the example's answer; strings are compared, so a million digits are as safe as one.

`score` returns the first code of `SPEC.codes` that fits, in that order. It is total: every `str` has a verdict, and so
has anything else a caller passes by mistake. Only `ok` pays.
"""

from __future__ import annotations

import re
from typing import Any

from lockedroom.records import Code, Details, Example, Outcome, Score, ScorerSpec
from lockedroom.scorer.decimal_text import decimal_string
from lockedroom.scorer.judgeable import answer_digits, plain_text

PREFIX = "Final: "

# Written out, because what `str.splitlines` and `str.isspace` take for a break or a space depends on Python's Unicode.
LINE_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
WHITESPACE = " \t\x1f\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"

# Up to here one regex search is quicker than one search per line break; beyond, those run at memory speed.
SHORT = 100

# Name, outcome, the message in every record, and the meaning. "The rest" is what follows the prefix "Final: ".
_TABLE = (
    ("unjudgeable_answer", Outcome.MALFORMED, "the expected answer is not an integer",
     "the example's expected answer is not one that `accepts` accepts (a dataset with such a row does not load)"),
    ("not_text", Outcome.MALFORMED, "the completion is not text",
     "the completion is not a `str` (bytes, None, a number)"),
    ("empty", Outcome.MALFORMED, "the completion is empty",
     "no character at all, or one newline only"),
    ("not_single_line", Outcome.MALFORMED, "the completion is not one line",
     "a line break (LF, CR, VT, FF, FS, GS, RS, NEL, U+2028, U+2029) anywhere but one LF at the very end"),
    ("missing_prefix", Outcome.MALFORMED, "it does not start with 'Final: '",
     "does not start with the seven characters `Final: ` (the last one is a space)"),
    ("extra_whitespace", Outcome.MALFORMED, "whitespace around the integer",
     "the rest starts or ends with whitespace (ASCII or Unicode)"),
    ("missing_integer", Outcome.MALFORMED, "no digit 0-9 after 'Final: '",
     "the rest holds none of the digits 0 to 9"),
    ("plus_sign", Outcome.MALFORMED, "the integer has a plus sign",
     "the rest starts with `+`"),
    ("leading_zeros", Outcome.MALFORMED, "the integer has leading zeros",
     "the rest starts, after at most one `-`, with `0` and another digit 0 to 9"),
    ("negative_zero", Outcome.MALFORMED, "zero has a minus sign",
     "the rest starts with `-0`"),
    ("non_digit_characters", Outcome.MALFORMED, "the integer holds other characters",
     "the rest, up to its first whitespace, is not an integer of the language"),
    ("trailing_text", Outcome.MALFORMED, "text after the integer",
     "an integer of the language, then whitespace and more text"),
    ("wrong_answer", Outcome.WRONG, "a different integer",
     "in the language, but the integer is not the expected one"),
    ("ok", Outcome.CORRECT, "the expected integer",
     "in the language, and the integer is the expected one"),
)  # fmt: skip

SPEC = ScorerSpec(
    name="final-int",
    version=1,
    codes=tuple(
        Code(name, outcome, meaning, float(outcome is Outcome.CORRECT)) for name, outcome, _, meaning in _TABLE
    ),
)

_CORRECT, _WRONG = Outcome.CORRECT, Outcome.WRONG
_MESSAGES = {name: message for name, _, message, _ in _TABLE}
_OK_MESSAGE, _WRONG_MESSAGE = _MESSAGES["ok"], _MESSAGES["wrong_answer"]
_MALFORMED = {
    name: Score(0.0, Details(name, outcome, None, message))
    for name, outcome, message, _ in _TABLE
    if outcome is Outcome.MALFORMED
}

_is_integer = re.compile("0|-?[1-9][0-9]*").fullmatch
_integer_then_whitespace = re.compile(f"(?:0|-?[1-9][0-9]*)[{WHITESPACE}]").match
_leading_zero = re.compile("-?0[0-9]").match
_any_line_break = re.compile(f"[{LINE_BREAKS}]").search
_any_digit = re.compile("[0-9]").search
_is_beginning = re.compile(f"{PREFIX}(?:-|(?:0|-?[1-9][0-9]*)\n?)?").fullmatch


def accepts(expected_answer: Any) -> bool:
    """Say whether an answer can be judged: an integer of any size, or its canonical decimal string."""
    return type(expected_answer) is int or answer_digits(expected_answer) is not None


def accepted(example: Example) -> tuple[str, ...]:
    """Return every completion that earns reward 1: without and with the newline; none for an unjudgeable answer."""
    digits = answer_digits(example.expected_answer)
    return () if digits is None else (PREFIX + digits, PREFIX + digits + "\n")


def viable(prefix: str) -> bool:
    """Say whether some text that starts with `prefix` is in the language (right or wrong)."""
    text = plain_text(prefix)
    return text is not None and (PREFIX.startswith(text) or _is_beginning(text) is not None)


def score(example: Example, completion: str) -> Score:
    """Return reward 1.0 if the completion is one of `accepted(example)` and else 0.0, with the first code that fits.

    `parsed` is the integer's digits for a completion in the language, else None.
    """
    answer = example.expected_answer
    digits: str | None
    if type(answer) is int:
        try:
            digits = str(answer)
        except ValueError:  # more digits than Python converts
            digits = decimal_string(answer)
    else:
        digits = answer_digits(answer)
    if digits is None:
        return _MALFORMED["unjudgeable_answer"]
    text = completion if type(completion) is str else plain_text(completion)
    if text is None:
        return _MALFORMED["not_text"]
    target = PREFIX + digits
    if text == target or text == target + "\n":  # the second string is built only when needed
        return Score(1.0, Details("ok", _CORRECT, digits, _OK_MESSAGE))
    body = text.removesuffix("\n")
    if body.startswith(PREFIX):
        found = body[len(PREFIX) :]
        if _is_integer(found):
            return Score(0.0, Details("wrong_answer", _WRONG, found, _WRONG_MESSAGE))
    return _MALFORMED[_malformed_code(body)]


def _holds_line_break(body: str) -> bool:
    if len(body) < SHORT:
        return _any_line_break(body) is not None
    return any(map(body.__contains__, LINE_BREAKS))


def _malformed_code(body: str) -> str:
    """Return the first code that fits a body outside the language (the completion less one newline at its end)."""
    if not body:
        return "empty"
    if _holds_line_break(body):
        return "not_single_line"
    if not body.startswith(PREFIX):
        return "missing_prefix"
    rest = body[len(PREFIX) :]
    if rest and (rest[0] in WHITESPACE or rest[-1] in WHITESPACE):
        return "extra_whitespace"
    if not _any_digit(rest):
        return "missing_integer"
    if rest.startswith("+"):
        return "plus_sign"
    if _leading_zero(rest):
        return "leading_zeros"
    if rest.startswith("-0"):
        return "negative_zero"
    if not _integer_then_whitespace(rest):
        return "non_digit_characters"
    return "trailing_text"
