"""Functions of trainers are called as their trainers call them, because the person said how."""

from __future__ import annotations

from pathlib import Path

import pytest
from examining import HERE, SUBJECTS, goldens, write_goldens

from lockedroom.cli.main import main
from lockedroom.errors import BadInput
from lockedroom.records import Example, Failure
from lockedroom.safeguards.audit.asking import Clock, Isolated, Question
from lockedroom.safeguards.audit.foreign import SIGNATURES, check_signature


@pytest.mark.parametrize(
    ("signature", "function"),
    [
        ("example,completion", "correct"), ("number", "number"), ("completion,answer", "pair"), ("trl:answer", "trl_reward"),
        ("trl-chat:target", "chat_reward"), ("verl:sums", "compute_score"), ("verifiers", "exact"),
    ],
)  # fmt: skip
def test_each_signature_pays_goldens_and_nothing_else(signature: str, function: str) -> None:
    questions = [
        Question(Example(id=one.id, prompt=one.prompt, expected_answer=one.expected_answer), one.completion)
        for one in goldens()
    ]
    wrong = [Question(question.example, "Final: 999") for question in questions]
    with Isolated(f"{SUBJECTS}:{function}", signature=signature) as asker:
        said = asker.ask([*questions, *wrong], Clock(20))
    assert [one.reward if one else None for one in said] == [1.0] * len(questions) + [0.0] * len(wrong)


def test_a_reward_of_none_is_invalid_and_never_zero() -> None:
    with Isolated(f"{SUBJECTS}:none_at_all", signature="completion,answer") as asker:
        (said,) = asker.ask([Question(Example(id="a", prompt="", expected_answer=1), "x")], Clock(20))
    assert said is not None
    assert said.reward is None


REWARDS = HERE / "trainer_rewards.py"


@pytest.mark.parametrize(
    ("signature", "function"),
    [
        ("trl-chat:solution", "trl_accuracy"), ("trl:solution", "trl_keyword_only"), ("trl:solution", "trl_async"),
        ("trl:solution", "trl_array"),
        ("verl:math", "verl_dict"), ("verl:openai/gsm8k", "verl_kwargs"), ("verifiers", "verifiers_state"),
        ("verifiers", "verifiers_all"),
    ],
)  # fmt: skip
def test_functions_in_the_shapes_of_trainers_pay_goldens_and_nothing_else(signature: str, function: str) -> None:
    questions = [
        Question(Example(id=one.id, prompt=one.prompt, expected_answer=one.expected_answer), one.completion)
        for one in goldens()
    ]
    wrong = [Question(question.example, "Final: 999") for question in questions]
    with Isolated(f"{REWARDS}:{function}", signature=signature) as asker:
        said = asker.ask([*questions, *wrong], Clock(20))
    assert [one.reward if one else None for one in said] == [1.0] * len(questions) + [0.0] * len(wrong)


@pytest.mark.parametrize(
    ("signature", "function", "message"),
    [
        ("trl:solution", "trl_does_not_apply", "reward is None"),
        ("trl:solution", "trl_one_number", "instead of a list of one reward"),
        ("trl:answer", "trl_accuracy", "solution"),
        ("verl:math", "verl_without_score", "has no 'score', but acc"),
        ("verl:math", "verl_none", "reward is None"),
        ("verifiers", "verifiers_none", "reward is None"),
        ("verifiers", "verifiers_parser", "parser"),
    ],
)
def test_what_is_no_reward_is_a_failure_that_says_why(signature: str, function: str, message: str) -> None:
    with Isolated(f"{REWARDS}:{function}", signature=signature) as asker:
        (said,) = asker.ask([Question(Example(id="a", prompt="?", expected_answer=7), "Final: 7")], Clock(20))
    assert said is not None
    assert isinstance(said.result, Failure)
    assert message in said.result.message


def test_a_trainers_function_is_audited_end_to_end(tmp_path: Path) -> None:
    arguments = ["--golden", str(write_goldens(tmp_path)), "--signature", "verl:math", "--out", str(tmp_path / "run")]
    assert main(["audit", f"{REWARDS}:verl_dict", *arguments]) == 0
    assert main(["verify", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize("signature", ["guess", "trl", "trl:not a name", "verl:", "completion", ""])
def test_an_unknown_signature_is_refused_and_the_known_ones_are_named(signature: str) -> None:
    with pytest.raises(BadInput, match="signature"):
        Isolated(f"{SUBJECTS}:pair", signature=signature)


def test_every_signature_of_the_help_is_known() -> None:
    assert not any(check_signature(name.replace("COLUMN", "answer").replace("SOURCE", "sums")) for name in SIGNATURES)


def test_a_wrong_signature_is_bad_input() -> None:
    with pytest.raises(BadInput, match="cannot be called as"):
        Isolated(f"{SUBJECTS}:compute_score")
