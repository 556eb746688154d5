"""The network and its fixed-shape passes."""

from __future__ import annotations

import pytest
import torch

from lockedroom.policy.tiny import load_tiny
from lockedroom.policy.tiny.decode import bucket_of, extend, prefill
from lockedroom.policy.tiny.model import TinyConfig, TinyModel, next_token_logprobs
from lockedroom.testkit.micro_model import micro_policy


def test_the_shipped_shape_has_the_stated_number_of_parameters() -> None:
    model = TinyModel(TinyConfig(vocabulary=157))

    assert sum(p.numel() for p in model.parameters()) == 168_320


def test_padding_on_the_right_changes_nothing_before_it() -> None:
    model = micro_policy().model
    short, padded = torch.tensor([[0, 1, 2, 3]]), torch.tensor([[0, 1, 2, 3, 0, 0, 2]])

    assert torch.allclose(model(short), model(padded)[:, :4], atol=1e-14, rtol=0)


def test_a_later_token_changes_nothing_before_it() -> None:
    model = micro_policy().model
    first, second = torch.tensor([[0, 1, 2, 3]]), torch.tensor([[0, 1, 2, 1]])

    assert torch.equal(model(first)[:, :3], model(second)[:, :3])
    assert not torch.equal(model(first)[:, 3], model(second)[:, 3])


def test_decoding_with_a_cache_equals_the_full_forward_pass() -> None:
    model = micro_policy(context=40).model
    prompts = [(0, 1, 2), (0, 3), (0, 1, 3, 2, 1, 1, 2, 3, 3, 1, 2)]
    continuation = [1, 3, 2, 2, 1, 3, 1, 1, 2, 3, 1, 2]

    cache, logits = prefill(model, prompts, bucket_of(11))
    for step, token in enumerate(continuation):
        for row, prompt in enumerate(prompts):
            full = model(torch.tensor([[*prompt, *continuation[:step]]]))[0, -1]
            assert torch.allclose(logits[row], full, atol=1e-13, rtol=0)
        cache, logits = extend(model, cache, torch.arange(3), torch.full((3,), token))


@pytest.mark.parametrize("length", [1, 12, 13, 16, 17, 40, 64, 65, 96, 97, 128, 129, 1000])
def test_a_bucket_holds_its_prompt(length: int) -> None:
    assert length <= bucket_of(length) < 2 * length + 12


def test_token_logprobs_are_differentiable_and_normalised() -> None:
    model = micro_policy().model
    everything = torch.cartesian_prod(torch.zeros(1, dtype=torch.long), torch.arange(4), torch.arange(4))

    logprobs = next_token_logprobs(model, everything).sum(-1)
    logprobs.exp().sum().backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped

    assert logprobs.exp().sum().item() == pytest.approx(1, abs=1e-12)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(gradients) == len(list(model.parameters()))
    assert max(gradient.abs().max().item() for gradient in gradients) < 1e-12  # the gradient of a constant


def test_two_forward_passes_are_bit_equal() -> None:
    model = load_tiny().model
    tokens = torch.randint(0, 157, (9, 20), generator=torch.Generator().manual_seed(0))

    assert torch.equal(model(tokens), model(tokens))
