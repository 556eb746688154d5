"""Training a Hugging Face policy: gradients, adapters, saving, and the Learner on top."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_models import FAMILIES, save_small

from lockedroom.errors import CannotWrite
from lockedroom.policy.backend import Backend
from lockedroom.policy.huggingface import load_huggingface
from lockedroom.policy.huggingface.policy import HuggingFacePolicy
from lockedroom.records import Example, Sampling

ASKED = [Example(id=f"e{i}", prompt=f"Compute {i}+{9 * i}.", expected_answer=10 * i) for i in (1, 2, 12)]
SAMPLINGS = (
    Sampling(max_tokens=6),
    Sampling(max_tokens=6, temperature=0.7),
    Sampling(max_tokens=6, top_k=5, top_p=0.9),
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: save_small(family, tmp_path_factory.mktemp(family)) for family in FAMILIES}


@pytest.fixture
def policy(folders: dict[str, Path]) -> HuggingFacePolicy:
    return load_huggingface(str(folders["qwen2"]), Backend(batch=8))


def draw(
    policy: HuggingFacePolicy, sampling: Sampling, group: int = 4
) -> tuple[list[tuple[int, ...]], list[list[tuple[int, ...]]], list[float]]:
    drawn = list(policy.complete(ASKED, range(group), sampling))
    ids = [c.token_ids or () for c in drawn]
    groups = [ids[start : start + group] for start in range(0, len(ids), group)]
    return [policy.prompt_ids(e.prompt) for e in ASKED], groups, [x for c in drawn for x in c.token_logprobs or ()]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=("plain", "tempered", "truncated"))
def test_the_first_ratio_is_one(family: str, sampling: Sampling, folders: dict[str, Path]) -> None:
    policy = load_huggingface(str(folders[family]), Backend(batch=8))
    prompts, groups, recorded = draw(policy, sampling)
    read = policy.training_pass(prompts, groups, sampling)
    assert read.logprobs_NT[read.mask_NT].tolist() == pytest.approx(recorded, abs=5e-5)
    assert (read.logprobs_NT[~read.mask_NT] == 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_gradients_are_those_of_reading_each_completion_alone(family: str, folders: dict[str, Path]) -> None:
    policy = load_huggingface(str(folders[family]), Backend(dtype="float64"))
    prompts, groups, _ = draw(policy, Sampling(max_tokens=6))
    torch.autograd.backward(policy.training_pass(prompts, groups, Sampling()).logprobs_NT.sum())
    packed = [parameter.grad.clone() for parameter in policy.parameters() if parameter.grad is not None]
    policy.model.zero_grad()
    for prompt, group in zip(prompts, groups, strict=True):
        for ids in group:
            logits_SV = policy.model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
            torch.autograd.backward(torch.log_softmax(logits_SV, -1)[torch.arange(len(ids)), list(ids)].sum())
    alone = [parameter.grad for parameter in policy.parameters() if parameter.grad is not None]
    # transformers computes the norms and rotations of Llama and Qwen in float32, whatever the dtype
    assert all((a - b).norm() <= 1e-5 * b.norm() for a, b in zip(packed, alone, strict=True))


def test_vocabulary_logprobs_are_of_what_was_sampled_from_and_sum_to_one(policy: HuggingFacePolicy) -> None:
    prompts, groups, _ = draw(policy, SAMPLINGS[1])
    read = policy.training_pass(prompts, groups, SAMPLINGS[1])
    sums = read.vocabulary_RV.exp().sum(-1).tolist()
    assert sums == pytest.approx([1.0] * len(sums), abs=1e-4)
    sampled = policy.logprobs([prompts[0]], [groups[0][0]], SAMPLINGS[1])[0]
    found = read.vocabulary_RV[read.state_NT[0, : len(sampled)], list(groups[0][0])].tolist()
    assert found == pytest.approx(sampled, abs=5e-5)


def test_features_stand_for_the_state_before_each_token(policy: HuggingFacePolicy) -> None:
    prompts, groups, _ = draw(policy, SAMPLINGS[0])
    features_NTC = policy.value_features(prompts, groups)
    logits = policy.model.get_output_embeddings()(features_NTC[0])
    own = torch.log_softmax(logits, -1)[torch.arange(len(groups[0][0])), list(groups[0][0])].tolist()
    assert own == pytest.approx(policy.logprobs([prompts[0]], [groups[0][0]])[0], abs=5e-5)
    assert not features_NTC.requires_grad


def _move(policy: HuggingFacePolicy) -> None:
    prompts, groups, _ = draw(policy, SAMPLINGS[0])
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.5)
    torch.autograd.backward(-policy.training_pass(prompts, groups, Sampling()).logprobs_NT.sum())
    optimizer.step()


@pytest.mark.parametrize("lora", [0, 2])
def test_a_frozen_copy_stays_as_it_was(lora: int, folders: dict[str, Path]) -> None:
    policy = load_huggingface(str(folders["llama"]), Backend(lora=lora))
    frozen = policy.frozen_copy()
    prompts, groups, _ = draw(policy, SAMPLINGS[0])
    flat = [ids for group in groups for ids in group]
    asked = [prompt for prompt, group in zip(prompts, groups, strict=True) for _ in group]
    before = policy.logprobs(asked, flat)
    assert frozen.logprobs(asked, flat) == before
    _move(policy)
    assert frozen.logprobs(asked, flat) == before
    assert policy.logprobs(asked, flat) != before
    assert frozen.parameters() == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_adapter_changes_nothing_and_is_all_that_is_trained(family: str, folders: dict[str, Path]) -> None:
    base, adapted = (load_huggingface(str(folders[family]), Backend(lora=rank)) for rank in (0, 2))
    sampling = Sampling(max_tokens=8)
    assert [c.token_ids for c in base.complete(ASKED, range(2), sampling)] == [
        c.token_ids for c in adapted.complete(ASKED, range(2), sampling)
    ]
    assert 0 < sum(p.numel() for p in adapted.parameters()) < sum(p.numel() for p in base.parameters()) / 2
    again = load_huggingface(str(folders[family]), Backend(lora=2))
    assert all(torch.equal(a, b) for a, b in zip(adapted.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("lora", [0, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_saved_is_what_is_opened(family: str, lora: int, folders: dict[str, Path], tmp_path: Path) -> None:
    policy = load_huggingface(str(folders[family]), Backend(lora=lora))
    _move(policy)
    sha256 = policy.save(tmp_path / "policy", origin={"made": "here"})
    opened = load_huggingface(str(tmp_path), Backend())
    assert opened.spec.identity["adapter_sha256" if lora else "weights_sha256"] == sha256
    ask = ([policy.prompt_ids("1+1")], [policy.encode("Final: 2")])
    assert opened.logprobs(*ask) == policy.logprobs(*ask)
    assert opened.prompt_ids("1+1") == policy.prompt_ids("1+1")
    if lora:
        apart = load_huggingface(str(folders[family]), Backend(adapter=str(tmp_path / "policy")))
        assert apart.logprobs(*ask) == policy.logprobs(*ask)
    with pytest.raises(CannotWrite, match="not empty"):
        policy.save(tmp_path / "policy", origin={})
