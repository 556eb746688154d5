"""How texts are read when the scorer is not trusted."""

from __future__ import annotations

from typing import Any

import pytest
from examining import goldens

from lockedroom.records import Example
from lockedroom.safeguards.audit.cases import Golden, Reading, Slot, know, numbers_in, reading, slot_of


def golden(answer: Any, text: str) -> Golden:
    return Golden(id="g", expected_answer=answer, completion=text)


def example(answer: Any) -> Example:
    return Example(id="g", prompt="", expected_answer=answer)


@pytest.mark.parametrize(
    ("answer", "text", "slot"),
    [
        (42, "Final: 42", Slot("Final: ", "42", "", True)),
        (42, "17 + 25 = 42\n#### 42.", Slot("17 + 25 = 42\n#### ", "42", ".", True)),
        (2, "12 and 22 and 2 apples", Slot("12 and 22 and ", "2", " apples", True)),
        (7, "Final: -7", None),
        (42, "Final: 142", None),
        ("yes", "Answer: yes!", Slot("Answer: ", "yes", "!", False)),
        (42, "no number", None),
        (0, "0", Slot("", "0", "", True)),
    ],
)
def test_a_golden_is_cut_at_the_last_place_where_its_answer_stands_whole(
    answer: Any, text: str, slot: Slot | None
) -> None:
    assert slot_of(golden(answer, text)) == slot


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Final: 43", Reading.NO_ANSWER),
        ("Final: 42 or 41", Reading.SEVERAL_ANSWERS),
        ("Final: \u0664\u0662", Reading.OTHER_FORM),
        ("it is 42", Reading.OTHER_FORM),
        ("Final: 042", Reading.OTHER_FORM),
        ("Final: 4\u00ad2", Reading.OTHER_FORM),
        ("Final: 42-43", Reading.SEVERAL_ANSWERS),
    ],
)
def test_a_text_is_read_against_the_expected_answer(text: str, expected: Reading) -> None:
    assert reading(example(42), text, "Final: 42") is expected


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("\u0664\u0662 and -7", {"42", "-7"}),
        ("Final: \ufe637", {"-7"}),
        ("-0 and 007", {"0", "7"}),
        ("4\u200b2", {"42"}),
        ("41-42 or 41\u201342", {"41", "42"}),
    ],
)
def test_a_generous_reader_sees_numbers_in_any_script_and_through_what_does_not_show(
    text: str, numbers: set[str]
) -> None:
    assert numbers_in(text) == numbers


def test_a_zero_with_a_minus_is_the_answer_zero_in_another_form() -> None:
    assert reading(example(0), '{"answer":-0}', '{"answer": 0}') is Reading.OTHER_FORM


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("Final: 7 ", "padding"), ("\nFinal: 7", "padding"), ("Final:7", "padding"), ("Final:  7", "padding"), ("Final: 7\r\n", "crlf"),
        ("\rFinal: 7", "crlf"), ("Final: \r7", "crlf"), ("Final: 7\x0b", None), ("Final: 7.", "punctuation"), ("Final: 7\u00a0", None), ("Fin al: 7", None), ("final: 7", None), ("Final: 8 ", None), ("Final: 7\n.", None),
    ],
)  # fmt: skip
def test_only_what_careful_people_disagree_about_is_contested(text: str, choice: str | None) -> None:
    assert know(goldens()).contested_as(example(7), text) == choice


def test_an_integer_and_its_decimal_string_are_one_answer() -> None:
    assert know(goldens()).is_right(example("7"), "Final: 7")
