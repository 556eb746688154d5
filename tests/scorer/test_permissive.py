"""permissive pays for the expected number anywhere: the foil that shows what a loose reward invites."""

from __future__ import annotations

import random
import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockedroom.records import Example, Outcome, Score
from lockedroom.scorer.permissive import SPEC, accepts, score

OUTCOMES = {code.name: code.outcome for code in SPEC.codes}


def ask(expected_answer: Any, completion: Any) -> Score:
    return score(Example(id="x", prompt="p", expected_answer=expected_answer), completion)


def numbers(text: str) -> list[str]:
    """Return the numbers of a text, character by character: shares nothing with the scorer's regex."""
    found, run, before = [], "", ""
    for character in text + " ":
        if len(character.encode("utf-8", "surrogatepass")) == 1 and "0" <= character <= "9":
            run += character
            continue
        if run:
            found.append(before + run)
        run, before = "", "-" if character == "-" else ""
    return found


@pytest.mark.parametrize(
    "completion",
    [
        "42",
        "Final: 42",
        "The answer is 42.",
        "41 or 42",
        "not 42",
        "1.42",
        "+42",
        "$42%",
        "x42y",
        "41\n42\n43",
        "\u066442",
        "42\u200b",
        "42\udc80",
        "What is 42 + 0?",
        " ".join(map(str, range(101))),
    ],
)
def test_the_expected_number_is_paid_wherever_it_stands(completion: str) -> None:
    result = ask(42, completion)
    assert (result.reward, result.details.code, result.details.parsed) == (1.0, "ok", "42")


@pytest.mark.parametrize(
    ("completion", "first"),
    [
        ("041", "041"),
        ("042", "042"),
        ("420 142 4242", "420"),
        ("-42", "-42"),
        ("4-42", "4"),
        ("4 2", "4"),
        ("4\u066242x2", "4"),
    ],
)
def test_another_number_is_wrong_and_the_first_one_is_shown(completion: str, first: str) -> None:
    expected = 42 if "42x" not in completion else 2_000
    result = ask(expected, completion)
    assert (result.reward, result.details.code, result.details.parsed) == (0.0, "wrong_answer", first)


@pytest.mark.parametrize("completion", ["-7", "3-7", "--7", "\u2212-7", "Final: -7."])
def test_a_minus_directly_before_the_digits_belongs_to_the_number(completion: str) -> None:
    assert ask(-7, completion).reward == 1.0
    assert ask(7, completion).reward == 0.0


@pytest.mark.parametrize("completion", ["", "\n", "none", "\u0664\u0662", "\uff14\uff12", "\u00b2", "-", "\ud800"])
def test_text_without_an_ascii_digit_is_malformed(completion: str) -> None:
    result = ask(42, completion)
    assert (result.reward, result.details.code, result.details.parsed) == (0.0, "no_number", None)


@pytest.mark.parametrize("completion", [None, 42, b"42", True, ["42"], object()])
def test_what_is_not_text_is_malformed_and_raises_nothing(completion: Any) -> None:
    assert ask(42, completion).details.code == "not_text"


@pytest.mark.parametrize("answer", [None, True, 4.0, "abc", "042", "-0", [42]])
def test_an_answer_that_is_not_an_integer_is_refused_and_never_paid(answer: Any) -> None:
    assert not accepts(answer)
    result = ask(answer, "abc 042 42 -0 1 True")
    assert (result.reward, result.details.code) == (0.0, "unjudgeable_answer")


@pytest.mark.parametrize("answer", [0, -7, "42", 10**5_000, "9" * 5_000], ids=["0", "-7", "text", "10**5000", "9..."])
def test_an_integer_or_its_canonical_string_is_accepted(answer: Any) -> None:
    assert accepts(answer) is True


def test_an_integer_of_any_size_is_found() -> None:
    assert ask(10**5_000, "it is 1" + "0" * 5_000 + "!").reward == 1.0
    assert ask(10**5_000, "it is 1" + "0" * 4_999 + "!").reward == 0.0
    assert ask(10**1_000_000, "it is 1" + "0" * 1_000_000).reward == 1.0


@pytest.mark.parametrize(
    ("answer", "completion"),
    [
        (11, "1" * 10_000_000),
        ("1" * 100_000, "1" * 10_000_000),
        (7, "-" * 10_000_000 + "1"),
        (42, "142 " * 250_000),
        (42, "-42 " * 250_000),
        (7, "\u2028" * 5_000_000 + "1"),
    ],
    ids=["digits", "digits and a long answer", "minuses", "near misses", "negatives", "line separators"],
)
def test_long_text_without_the_number_is_wrong(answer: int | str, completion: str) -> None:
    assert ask(answer, completion).details.code == "wrong_answer"


texts = st.text(st.characters()) | st.text(st.sampled_from("0127-+. \n\u0662\ud800"))


@given(texts, st.integers() | st.integers(-200, 200).map(str))
def test_the_verdict_is_that_of_an_independent_reading(text: str, answer: int | str) -> None:
    result = ask(answer, text)
    seen = numbers(text)
    code = "no_number" if not seen else "ok" if str(answer) in seen else "wrong_answer"
    assert result.details.code == code
    assert result.reward == (code == "ok")
    assert result.details.outcome is OUTCOMES[code]
    assert result.details.parsed == (str(answer) if code == "ok" else seen[0] if seen else None)
    assert ask(answer, text) == result


def walked(digits: str, text: str) -> str:
    """Return the code that a walk over all numbers gives."""
    seen = re.findall("-?[0-9]+", text)
    return "no_number" if not seen else "ok" if digits in seen else "wrong_answer"


def test_looking_for_the_answer_alone_gives_the_verdicts_of_a_walk_over_all_numbers() -> None:
    rng = random.Random(20261123)
    codes: Counter[str] = Counter()
    for _ in range(60_000):
        text = "".join(rng.choices("0117--x \u0661", k=rng.randrange(14)))
        digits = rng.choice(("0", "1", "7", "11", "17", "111", "1111", "-1", "-7", "-11", "-171"))
        code = ask(digits, text).details.code
        assert code == walked(digits, text), (digits, text)
        codes[code] += 1
    assert min(codes.values()) > 1_000


def test_only_ok_is_correct() -> None:
    assert [name for name, outcome in OUTCOMES.items() if outcome is Outcome.CORRECT] == ["ok"]
