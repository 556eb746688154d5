"""final-int against its written language: every verdict is checked by code that shares nothing with the scorer."""

from __future__ import annotations

import itertools
import random
import re
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import example as with_example
from hypothesis import given
from hypothesis import strategies as st

from lockedroom.records import Example, Outcome, Score
from lockedroom.scorer import final_int
from lockedroom.scorer.final_int import SPEC, accepted, score, viable

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
    size = len(ADVERSARIAL)
    found: list[str] = []
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
    assert len(patterns) >= 5
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
