"""Running sums against an exact gradient: known biases are found, none is invented, nothing depends on storage."""

from __future__ import annotations

import math

import pytest
import torch

from lockedroom.errors import BadInput
from lockedroom.learning.exact_gradient import GradientFinding, GradientTally, pass_probabilities

D, BATCHES = 200, 400


def _judged(change: torch.Tensor, *, noise: float = 1.0, seed: int = 0) -> GradientFinding:
    """The finding on gradients of mean ∇J + change (∇J is the first unit vector) with normal noise of norm `noise`."""
    generator = torch.Generator().manual_seed(seed)
    target_D = torch.zeros(D)
    target_D[0] = 1.0
    tally = GradientTally(target_D, BATCHES)
    for _ in range(BATCHES):
        tally.add(target_D + change + noise / math.sqrt(D) * torch.randn(D, generator=generator))
    return tally.finding()


def _direction(place: int, length: float) -> torch.Tensor:
    change_D = torch.zeros(D)
    change_D[place] = length
    return change_D


def test_pass_probabilities_sum_the_sequences_of_each_example_with_gradients() -> None:
    logprobs_NT = torch.tensor([[-1.0, -1.0], [-2.0, 0.0], [-0.5, -0.5]], requires_grad=True)
    pass_X = pass_probabilities(logprobs_NT, torch.tensor([0, 0, 2]), 3)
    assert pass_X.tolist() == pytest.approx([2 * math.exp(-2), 0.0, math.exp(-1)], rel=1e-7)
    torch.autograd.backward(pass_X.sum())
    assert logprobs_NT.grad is not None
    assert logprobs_NT.grad[:, 0].tolist() == pytest.approx([math.exp(-2), math.exp(-2), math.exp(-1)], rel=1e-6)


def test_the_right_gradient_with_noise_is_not_accused() -> None:
    findings = [_judged(torch.zeros(D), seed=seed) for seed in range(40)]
    assert [found.verdict for found in findings] == ["UNBIASED"] * 40


def test_a_wrong_length_is_found_along_the_gradient() -> None:
    found = _judged(_direction(0, -0.25))
    assert found.verdict == "BIASED"
    assert found.length_low < 0.75 < found.length_high
    assert found.bias_low <= 0.25 <= found.bias_high


def test_a_wrong_direction_is_found_although_the_length_is_right() -> None:
    found = _judged(_direction(7, 0.5))
    assert found.verdict == "BIASED"
    assert found.length_low < 1 < found.length_high
    assert 0.3 < found.bias_low <= 0.5 <= found.bias_high
    assert found.bias == pytest.approx(0.5, abs=0.05)
    assert found.cosine < found.cosine_of_noise


def test_the_opposite_gradient_and_one_without_a_part_along_it_are_broken() -> None:
    assert _judged(_direction(0, -2.0)).said.startswith("the expected gradient points away")
    nothing = _judged(_direction(0, -1.0))
    assert (nothing.verdict, nothing.spread) == ("BROKEN", None)


def test_spread_is_the_variance_at_length_one() -> None:
    assert _judged(torch.zeros(D)).spread == pytest.approx(1.0, rel=0.05)
    assert _judged(_direction(0, 1.0), noise=2.0).spread == pytest.approx(1.0, rel=0.05)


def test_cosines_are_those_of_the_mean_and_of_single_batches() -> None:
    found = _judged(torch.zeros(D), noise=1.0)
    assert found.cosine_single == pytest.approx(1 / math.sqrt(2), rel=0.05)
    assert found.cosine_of_noise == pytest.approx(1 / math.sqrt(1 + 1 / BATCHES), rel=1e-3)
    assert found.cosine == pytest.approx(found.cosine_of_noise, abs=1e-3)


def test_gradients_that_are_all_zero_have_no_cosine_and_are_broken() -> None:
    found = _judged(_direction(0, -1.0), noise=0.0)
    assert (found.cosine, found.cosine_single, found.verdict) == (0.0, 0.0, "BROKEN")


@pytest.mark.parametrize("batches", [99, 100_001, 0, -1])
def test_a_number_of_batches_that_says_nothing_is_refused(batches: int) -> None:
    with pytest.raises(BadInput, match="expected 100 to 100,000"):
        GradientTally(torch.ones(3), batches)


def test_a_zero_gradient_is_nothing_to_compare_with() -> None:
    with pytest.raises(BadInput, match="gradient is zero"):
        GradientTally(torch.zeros(3), 100)
