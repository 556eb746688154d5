"""Drawing from large vocabularies: the inverted cumulative distribution, block by block."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lockedroom.policy.huggingface.choose import BLOCK, choose
from lockedroom.policy.tiny.sample import choose as choose_whole
from lockedroom.policy.tiny.sample import sampled_logprobs
from lockedroom.records import Sampling

HIGHEST = 1 - 2.0**-53
SAMPLINGS = (
    Sampling(),
    Sampling(temperature=0.5),
    Sampling(temperature=3.0),
    Sampling(temperature=0.0),
    Sampling(temperature=0.7, top_k=5),
    Sampling(top_p=0.8),
)


def logits(rows: int, vocabulary: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * 4


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@pytest.mark.parametrize("vocabulary", [2, BLOCK - 1, BLOCK, BLOCK + 1, 1000])
def test_the_tokens_are_those_of_the_whole_distribution(sampling: Sampling, vocabulary: int) -> None:
    """In float64 both sum; only a number that falls within rounding of a boundary could draw a neighbour."""
    logits_RV = logits(3, vocabulary).double()
    row_N = torch.arange(600) % 3
    uniform_N = torch.from_numpy(np.random.default_rng(1).random(600))
    found, expected = (draw(logits_RV, row_N, uniform_N, sampling) for draw in (choose, choose_whole))
    assert torch.equal(found[0], expected[0])
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_recorded_logprobs_are_those_that_are_recomputed(sampling: Sampling) -> None:
    logits_RV = logits(4, 5000)
    row_N = torch.arange(400) % 4
    uniform_N = torch.from_numpy(np.random.default_rng(2).random(400))
    token_N, logprob_N, policy_N = choose(logits_RV, row_N, uniform_N, sampling)
    assert torch.allclose(logprob_N, sampled_logprobs(logits_RV, sampling)[row_N, token_N], rtol=0, atol=5e-6)
    assert torch.allclose(policy_N, sampled_logprobs(logits_RV, Sampling())[row_N, token_N], rtol=0, atol=5e-6)
    assert float(logprob_N.max()) <= 0


@given(seed=st.integers(0, 50), vocabulary=st.integers(2, 3 * BLOCK), others=st.integers(1, 4))
def test_a_draw_does_not_depend_on_its_neighbours(seed: int, vocabulary: int, others: int) -> None:
    logits_RV = logits(1 + others, vocabulary, seed)
    row_N = torch.arange(1 + others)
    uniform_N = torch.linspace(0, HIGHEST, 1 + others, dtype=torch.float64)
    together = choose(logits_RV, row_N, uniform_N, Sampling())
    for n in range(1 + others):
        alone = choose(logits_RV[n : n + 1].clone(), torch.tensor([0]), uniform_N[n : n + 1], Sampling())
        assert [float(part[n]) for part in together] == [float(part[0]) for part in alone]


@pytest.mark.parametrize("uniform", [0.0, 2.0**-53, 0.5, HIGHEST])
@pytest.mark.parametrize("possible", [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 3, 999])
def test_the_one_possible_token_is_drawn_whatever_the_number(uniform: float, possible: int) -> None:
    """Wherever it stands, and none of the impossible tokens around it."""
    logits_RV = torch.full((1, 1000), -math.inf)
    logits_RV[0, possible] = 3.0
    token_N, logprob_N, _ = choose(
        logits_RV, torch.tensor([0]), torch.tensor([uniform], dtype=torch.float64), Sampling()
    )
    assert (token_N.item(), logprob_N.item()) == (possible, 0.0)
