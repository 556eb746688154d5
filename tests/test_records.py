"""The nouns refuse to be misread."""

from __future__ import annotations

import msgspec
import pytest

from lockedroom.jsonl import encode_lines
from lockedroom.records import (
    Completion,
    Details,
    Example,
    Failure,
    FailureCode,
    FinishReason,
    Outcome,
    Record,
    Score,
)

SCORE = Score(1.0, Details("ok", Outcome.CORRECT, "42", "the expected integer"))
FAILURE = Failure(FailureCode.SCORER_TIMEOUT, "no result within 5 seconds")


@pytest.mark.parametrize("member", [*Outcome, *FailureCode, *FinishReason])
def test_no_verdict_has_a_truth_value(member: Outcome | FailureCode | FinishReason) -> None:
    with pytest.raises(TypeError, match="compare it"):
        bool(member)


def test_a_failure_has_no_reward_to_average() -> None:
    assert not hasattr(FAILURE, "reward")


@pytest.mark.parametrize("result", [SCORE, FAILURE])
def test_a_record_survives_writing_and_reading(result: Score | Failure) -> None:
    record = Record("e1", 3, Completion("Final: 42", -1.5, -2.5, FinishReason.LENGTH, (1, 2), (-0.5, -1.0)), result)
    assert msgspec.json.decode(encode_lines([record]), type=Record) == record


@pytest.mark.parametrize(
    ("line", "trouble"),
    [
        (b'{"id":"a","draw":0,"completion":null,"result":{"type":"score","code":"x","message":""}}', "reward"),
        (b'{"id":"a","draw":0,"completion":null,"result":{"type":"guess"}}', "guess"),
        (b'{"id":"a","draw":0,"completion":null,"result":null}', "null"),
        (b'{"id":"a","draw":0,"completion":null,"result":{"type":"failure","code":"bad","message":""}}', "bad"),
        (b'{"id":"a","draw":0,"result":{"type":"failure","code":"policy_error","message":""}}', "completion"),
        (b'{"id":"a","draw":0,"completion":null,"reward":1,"result":null}', "reward"),
    ],
)
def test_a_record_that_is_neither_score_nor_failure_is_refused(line: bytes, trouble: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=trouble):
        msgspec.json.decode(line, type=Record)


@pytest.mark.parametrize(("struct", "field"), [(SCORE, "reward"), (FAILURE, "code"), (Completion("x"), "text")])
def test_the_nouns_cannot_be_changed(struct: msgspec.Struct, field: str) -> None:
    with pytest.raises(AttributeError):
        setattr(struct, field, None)


def test_an_example_takes_an_integer_of_any_size() -> None:
    example = Example(id="big", prompt="", expected_answer=10**4000)
    assert msgspec.json.decode(encode_lines([example]), type=Example) == example
