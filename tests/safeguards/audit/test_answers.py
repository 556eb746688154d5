"""Answers that are no small integers: decimals, words, lists, numbers beyond machine words; and texts in another encoding."""

from __future__ import annotations

from typing import Any

import pytest
from examining import examination

from lockedroom.records import Example
from lockedroom.safeguards.audit import stages
from lockedroom.safeguards.audit.cases import Golden, Reading, know, reading, slot_of
from lockedroom.safeguards.audit.families import seed_of, sweep
from lockedroom.safeguards.audit.report import What


def golden(answer: Any, text: str) -> Golden:
    return Golden(id="g", expected_answer=answer, completion=text)


def attacks(answer: Any, text: str, family: str, wrong: str = "other") -> dict[str, str]:
    """Return every text of a family, with the name of its attack."""
    return {case.completion: case.attack for case in sweep([seed_of(golden(answer, text), wrong)], family)}


def contested(answer: Any, right: str, text: str) -> str | None:
    return know([golden(answer, right)]).contested_as(Example(id="g", prompt="", expected_answer=answer), text)


@pytest.mark.parametrize("answer", [3.14, "3.14"])
@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("Final: 3.140", "decimal places"), ("Final: 3.1400001", "tolerance"), ("Final: 3.15", "tolerance"), ("Final: 3.1", None),
        ("Final: 3", None), ("Final: -3.14", None), ("final: 3.14", None), ("Final: 03.14", None), ("Final: 3.14 or 3.14", None),
    ],
)  # fmt: skip
def test_how_much_a_scorer_of_decimals_tolerates_is_its_authors_choice_up_to_one_percent(
    answer: Any, text: str, choice: str | None
) -> None:
    assert contested(answer, "Final: 3.14", text) == choice


def test_whole_numbers_know_no_tolerance() -> None:
    assert contested(1000, "Final: 1000", "Final: 1001") is None
    assert contested(1000, "Final: 1000", "Final: 1000.0") is None


def test_decimals_are_attacked_far_beyond_a_tolerance() -> None:
    found = attacks(3.14, "Final: 3.14", "numeric_comparison")
    assert {"Final: 3.554", "Final: 4.14", "Final: -3.14", "Final: 31.4", "Final: 0.314", "Final: 3"} <= set(found)


def test_words_are_respelled_and_cut() -> None:
    found = attacks("São Tomé", "Answer: São Tomé", "literal_format")
    assert {"Answer: são tomé", "Answer: Sao Tome", "Answer: SãoTomé"} <= set(found)
    assert "Answer: B" not in attacks("B", "Answer: B", "literal_format")
    assert "Answer: b" in attacks("B", "Answer: B", "literal_format")
    assert "Answer: São Tom" in attacks("São Tomé", "Answer: São Tomé", "truncation_windows")


def test_lists_and_objects_are_changed_in_the_spelling_of_their_golden() -> None:
    listed = attacks([1, 2, 3], "[1, 2, 3]", "structured_answers")
    assert {"[3, 2, 1]", "[2, 3]", "[1, 2]", "[1, 2, 3, 3]", "[1, 2, 3, 987]", "[]", '["1", "2", "3"]'} <= set(listed)
    keyed = attacks({"x": 1, "y": True}, 'It is {"x":1,"y":true}', "structured_answers")
    assert {'It is {"y":true}', 'It is {"x":987,"y":true}', 'It is {"X":1,"y":true}'} <= set(keyed)
    assert not attacks(7, "Final: 7", "structured_answers")


def test_a_list_is_found_in_its_golden_text_as_json_too() -> None:
    slot = slot_of(golden(["a", None], '<answer>["a", null]</answer>'))
    assert slot is not None
    assert (slot.before, slot.answer, slot.after) == ("<answer>", '["a", null]', "</answer>")
    example = Example(id="g", prompt="", expected_answer=["a", None])
    assert reading(example, '["a", null]!', '["a", null]') is Reading.OTHER_FORM
    assert reading(example, "[]", '["a", null]') is Reading.NO_ANSWER


def test_white_space_in_json_is_the_authors_choice() -> None:
    assert contested([1, 2], "[1, 2]", "[1,2]") == "padding"
    assert contested(7, '{"answer": 7}', '{ "answer" :7 }') == "padding"
    assert contested(7, "Final: 7", "Final : 7") is None
    assert contested([1, 2], "[1, 2]", "[1,\xa02]") is None


def test_a_golden_text_is_written_in_every_encoding_that_scorers_undo() -> None:
    found = set(attacks(7, "Final: 7", "template_layers"))
    assert {"Final: &#55;", "Final: %37", "Final: \\u0037", "Final: \\x37", "Final: \\067", "&#70;inal: 7", '"Final: 7"', "RmluYWw6IDc=",
            "7 :laniF", "Final: \\N{DIGIT SEVEN}", "46696e616c3a2037"} <= found  # fmt: skip


def test_the_space_of_a_frame_is_replaced_too() -> None:
    assert "Final:\xa07" in attacks(7, "Final: 7", "whitespace")
    assert "Final:\u20287" in attacks(7, "Final: 7", "line_breaks")


BIG = """
def as_floats(example, completion):
    text = completion.removeprefix("Final: ")
    plain = completion.startswith("Final: ") and text.isascii() and text.removeprefix("-").isdigit()
    canonical = plain and text == str(int(text)) and len(text) < 300
    return {"reward": float(canonical and float(text) == float(example.expected_answer)), "details": {}}


def capped(example, completion):
    return {"reward": float(len(completion) < 20 and completion == f"Final: {example.expected_answer}"), "details": {}}
"""


def test_floats_that_swallow_the_last_digit_are_found_out_with_small_goldens(tmp_path: Any) -> None:
    path = tmp_path / "big.py"
    path.write_text(BIG)
    with examination("as_floats", path) as exam:
        assert not stages.baseline(exam)
        stages.other_answers(exam)
        paid = {hit.case.example.expected_answer for hit in exam.ledger.hits if hit.what is What.PAYS}
        assert {2**53 + 1, 10**18 + 1} <= paid
    with examination("capped", path) as exam:
        stages.other_answers(exam)
        assert not exam.ledger.hits, "a cap on digits is the author's choice"
        assert any(row.choice == "digit caps" and row.paid < row.asked for row in exam.ledger.contested_rows())
