"""What counts as a score at the boundary, and what is wrong with everything else."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any

import pytest

from lockedroom.records import Code, Details, Failure, FailureCode, Outcome, Score, ScorerSpec
from lockedroom.scorer.validate import Rules, rules_for, shown, to_score

FREE = rules_for(None)
DECLARED = rules_for(
    ScorerSpec(
        "s", 1, (Code("ok", Outcome.CORRECT, "right"), Code("bad", Outcome.MALFORMED, "unreadable")), (-1.0, 1.0)
    )
)


class Word(StrEnum):
    OK = "ok"


class OwnScore(Score, frozen=True):
    pass


class Real(float):
    pass


def details(**fields: Any) -> dict[str, Any]:
    return {"reward": 1, "details": fields}


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def cyclic() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("result", "rules", "expected"),
    [
        (details(), FREE, Score(1.0, Details("reward_1", Outcome.CORRECT, None, ""))),
        ({"reward": 0.5, "details": {}}, FREE, Score(0.5, Details("reward_not_1", Outcome.WRONG, None, ""))),
        (details(outcome="malformed"), FREE, Score(1.0, Details("malformed", Outcome.MALFORMED, None, ""))),
        (details(outcome=Outcome.WRONG), FREE, Score(1.0, Details("wrong", Outcome.WRONG, None, ""))),
        (details(code="x"), FREE, Score(1.0, Details("x", Outcome.CORRECT, None, ""))),
        ({"reward": -3, "details": {"code": "x"}}, FREE, Score(-3.0, Details("x", Outcome.WRONG, None, ""))),
        (details(code="x", outcome="malformed"), FREE, Score(1.0, Details("x", Outcome.MALFORMED, None, ""))),
        (details(code="bad"), DECLARED, Score(1.0, Details("bad", Outcome.MALFORMED, None, ""))),
        (details(code=Word.OK, outcome="correct"), DECLARED, Score(1.0, Details("ok", Outcome.CORRECT, None, ""))),
        (details(parsed="7", message="m"), FREE, Score(1.0, Details("reward_1", Outcome.CORRECT, "7", "m"))),
        (details(parsed=Word.OK), FREE, Score(1.0, Details("reward_1", Outcome.CORRECT, "ok", ""))),
        (details(parsed=None), FREE, Score(1.0, Details("reward_1", Outcome.CORRECT, None, ""))),
        ({"reward": Real(0.5), "details": {"code": "x"}}, FREE, Score(0.5, Details("x", Outcome.WRONG, None, ""))),
    ],
)
def test_a_valid_result_becomes_this_score(result: object, rules: Rules, expected: Score) -> None:
    assert to_score(result, rules) == expected


def test_other_details_are_kept_as_plain_json_values() -> None:
    given = details(n=1, f=Real(0.5), flag=True, none=None, word=Word.OK, big=10**4000, deep={"a": (1, [2])})

    score = to_score(given, FREE)

    assert isinstance(score, Score)
    kept = {"n": 1, "f": 0.5, "flag": True, "none": None, "word": "ok", "big": 10**4000, "deep": {"a": [1, [2]]}}
    assert score.details.extra == kept
    assert type(score.details.extra["word"]) is str
    assert type(score.details.extra["f"]) is float


def test_a_score_object_is_checked_field_by_field_and_kept() -> None:
    given = OwnScore(1, Details("ok", Outcome.CORRECT, "7", "m", {"a": (1,)}))

    score = to_score(given, DECLARED)

    assert score == Score(1.0, Details("ok", Outcome.CORRECT, "7", "m", {"a": [1]}))
    assert type(score) is Score


NAN, INF = math.nan, math.inf
UNTYPED: Any = Details
INVALID: list[tuple[object, Rules, str]] = [
    (None, FREE, "is None; return a Score or"),
    (1.0, FREE, "is 1.0 (float)"),
    ("yes", FREE, "is 'yes' (str)"),
    ([1, {}], FREE, "is of type list"),
    ((1, {}), FREE, "is of type tuple"),
    (Word.OK, FREE, "of type test_validate.Word"),
    ({"details": {}}, FREE, "has the keys [\"'details'\"]; it needs exactly 'reward' and 'details'"),
    ({"reward": 1}, FREE, "it needs exactly"),
    ({"reward": 1, "detail": {}}, FREE, "it needs exactly"),
    ({"reward": 1, "details": {}, "code": "ok"}, FREE, "it needs exactly"),
    ({"reward": True, "details": {}}, FREE, "reward is True (bool)"),
    ({"reward": "1", "details": {}}, FREE, "reward is '1' (str); it must be a number"),
    ({"reward": None, "details": {}}, FREE, "reward is None"),
    ({"reward": NAN, "details": {}}, FREE, "reward is nan; it must be finite"),
    ({"reward": -INF, "details": {}}, FREE, "reward is -inf"),
    ({"reward": Real("nan"), "details": {}}, FREE, "reward is nan"),
    ({"reward": 10**400, "details": {}}, FREE, "too large"),
    ({"reward": 2**53 + 1, "details": {}}, FREE, "cannot hold exactly"),
    ({"reward": 1.5, "details": {"code": "ok"}}, DECLARED, "reward 1.5 is outside the declared range -1.0 to 1.0"),
    ({"reward": -2, "details": {"code": "ok"}}, DECLARED, "outside the declared range"),
    ({"reward": 1, "details": None}, FREE, "details is None; it must be a dict"),
    ({"reward": 1, "details": [("code", "ok")]}, FREE, "details is of type list"),
    ({"reward": 1, "details": {1: 2}}, FREE, "details has the key of type int; keys must be strings"),
    (details(code=None), FREE, "code is None"),
    (details(code=7), FREE, "code is of type int; it must be a string"),
    (details(code=""), FREE, "printable word of 1 to 64"),
    (details(code="x" * 65), FREE, "printable word"),
    (details(code="a\nb"), FREE, "printable word"),
    (details(code="nope"), DECLARED, "code 'nope' is not declared in SPEC"),
    (details(), DECLARED, "no 'code', and SPEC declares codes"),
    (details(code="ok", outcome="wrong"), DECLARED, "outcome 'wrong' contradicts code 'ok'"),
    (details(outcome="right"), FREE, "outcome is 'right' (str); it must be one of correct, wrong, malformed"),
    (details(outcome=["wrong"]), FREE, "outcome is of type list"),
    (details(parsed=7), FREE, "parsed is of type int; it must be a string or None"),
    (details(message=None), FREE, "message is None; it must be a string"),
    (details(x=NAN), FREE, "details.x is nan, which JSON cannot hold"),
    (details(x=[{"y": object()}]), FREE, "details.x[0].y is of type object, which is not a JSON value"),
    (details(x=b"bytes"), FREE, "details.x is of type bytes"),
    (details(x={1: 2}), FREE, "details.x has the key of type int"),
    (details(x=10**5000), FREE, "details.x is an integer too long"),
    (details(x=nested(100)), FREE, "nest deeper than 64"),
    (details(x=cyclic()), FREE, "nest deeper than 64"),
    (Score("1", Details("ok", Outcome.CORRECT, None, "")), FREE, "reward is '1' (str)"),  # type: ignore[arg-type]  # the point
    (Score(1.0, {"code": "ok"}), FREE, "details is of type dict; a Score needs a Details"),  # type: ignore[arg-type]  # the point
    (Score(1.0, UNTYPED("ok", None, None, "")), FREE, "outcome is None"),
    (Score(1.0, UNTYPED("ok", Outcome.WRONG, None, "")), DECLARED, "contradicts"),
    (Score(1.0, UNTYPED("ok", Outcome.CORRECT, None, "", [1])), DECLARED, "details.extra is of type list"),
]


@pytest.mark.parametrize(("result", "rules", "reason"), INVALID, ids=[reason for _, _, reason in INVALID])
def test_nonsense_is_an_invalid_result_with_a_reason(result: object, rules: Rules, reason: str) -> None:
    failure = to_score(result, rules)

    assert isinstance(failure, Failure)
    assert failure.code is FailureCode.SCORER_INVALID_RESULT
    assert reason in failure.message


def test_a_message_is_short_and_safe_to_print() -> None:
    assert shown("\x1b[31m\ud800é\n") == "\\x1b[31m\\ud800é\\n"
    assert shown("x" * 1000, limit=5) == "xxxxx…"
