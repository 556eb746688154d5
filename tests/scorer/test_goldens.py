"""The golden completions of final-int: reviewed data that the scorer must agree with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lockedroom.jsonl import read_batches
from lockedroom.records import Example, Outcome
from lockedroom.scorer import permissive
from lockedroom.scorer.final_int import SPEC, accepted, accepts, score

FOLDER = Path(__file__).parent.parent / "goldens" / "final-int"
FILES = ("correct.jsonl", "exploits.jsonl", "contested.jsonl")
OUTCOMES = {code.name: code.outcome for code in SPEC.codes}

# Every family of attacks that the audit must cover.
FAMILIES = {
    "unicode_digits", "minus_look_alikes", "int_laxness", "whitespace", "line_breaks", "invisible_characters",
    "prefix_look_alikes", "literal_format", "anchoring", "hedging", "number_syntax", "numeric_comparison",
    "truncation_windows", "nul", "denial_of_service", "non_strings", "lone_surrogates", "prompt_echo",
    "template_layers", "judge_bait", "injection", "special_tokens", "empty",
}  # fmt: skip


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One reviewed case; `completion` is a string except in the family non_strings, where it is any JSON value."""

    id: str
    family: str
    prompt: str
    expected_answer: int | str
    completion: Any
    code: str
    note: str | None = None


def goldens(name: str) -> list[Golden]:
    return [row for batch in read_batches(FOLDER / name, Golden) for row in batch.rows]


def example_of(golden: Golden) -> Example:
    return Example(id=golden.id, prompt=golden.prompt, expected_answer=golden.expected_answer)


def everything() -> Iterator[Golden]:
    for name in FILES:
        yield from goldens(name)


@pytest.mark.parametrize("name", FILES)
def test_every_golden_gets_the_code_its_reviewer_wrote(name: str) -> None:
    for golden in goldens(name):
        result = score(example_of(golden), golden.completion)
        assert result.details.code == golden.code, golden.id
        assert result.reward == (golden.code == "ok"), golden.id


def test_at_least_thirty_golden_correct_completions_all_pay() -> None:
    correct = goldens("correct.jsonl")
    assert len(correct) >= 30
    assert {golden.code for golden in correct} == {"ok"}
    assert len({str(golden.expected_answer) for golden in correct}) >= 20


def test_at_least_three_hundred_golden_exploits_none_pays() -> None:
    exploits = goldens("exploits.jsonl")
    assert len(exploits) >= 300
    assert all(OUTCOMES[golden.code] is not Outcome.CORRECT for golden in exploits)


def test_the_exploits_cover_every_family_with_several_cases() -> None:
    counts = Counter(golden.family for golden in goldens("exploits.jsonl"))
    assert set(counts) == FAMILIES
    assert min(counts.values()) >= 10


def test_the_goldens_reach_every_code_but_that_of_an_answer_no_dataset_may_hold() -> None:
    assert {golden.code for golden in everything()} == set(OUTCOMES) - {"unjudgeable_answer"}


def test_no_case_is_listed_twice() -> None:
    cases = Counter((repr(golden.expected_answer), repr(golden.completion)) for golden in everything())
    assert [case for case, times in cases.items() if times > 1] == []
    for name in FILES:
        ids = Counter(golden.id for golden in goldens(name))
        assert max(ids.values()) == 1


@pytest.mark.parametrize("name", FILES)
def test_invisible_characters_are_written_as_escapes(name: str) -> None:
    raw = (FOLDER / name).read_bytes()
    assert raw.isascii()
    assert raw.endswith(b"\n")
    assert all(byte == 0x0A or 0x20 <= byte < 0x7F for byte in set(raw))


def test_only_the_family_of_non_strings_holds_non_strings() -> None:
    assert {golden.family for golden in everything() if not isinstance(golden.completion, str)} == {"non_strings"}


def test_every_golden_can_be_judged() -> None:
    assert all(accepts(golden.expected_answer) for golden in everything())


def test_a_golden_correct_completion_is_paid_for_its_own_answer_only() -> None:
    correct = goldens("correct.jsonl")
    for golden in correct:
        for other in correct:
            paid = score(example_of(other), golden.completion).reward == 1.0
            assert paid == (str(other.expected_answer) == str(golden.expected_answer))
            assert paid == (golden.completion in accepted(example_of(other)))


def test_every_contested_case_says_what_is_contested() -> None:
    assert all(golden.note for golden in goldens("contested.jsonl"))


def test_the_foil_is_paid_for_hundreds_of_the_exploits() -> None:
    exploits = goldens("exploits.jsonl")
    paid = [golden for golden in exploits if permissive.score(example_of(golden), golden.completion).reward == 1.0]
    assert len(paid) > 300
    assert "hedging" in {golden.family for golden in paid}
