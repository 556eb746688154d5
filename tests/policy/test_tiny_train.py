"""The packed training pass reads exactly what reading each completion alone reads, values and gradients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from lockedroom.dataset.load import read_examples
from lockedroom.errors import BadInput
from lockedroom.policy.tiny import DATA_FOLDER, load_tiny
from lockedroom.policy.tiny.model import next_token_logprobs
from lockedroom.policy.tiny.policy import TinyPolicy
from lockedroom.records import Completion, Example, Sampling

# float32 kernels of other shapes; measured differences are below 2e-5
NATS = 5e-5


@pytest.fixture(scope="module")
def policy() -> TinyPolicy:
    return load_tiny("tiny")


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return next(iter(read_examples(DATA_FOLDER / "train.jsonl")))[:12]


Groups = list[list[tuple[int, ...]]]


def _draw(
    policy: TinyPolicy, examples: Sequence[Example], sampling: Sampling, group: int = 6
) -> tuple[Groups, list[Completion]]:
    drawn = list(policy.complete(examples, range(group), sampling, step=3))
    ids = [one.token_ids or () for one in drawn]
    return [ids[start : start + group] for start in range(0, len(ids), group)], drawn


def _prompts(policy: TinyPolicy, examples: Sequence[Example]) -> list[tuple[int, ...]]:
    return [policy.prompt_ids(example.prompt) for example in examples]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_tokens=12),
        Sampling(max_tokens=12, temperature=0.7),
        Sampling(max_tokens=12, temperature=1.4, top_k=9, top_p=0.9),
        Sampling(max_tokens=3),
        Sampling(max_tokens=1),
    ],
)
def test_recomputed_logprobs_are_those_recorded_at_sampling(
    policy: TinyPolicy, examples: list[Example], sampling: Sampling
) -> None:
    groups, drawn = _draw(policy, examples, sampling)

    read = policy.training_pass(_prompts(policy, examples), groups, sampling)

    for row, mask, one in zip(read.logprobs_NT.tolist(), read.mask_NT.tolist(), drawn, strict=True):
        recorded = one.token_logprobs or ()
        assert sum(mask) == len(recorded)
        assert row[: len(recorded)] == pytest.approx(recorded, abs=NATS)
        assert not any(row[len(recorded) :])


def test_packed_gradient_is_that_of_reading_each_completion_alone(policy: TinyPolicy, examples: list[Example]) -> None:
    groups, _ = _draw(policy, examples, Sampling(max_tokens=12))
    prompts = _prompts(policy, examples)
    weights = torch.linspace(-1, 1, sum(map(len, groups)), dtype=torch.float64)
    parameters = policy.parameters()

    packed = policy.training_pass(prompts, groups, Sampling()).logprobs_NT.sum(-1) @ weights
    found = torch.autograd.grad(packed, parameters)
    alone = torch.zeros((), dtype=torch.float64)
    rows = [(prompt, ids) for prompt, group in zip(prompts, groups, strict=True) for ids in group]
    for weight, (prompt, ids) in zip(weights, rows, strict=True):
        logprobs_BS = next_token_logprobs(policy.model, torch.tensor([[*prompt, *ids]]))
        alone = alone + weight * logprobs_BS[0, len(prompt) - 1 :].double().sum()
    expected = torch.autograd.grad(alone, parameters)

    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=2e-4 * float(theirs.abs().max()) + 1e-6)


def test_other_prompts_in_the_pass_change_nothing(policy: TinyPolicy, examples: list[Example]) -> None:
    groups, _ = _draw(policy, examples, Sampling(max_tokens=12))
    prompts = _prompts(policy, examples)

    together = policy.training_pass(prompts, groups, Sampling()).logprobs_NT
    for p in range(len(prompts)):
        own = policy.training_pass([prompts[p]], [groups[p]], Sampling()).logprobs_NT
        rows = slice(p * len(groups[p]), (p + 1) * len(groups[p]))
        assert torch.allclose(together[rows, : own.shape[1]], own, atol=NATS)


def test_vocabulary_holds_whole_distributions_with_the_sampled_token_in_them(
    policy: TinyPolicy, examples: list[Example]
) -> None:
    for sampling in (Sampling(max_tokens=12), Sampling(max_tokens=12, temperature=0.7, top_k=5)):
        groups, drawn = _draw(policy, examples, sampling)

        read = policy.training_pass(_prompts(policy, examples), groups, sampling)

        assert torch.allclose(
            read.vocabulary_RV.exp().sum(-1), torch.ones(len(read.vocabulary_RV), dtype=torch.float64)
        )
        for n, one in enumerate(drawn):
            for t, token in enumerate(one.token_ids or ()):
                state = int(read.state_NT[n, t])
                assert read.vocabulary_RV[state, token].item() == pytest.approx(read.logprobs_NT[n, t].item(), abs=1e-9)


def test_value_features_have_one_row_a_token_and_no_gradient(policy: TinyPolicy, examples: list[Example]) -> None:
    groups, _ = _draw(policy, examples, Sampling(max_tokens=12))

    features_NTC = policy.value_features(_prompts(policy, examples), groups)

    longest = max(len(ids) for group in groups for ids in group)
    assert features_NTC.shape == (sum(map(len, groups)), longest, policy.model.config.width)
    assert not features_NTC.requires_grad


def test_frozen_copy_stays_as_it_was_when_the_policy_learns(examples: list[Example]) -> None:
    policy = load_tiny("tiny")
    reference = policy.frozen_copy()
    before = list(reference.complete(examples, range(2), Sampling(max_tokens=8)))

    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(0.5)

    assert list(reference.complete(examples, range(2), Sampling(max_tokens=8))) == before
    assert list(policy.complete(examples, range(2), Sampling(max_tokens=8))) != before
    assert not any(parameter.requires_grad for parameter in reference.parameters())


def test_saved_policy_is_opened_again_with_the_same_completions(
    policy: TinyPolicy, examples: list[Example], tmp_path: Path
) -> None:
    policy.save(tmp_path / "copy.safetensors", origin={"made": "by a test"})

    again = load_tiny(tmp_path / "copy.safetensors")

    drawn = [list(one.complete(examples, range(2), Sampling(max_tokens=8))) for one in (policy, again)]
    assert drawn[0] == drawn[1]


def test_completions_that_cannot_be_read_are_refused(policy: TinyPolicy) -> None:
    prompt = policy.prompt_ids("1+1")
    for group in ([], [()], [(5,), ()], [(5,) * policy.context]):
        with pytest.raises(BadInput, match="prompt 0"):
            policy.training_pass([prompt], [group], Sampling())
