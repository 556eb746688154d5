"""final-int where callers and completions misbehave: odd types, huge sizes, other processes; it never raises or pays."""

from __future__ import annotations

import decimal
import enum
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockedroom.records import Example, Score
from lockedroom.scorer.battery import BATTERY
from lockedroom.scorer.decimal_text import decimal_string
from lockedroom.scorer.final_int import accepted, accepts, score, viable


def ask(expected_answer: Any, completion: Any) -> Score:
    return score(Example(id="x", prompt="p", expected_answer=expected_answer), completion)


def code_of(completion: Any, expected_answer: Any = 42) -> str:
    return ask(expected_answer, completion).details.code


# --- values that are not what they should be -------------------------------------------------------------------------


class Trickster(str):
    """A str that says it equals everything, and lies about every method final-int could call."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    def __str__(self) -> str:
        return "Final: 42"

    def __radd__(self, other: str) -> str:
        return "Final: 42"

    def removesuffix(self, suffix: str, /) -> str:
        raise RuntimeError

    def startswith(self, *args: Any) -> bool:
        raise RuntimeError


class Impostor:
    """Claims to be a str or an int, and raises when compared or turned into text."""

    def __init__(self, claim: type) -> None:
        self.claim = claim

    @property  # type: ignore[misc]  # overriding __class__ with a property is the attack
    def __class__(self) -> type:
        return self.claim

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __str__(self) -> str:
        raise RuntimeError

    __hash__ = object.__hash__


class Number(int):
    def __str__(self) -> str:
        return "7"

    def __int__(self) -> int:
        return 7


class Level(enum.IntEnum):
    HIGH = 42


NOT_TEXT = [None, 42, 42.0, True, b"Final: 42", bytearray(b"Final: 42"), ["Final: 42"], object(), Impostor(str), str]


@pytest.mark.parametrize("completion", NOT_TEXT, ids=lambda value: type(value).__name__)
def test_what_is_not_text_is_malformed_and_raises_nothing(completion: Any) -> None:
    result = ask(42, completion)
    assert (result.reward, result.details.code) == (0.0, "not_text")
    assert not viable(completion)


def test_a_str_subclass_is_judged_by_its_real_characters() -> None:
    assert code_of(Trickster("Final: 41")) == "wrong_answer"
    assert code_of(Trickster("41")) == "missing_prefix"
    right = ask(42, Trickster("Final: 42"))
    assert right.reward == 1.0
    assert type(right.details.parsed) is str
    assert not viable(Trickster("x"))


UNJUDGEABLE = [
    None, True, False, 4.0, 42.0, float("nan"), "", "-", "+1", "007", "-0", "-07", "4 2", " 42", "42 ", "42\n", "4_2", "42.0",
    "abc", "\u0664\u0662", "\u00b2", "--4", "\ud800", "4\x00", [], [42], {"value": 42}, b"42", object(), Impostor(int),
    Impostor(str), int,
]  # fmt: skip


@pytest.mark.parametrize(
    "answer", UNJUDGEABLE, ids=[f"{at} {type(answer).__name__}" for at, answer in enumerate(UNJUDGEABLE)]
)
def test_an_answer_that_is_not_an_integer_is_refused_and_never_paid(answer: Any) -> None:
    assert not accepts(answer)
    assert accepted(Example(id="x", prompt="p", expected_answer=answer)) == ()
    for completion in ("Final: 42", "", f"Final: {answer if type(answer) is str else 42}"):
        result = ask(answer, completion)
        assert (result.reward, result.details.code) == (0.0, "unjudgeable_answer")


@pytest.mark.parametrize("answer", [0, 7, -7, 42, 10**40, "0", "7", "-7", "42", "9" * 5000, Level.HIGH])
def test_an_integer_or_its_canonical_string_is_accepted(answer: Any) -> None:
    assert accepts(answer) is True


def test_an_answer_of_a_subclass_is_taken_at_its_real_value() -> None:
    assert ask(Number(42), "Final: 42").reward == 1.0
    assert ask(Number(42), "Final: 7").reward == 0.0
    assert ask(Level.HIGH, "Final: 42").reward == 1.0
    assert ask(Trickster("41"), "Final: 42").details.code == "wrong_answer"
    assert ask(Trickster("abc"), "Final: 42").details.code == "unjudgeable_answer"


# --- size ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zeros", [4299, 4300, 5_000, 1_000_000])
@pytest.mark.parametrize("sign", ["", "-"])
def test_an_integer_of_any_size_is_judged_as_int_and_as_string(zeros: int, sign: str) -> None:
    digits = sign + "1" + "0" * zeros
    value = (-1 if sign else 1) * 10**zeros
    for answer in (value, digits):
        assert ask(answer, f"Final: {digits}").reward == 1.0
        assert code_of(f"Final: {digits}0", answer) == "wrong_answer"
        assert code_of(f"Final: {digits[:-1]}1", answer) == "wrong_answer"
        assert accepted(Example(id="x", prompt="p", expected_answer=answer))[0] == f"Final: {digits}"


def test_a_million_digits_are_read_as_wrong_not_refused() -> None:
    assert ask(42, "Final: " + "1" * 1_000_000).details.parsed == "1" * 1_000_000


@pytest.mark.parametrize(
    ("completion", "code"),
    [
        ("a" * 10_000_000, "missing_prefix"),
        ("\u2028" * 10_000_000, "not_single_line"),
        ("Final: " + " " * 10_000_000, "extra_whitespace"),
        ("Final: " + "a" * 10_000_000, "missing_integer"),
        ("Final: " + "+" * 10_000_000 + "1", "plus_sign"),
        ("Final: " + "0" * 10_000_000, "leading_zeros"),
        ("Final: " + "1" * 10_000_000 + "x", "non_digit_characters"),
        ("Final: 1 " + "1 " * 5_000_000 + "x", "trailing_text"),
        ("Final: 42" + " " * 200_000 + "x", "trailing_text"),
    ],
    ids=lambda value: value if len(value) < 30 else "10 MB",
)
def test_ten_megabytes_of_text_get_their_code(completion: str, code: str) -> None:
    assert code_of(completion) == code


@given(st.integers(0, 9_000), st.randoms(use_true_random=False))
def test_decimal_string_is_what_str_says_wherever_str_may_say_it(bits: int, rng: random.Random) -> None:
    for value in (rng.getrandbits(bits), 2**bits, 2**bits - 1, 10 ** (bits // 4)):
        assert decimal_string(value) == str(value)
        assert decimal_string(-value) == str(-value)


def test_decimal_string_neither_reads_nor_changes_the_callers_decimal_context() -> None:
    with decimal.localcontext() as context:
        context.prec, context.Emax, context.capitals = 3, 5, 0
        context.clear_flags()
        assert decimal_string(-(10**6_000)) == "-1" + "0" * 6_000
        assert (context.prec, context.Emax) == (3, 5)
        assert not any(context.flags.values())


# --- purity --------------------------------------------------------------------------------------------------------

FINGERPRINT = """
import sys
from lockedroom.records import Example
from lockedroom.scorer.battery import BATTERY
from lockedroom.scorer.builtin import find_builtin
from lockedroom.scorer.identity import fingerprint
found = find_builtin("final-int"), find_builtin("permissive")
big = Example(id="x", prompt="p", expected_answer=10**6000)
events = []
watching = False
sys.addaudithook(lambda event, args: watching and events.append(event))
watching = True
prints = [fingerprint([scorer.score(*pair) for pair in BATTERY]) for scorer in found]
paid = [scorer.score(big, "Final: 1" + "0" * 6000).reward for scorer in found]
odd = [scorer.score(big, None).reward for scorer in found]
watching = False
print(*prints, paid, odd, events)
"""


def in_subprocess(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", FINGERPRINT],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def test_scoring_opens_imports_and_starts_nothing() -> None:
    assert in_subprocess().endswith("[1.0, 1.0] [0.0, 0.0] []\n")  # the last list holds every audit event


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONHASHSEED": "1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0"},
        {"PYTHONINTMAXSTRDIGITS": "640"},
        {"PYTHONINTMAXSTRDIGITS": "0"},
        {"PYTHONOPTIMIZE": "2"},
    ],
    ids=str,
)
def test_verdicts_do_not_depend_on_the_process(environment: dict[str, str]) -> None:
    assert in_subprocess(**environment) == in_subprocess()


def test_verdicts_do_not_depend_on_threads_order_or_random_state() -> None:
    alone = [score(*pair) for pair in BATTERY]
    state = random.getstate()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda pair: score(*pair), BATTERY[::-1] * 20))
    assert together == alone[::-1] * 20
    assert random.getstate() == state
