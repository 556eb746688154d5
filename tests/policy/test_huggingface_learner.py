"""Loop C's Learner on a Hugging Face policy: it moves the adapter alone, in micro-batches, and resumes bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from small_models import save_small

from lockedroom.learning.estimator import make_estimator
from lockedroom.loops.learning.update import Learner, LearnerSettings, StepResult
from lockedroom.policy.backend import Backend
from lockedroom.policy.huggingface import load_huggingface
from lockedroom.policy.huggingface.policy import HuggingFacePolicy
from lockedroom.records import Completion, Details, Example, Failure, Outcome, Sampling, Score

ASKED = [Example(id=f"e{i}", prompt=f"Compute {i}+{9 * i}.", expected_answer=10 * i) for i in range(4)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small("qwen2", tmp_path_factory.mktemp("qwen2"))


def judge(examples: Sequence[Example], completions: Sequence[Completion | Failure]) -> list[Score | Failure]:
    """Pay for completions that hold a lower-case letter: common enough to be learned in a few steps."""
    paid = [isinstance(c, Completion) and any("a" <= x <= "z" for x in c.text) for c in completions]
    return [
        Score(float(p), Details("ok" if p else "no", Outcome.CORRECT if p else Outcome.WRONG, None, "")) for p in paid
    ]


def learner(
    policy: HuggingFacePolicy,
    micro_batch: int | None = None,
    sampling: Sampling = Sampling(max_tokens=3),  # noqa: B008  (frozen)
) -> Learner:
    settings = LearnerSettings(steps=24, learning_rate=0.02, group=8, micro_batch=micro_batch)
    return Learner(
        policy,
        policy.frozen_copy(),
        judge,
        make_estimator({}, "rloo"),
        settings=settings,
        sampling=sampling,
    )


def rewards(result: StepResult) -> list[float]:
    return [r.reward for r in result.results if isinstance(r, Score)]


def test_an_adapter_learns_and_its_base_stays(folder: Path) -> None:
    policy = load_huggingface(str(folder), Backend(lora=4))
    base = [p.clone() for p in policy.model.parameters() if not p.requires_grad]
    learning = learner(policy)
    results = [learning.step(ASKED, step) for step in range(24)]
    first, last = (sum(sum(rewards(result)) for result in part) / (5 * 32) for part in (results[:5], results[-5:]))
    assert last > first + 0.15
    assert max(result.metrics.mismatch for result in results) < 5e-5
    kept = [p for p in policy.model.parameters() if not p.requires_grad]
    assert all(torch.equal(a, b) for a, b in zip(base, kept, strict=True))


def test_micro_batches_accumulate_the_same_gradient(folder: Path) -> None:
    moved = []
    for micro_batch in (None, 1, 3):
        policy = load_huggingface(str(folder), Backend())
        learner(policy, micro_batch).step(ASKED, 0)
        moved.append(torch.cat([p.detach().flatten() for p in policy.parameters()]))
    # Adam divides by the gradient's size, so where that is about 0 rounding decides the sign of a step
    for other in moved[1:]:
        assert float((moved[0] - other).abs().median()) < 1e-5


def test_resuming_is_the_same_to_the_last_bit(folder: Path) -> None:
    whole = learner(load_huggingface(str(folder), Backend(lora=2)))
    for step in range(4):
        whole.step(ASKED, step)
    first = learner(load_huggingface(str(folder), Backend(lora=2)))
    for step in range(2):
        first.step(ASKED, step)
    second = learner(load_huggingface(str(folder), Backend(lora=2)))
    second.restore(first.state())
    for step in range(2, 4):
        second.step(ASKED, step)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters, second.parameters, strict=True))


def test_every_end_token_is_left_out_when_drift_is_counted(folder: Path) -> None:
    """A model with several end tokens: what stands before any of them is the canonical spelling here."""
    policy = load_huggingface(str(folder), Backend())
    limits = Sampling(max_tokens=1)
    usual = learner(policy, sampling=limits).step(ASKED, 0).metrics.drift
    others = {c.token_ids[0] for c in policy.complete(ASKED, range(64), limits) if c.token_ids}
    policy.codec.end_ids = (policy.end_id, *others)
    assert learner(policy, sampling=limits).step(ASKED, 0).metrics.drift == 0 < usual
