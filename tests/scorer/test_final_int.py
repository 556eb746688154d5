"""final-int against its written language: every verdict is checked by code that shares nothing with the scorer."""

from __future__ import annotations

import decimal
import enum
import itertools
import os
import random
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from hypothesis import example as with_example
from hypothesis import given
from hypothesis import strategies as st

from lockedroom.records import Example, Outcome, Score
from lockedroom.scorer import final_int
from lockedroom.scorer.decimal_text import decimal_string
from lockedroom.scorer.final_int import SPEC, accepted, accepts, score, viable

CODES = tuple(code.name for code in SPEC.codes)
OUTCOMES = {code.name: code.outcome for code in SPEC.codes}
ADVERSARIAL = tuple(
    "0123456789+-_.,:;/eExFinal \n\r\t\v\f\x00\x1c\x1d\x1e\x1f\x85\xa0\u2028\u2029\u2003\u3000\u200b\ufeff\u202e"
    "\u2212\u0664\u0662\uff14\u00b2\U0001d7d2\u0456\ufb01\ud800\udc80"
)


def ask(expected_answer: Any, completion: Any) -> Score:
    return score(Example(id="x", prompt="p", expected_answer=expected_answer), completion)


def code_of(completion: Any, expected_answer: Any = 42) -> str:
    return ask(expected_answer, completion).details.code


# --- an independent statement of the language: a character automaton, no regex, no str methods -------------------

DEAD = "dead"
IN_LANGUAGE = ("zero", "digits", "end")


def run_automaton(text: str) -> tuple[str, str]:
    """Return the final state and the digits read."""
    state, digits = "prefix 0", ""
    for character in text:
        if state.startswith("prefix"):
            at = int(state[7:])
            state = DEAD if character != "Final: "[at] else "start" if at == 6 else f"prefix {at + 1}"
        elif character == "\n" and state in ("zero", "digits"):
            state = "end"
        else:
            digits += character
            if state == "start":
                state = "minus" if character == "-" else "zero" if character == "0" else _digit(character, "123456789")
            elif state == "minus":
                state = _digit(character, "123456789")
            elif state == "digits":
                state = _digit(character, "0123456789")
            else:
                state = DEAD
        if state == DEAD:
            return DEAD, ""
    return state, digits


def _digit(character: str, allowed: str) -> str:
    for one in allowed:
        if character == one:
            return "digits"
    return DEAD


# --- an independent statement of the codes: each predicate stands alone, the first true one is the code ----------

BREAKS = [0x0A, 0x0D, 0x0B, 0x0C, 0x1C, 0x1D, 0x1E, 0x85, 0x2028, 0x2029]
SPACES = [0x20, 0x09, 0x1F, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000]


def codes_that_fit(completion: str, digits: str) -> list[str]:
    """Return every code whose documented meaning fits, in the documented order."""
    body = completion[:-1] if completion[-1:] == "\n" else completion
    has_prefix = body[:7] == "Final: "
    rest = body[7:] if has_prefix else ""
    word = "".join(itertools.takewhile(lambda c: ord(c) not in SPACES, rest))
    unsigned = rest[1:] if rest[:1] == "-" else rest
    word_state, _ = run_automaton("Final: " + word)
    state, read = run_automaton(completion)
    language = state in IN_LANGUAGE
    fits = {
        "unjudgeable_answer": False,
        "not_text": False,
        "empty": body == "",
        "not_single_line": any(ord(c) in BREAKS for c in body),
        "missing_prefix": not has_prefix,
        "extra_whitespace": any(ord(c) in SPACES for c in rest[:1] + rest[-1:]),
        "missing_integer": not any(c in "0123456789" for c in rest),
        "plus_sign": rest[:1] == "+",
        "leading_zeros": unsigned[:1] == "0" and unsigned[1:2] != "" and unsigned[1:2] in "0123456789",
        "negative_zero": rest[:2] == "-0",
        "non_digit_characters": word_state not in ("zero", "digits"),
        "trailing_text": word_state in ("zero", "digits") and len(word) < len(rest),
        "wrong_answer": language and read != digits,
        "ok": language and read == digits,
    }
    assert tuple(fits) == CODES
    return [code for code, fit in fits.items() if fit]


