"""The exact gradient of a real language model, and the trainer's sampled gradient beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from lockedroom.cli.main import main
from lockedroom.errors import BadInput
from lockedroom.learning.estimator import PRESETS, parse_estimator
from lockedroom.loops.microscope import exact_gradient as court
from lockedroom.loops.microscope.exact_gradient import exact_gradient, judge_on_policy
from lockedroom.policy.tiny import DATA_FOLDER, load_tiny
from lockedroom.policy.tiny.policy import TinyPolicy
from lockedroom.records import Example, Sampling
from lockedroom.results.microscope.exact_gradient import ExactGradientResult, render_exact_gradient
from lockedroom.scorer.builtin import BuiltinScorer, find_builtin

DEV = DATA_FOLDER / "dev.jsonl"
QUICK = ["--policy", "tiny", "--examples", "4", "--batches", "100"]
EXAMPLES = [
    Example(id="a", prompt="Compute 25+87. Output exactly one line: Final: <int>", expected_answer=112),
    Example(id="b", prompt="Compute 3-9. Output exactly one line: Final: <int>", expected_answer=-6),
]


def _scorer() -> BuiltinScorer:
    scorer = find_builtin("final-int")
    assert scorer is not None
    return scorer


def _accepted(example: Example) -> tuple[str, ...]:
    return (f"Final: {example.expected_answer}", f"Final: {example.expected_answer}\n")


def _double() -> TinyPolicy:
    policy = load_tiny("tiny")
    policy.model.double()
    return policy


@pytest.mark.parametrize("max_tokens", [24, 4])  # 4: some completions end at the token limit, without an end token
def test_the_sum_over_token_sequences_is_the_exact_pass_probability(max_tokens: int) -> None:
    policy, sampling = load_tiny("tiny"), Sampling(max_tokens=max_tokens)
    exact = exact_gradient(policy, _accepted, EXAMPLES, sampling)
    known = policy.completion_probabilities([e.prompt for e in EXAMPLES], [_accepted(e) for e in EXAMPLES], sampling)
    assert exact.pass_X.tolist() == pytest.approx([sum(one.total for one in row) for row in known], abs=1e-5)
    assert exact.disagreement < 1e-5
    assert all(parameter.grad is None for parameter in policy.parameters())


def test_the_exact_gradient_is_that_of_finite_differences() -> None:
    policy, sampling, step = _double(), Sampling(max_tokens=24), 1e-5
    gradient_D = exact_gradient(policy, _accepted, EXAMPLES, sampling).gradient_D
    start = 0
    for parameter in policy.parameters():
        flat_D = parameter.data.view(-1)
        place = int(gradient_D[start : start + flat_D.numel()].abs().argmax())
        value = float(flat_D[place])
        found = []
        for shift in (step, -step):
            flat_D[place] = value + shift
            found.append(float(exact_gradient(policy, _accepted, EXAMPLES, sampling).pass_X.mean()))
        flat_D[place] = value
        assert (found[0] - found[1]) / (2 * step) == pytest.approx(float(gradient_D[start + place]), rel=1e-3, abs=1e-7)
        start += flat_D.numel()


def test_the_gradient_does_not_depend_on_how_many_sequences_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, sampling = _double(), Sampling(max_tokens=24)
    whole = exact_gradient(policy, _accepted, EXAMPLES, sampling)
    monkeypatch.setattr(court, "SEQUENCES_AT_ONCE", 7)
    parts = exact_gradient(policy, _accepted, EXAMPLES, sampling)
    assert parts.sequences == whole.sequences > 14
    assert torch.allclose(parts.gradient_D, whole.gradient_D, rtol=1e-9, atol=1e-12)


def _court(asked: Sequence[str], **changes: int) -> ExactGradientResult:
    sizes = {"examples": 4, "group": 4, **changes}
    rows = [(name, parse_estimator(name.split())) for name in asked]
    return judge_on_policy(
        load_tiny("tiny"), _scorer(), DEV, rows, examples=sizes["examples"], group=sizes["group"], batches=100, seed=0
    )


def test_the_trainers_gradient_is_unbiased_where_the_estimator_is_and_biased_where_it_is_not() -> None:
    named = ["rloo", "grpo", "baseline=value", "baseline=ema", "baseline=group-mean", "normalisation=max-tokens"]
    found = {one.name: one for one in _court(named).asked}
    verdicts = {name: one.finding.verdict for name, one in found.items()}
    assert verdicts == {
        "rloo": "UNBIASED",
        "grpo": "BIASED",
        "baseline=value": "UNBIASED",
        "baseline=ema": "UNBIASED",
        "baseline=group-mean": "BIASED",
        "normalisation=max-tokens": "BIASED",
    }
    group_mean, max_tokens = found["baseline=group-mean"].finding, found["normalisation=max-tokens"].finding
    assert group_mean.length_low < 0.75 < group_mean.length_high  # 1 − 1/4
    assert max_tokens.length_low < 1 / 24 < max_tokens.length_high
    assert found["rloo"].finding.cosine > 0.98
    assert found["rloo"].changed == ("without its KL term (k1-in-reward)",)


def test_judging_leaves_the_policy_as_it_was() -> None:
    policy = load_tiny("tiny")
    before = [parameter.detach().clone() for parameter in policy.parameters()]
    judge_on_policy(policy, _scorer(), DEV, [("rloo", PRESETS["rloo"])], examples=2, group=2, batches=100, seed=0)
    assert all(torch.equal(old, new) for old, new in zip(before, policy.parameters(), strict=True))


def test_without_a_name_every_choice_without_kl_is_judged_once() -> None:
    result = _court([], examples=2, group=2)
    names = [one.name for one in result.builtin]
    assert names[:6] == ["reinforce", "rloo", "grpo", "dr-grpo", "ppo-clip", "rejection-sampling"]
    assert {"baseline = batch-mean", "baseline = ema", "scale = group-std", "normalisation = tokens"} <= set(names)
    assert len({one.estimator for one in result.builtin}) == len(names)
    assert result.builtin[0].noise == pytest.approx(1.0)
    assert "exact J = " in render_exact_gradient(result)


def test_a_policy_that_never_passes_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    never = tmp_path / "never.jsonl"
    never.write_text('{"id": "a", "prompt": "Compute 1+1.", "expected_answer": 987654321}\n')
    with pytest.raises(BadInput, match="too few to judge"):
        judge_on_policy(load_tiny("tiny"), _scorer(), never, [], examples=1, group=4, batches=100, seed=0)


def test_the_command_prints_a_table_and_exits_1_for_a_biased_estimator(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["court", *QUICK, "--estimator", "rloo"]) == 0
    assert "rloo: **UNBIASED**" in capsys.readouterr().out
    assert main(["court", *QUICK, "--estimator", "dr-grpo", "--json"]) == 1
    (asked,) = json.loads(capsys.readouterr().out)["asked"]
    assert asked["finding"]["verdict"] == "BIASED"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--policy", "scripted:x"], "gives no probabilities"),
        (["--policy", "tiny", "--batches", "10"], "expected 100 to"),
        (["--policy", "tiny", "--examples", "0"], "expected 1 to 256"),
        (["--policy", "tiny", "--examples", "257"], "expected 1 to 256"),
        (["--policy", "tiny", "--group", "0"], "--group 0"),
        (["--policy", "tiny", "--seed", "-1"], "--seed -1"),
        (["--policy", "tiny", "--group", "1", "--estimator", "rloo"], "draw 2 or more"),
        (["--policy", "tiny", "--dataset", "missing.jsonl"], "no such file"),
        (["--policy", "tiny", "--dataset", str(DATA_FOLDER / "holdout.jsonl")], "a holdout"),
        (["--policy", "tiny", "--samples", "200"], "does not go with --policy"),
        (["--policy", "tiny", "--beta", "0.1"], "cannot be listed"),
        (["--policy", "tiny", "--module", "f.py:f", "--shape", "loss"], "does not go with --policy"),
        (["--examples", "4"], "goes with --policy"),
        (["--estimator", "rloo", "--batches", "0"], "goes with --policy"),
    ],
)
def test_what_cannot_be_judged_so_is_bad_input(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["court", *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