def near_misses(seed: int, count: int) -> list[str]:
    """Return seeded mutants of right completions: one to three characters inserted, deleted, replaced or doubled."""
    rng = random.Random(seed).random
    seeds = ("Final: 42", "Final: 42\n", "Final: -7", "Final: 0", "Final: 1000000\n", "Final: 42 or 41", "42")
    size, found = len(ADVERSARIAL), []
    while len(found) < count:
        text = seeds[int(rng() * len(seeds))]
        for _ in range(1 + int(rng() * 3)):
            # favour the tail: the prefix is seven characters long and soon broken
            at = len(text) - int(rng() * rng() * (len(text) + 1))
            kind, new = rng(), ADVERSARIAL[int(rng() * size)]
            if kind < 0.4:
                text = text[:at] + new + text[at:]
            elif kind < 0.6:
                text = text[:at] + text[at + 1 :]
            elif kind < 0.9:
                text = text[:at] + new + text[at + 1 :]
            else:
                text = text[:at] + text[at - 1 :]
        found.append(text)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_a_quarter_million_near_misses_agree_with_the_independent_grammar(seed: int) -> None:
    asked = Example(id="x", prompt="p", expected_answer=42)
    paid = in_language = 0
    for text in near_misses(seed, 250_000):
        result = score(asked, text)
        state, digits = run_automaton(text)
        if state in IN_LANGUAGE:
            in_language += 1
            paid += digits == "42"
            assert result.details.parsed == digits
            assert result.details.code == ("ok" if digits == "42" else "wrong_answer"), ascii(text)
            assert result.reward == (digits == "42"), ascii(text)
        else:
            assert result.reward == 0.0, ascii(text)
            assert result.details.outcome is Outcome.MALFORMED, ascii(text)
    assert paid > 1_000  # the fuzzer reaches the language, and misses it
    assert 10_000 < in_language < 150_000


@pytest.mark.parametrize("seed", range(100, 104))
def test_the_code_is_the_first_that_fits_in_the_documented_order(seed: int) -> None:
    seen = set()
    for text in near_misses(seed, 25_000):
        expected = codes_that_fit(text, "42")[0]
        seen.add(expected)
        assert code_of(text) == expected, ascii(text)
    assert seen >= set(CODES) - {"unjudgeable_answer", "not_text"}


@pytest.mark.parametrize("answer", [0, 1, -1, 10])
def test_every_short_tail_over_an_adversarial_alphabet_agrees(answer: int) -> None:
    alphabet = "01-+ \n\r.\u0661x"
    for length in range(5):
        for tail in itertools.product(alphabet, repeat=length):
            text = "Final: " + "".join(tail)
            assert code_of(text, answer) == codes_that_fit(text, str(answer))[0], ascii(text)
            assert viable(text) == (run_automaton(text)[0] != DEAD), ascii(text)


def test_every_short_text_over_an_adversarial_alphabet_agrees() -> None:
    for length in range(6):
        for characters in itertools.product("Fi: 0\n\x00\u2028", repeat=length):
            text = "".join(characters)
            assert code_of(text) == codes_that_fit(text, "42")[0], ascii(text)
            assert viable(text) == (run_automaton(text)[0] != DEAD), ascii(text)


def test_every_single_character_after_before_and_inside_a_right_completion_costs_the_reward() -> None:
    for point in range(0x11000):
        character = chr(point)
        assert ask(42, "Final: 42" + character).reward == (character == "\n")
        assert ask(42, character + "Final: 42").reward == 0.0
        assert ask(42, "Final: 4" + character + "2").reward == 0.0
        assert ask(42, "Final:" + character + "42").reward == (character == " ")


def test_the_spelled_out_whitespace_and_line_breaks_are_those_of_this_python() -> None:
    every = [chr(point) for point in range(sys.maxunicode + 1)]
    breaks = {c for c in every if len(f"a{c}b".splitlines()) > 1}
    assert set(final_int.LINE_BREAKS) == breaks
    assert set(final_int.WHITESPACE) == {c for c in every if c.isspace()} - breaks


# --- codes by example ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("completion", "code"),
    [
        ("Final: 42", "ok"),
        ("Final: 42\n", "ok"),
        ("Final: 41", "wrong_answer"),
        ("", "empty"),
        ("\n", "empty"),
        ("\n\n", "not_single_line"),
        ("42", "missing_prefix"),
        (" Final: 42", "missing_prefix"),
        ("Final:42", "missing_prefix"),
        ("Final: 42 ", "extra_whitespace"),
        ("Final:  ", "extra_whitespace"),
        ("Final: ", "missing_integer"),
        ("Final: -", "missing_integer"),
        ("Final: \u0664\u0662", "missing_integer"),
        ("Final: +042", "plus_sign"),
        ("Final: -042", "leading_zeros"),
        ("Final: -00", "leading_zeros"),
        ("Final: -0", "negative_zero"),
        ("Final: 4\u0662", "non_digit_characters"),
        ("Final: 42.0", "non_digit_characters"),
        ("Final: x 42", "non_digit_characters"),
        ("Final: 42 or 41", "trailing_text"),
        ("Final: 42\u20030 x", "trailing_text"),
    ],
)
def test_a_completion_gets_its_code(completion: str, code: str) -> None:
    assert code_of(completion) == code


def test_only_ok_pays_and_it_pays_one() -> None:
    assert ask(42, "Final: 42").reward == 1.0
    assert [code.name for code in SPEC.codes if code.outcome is Outcome.CORRECT] == ["ok"]


def test_parsed_is_the_integer_seen_and_nothing_for_malformed_text() -> None:
    assert ask(42, "Final: 42\n").details.parsed == "42"
    assert ask(42, "Final: -7\n").details.parsed == "-7"
    assert ask(42, "Final: 042").details.parsed is None


def test_messages_are_short_plain_sentences() -> None:
    for completion in ("Final: 42", "Final: 1", *near_misses(1, 2_000)):
        message = ask(42, completion).details.message
        assert 0 < len(message) <= 45
        assert message.isascii()
        assert message.isprintable()


def test_a_malformed_verdict_is_one_shared_constant() -> None:
    assert ask(42, "Final: 42.") is ask(7, "Final: seven7")


def test_no_pattern_has_two_repeats_that_could_multiply() -> None:
    methods = [value for value in vars(final_int).values() if isinstance(getattr(value, "__self__", None), re.Pattern)]
    patterns: list[str] = [method.__self__.pattern for method in methods]
    assert len(patterns) == 5
    assert all(pattern.count("*") + pattern.count("+") <= 1 for pattern in patterns)


# --- properties ----------------------------------------------------------------------------------------------------

anything = st.text(st.characters()) | st.text(st.sampled_from(ADVERSARIAL)).map("Final: ".__add__)
answers = st.integers() | st.integers().map(str)


@given(anything, answers)
@with_example("Final: 7", "7")
def test_every_text_gets_a_declared_code_and_the_same_verdict_again(text: str, answer: int | str) -> None:
    example = Example(id="x", prompt="p", expected_answer=answer)
    before = msgspec.json.encode(example)
    first = score(example, text)
    assert first.details.outcome is OUTCOMES[first.details.code]
    assert first.reward == (first.details.code == "ok")
    assert score(example, text) == first
    assert msgspec.json.encode(example) == before
    assert first.details.code == codes_that_fit(text, str(answer))[0]


@given(answers)
def test_exactly_the_accepted_completions_are_paid(answer: int | str) -> None:
    example = Example(id="x", prompt="p", expected_answer=answer)
    assert accepted(example) == (f"Final: {answer}", f"Final: {answer}\n")
    assert all(score(example, text).reward == 1.0 for text in accepted(example))


@given(anything, answers)
def test_a_completion_is_paid_only_if_it_is_listed_as_accepted(text: str, answer: int | str) -> None:
    example = Example(id="x", prompt="p", expected_answer=answer)
    assert (score(example, text).reward == 1.0) == (text in accepted(example))


@given(st.integers(), st.integers())
def test_one_completion_is_never_paid_for_two_answers(one: int, other: int) -> None:
    assert (ask(other, f"Final: {one}").reward == 1.0) == (one == other)


@given(st.integers(), st.text(st.characters(), min_size=1))
def test_appended_text_never_keeps_the_reward_but_for_one_newline(answer: int, more: str) -> None:
    paid = ask(answer, f"Final: {answer}{more}").reward
    assert paid == (more == "\n")


@given(anything)
def test_viable_says_whether_the_language_can_still_be_reached(text: str) -> None:
    assert viable(text) == (run_automaton(text)[0] != DEAD)


@given(st.integers())
def test_every_beginning_of_a_right_completion_is_viable(answer: int) -> None:
    text = f"Final: {answer}\n"
    assert all(viable(text[:cut]) for cut in range(len(text) + 1))
    assert not viable(text + "\n")


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
    def __class__(self) -> type:  # type: ignore[override]
        return self.claim

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __str__(self) -> str:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]  # unhashable on purpose


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


@pytest.mark.parametrize("answer", UNJUDGEABLE, ids=ascii)
def test_an_answer_that_is_not_an_integer_is_refused_and_never_paid(answer: Any) -> None:
    assert not accepts(answer)
    assert accepted(Example(id="x", prompt="p", expected_answer=answer)) == ()
    for completion in ("Final: 42", "", f"Final: {answer if isinstance(answer, str) else 42}"):
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
    texts = near_misses(7, 5_000)
    alone = [ask(42, text) for text in texts]
    state = random.getstate()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda text: ask(42, text), reversed(texts)))
    assert together[::-1] == alone
    assert random.getstate() == state
