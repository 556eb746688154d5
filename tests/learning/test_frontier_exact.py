"""The frontier's closed forms, against direct maximisation, simulation and the inequalities that they must satisfy."""

from __future__ import annotations

import math

import pytest
import torch

from lockedroom.errors import BadInput
from lockedroom.learning.bandit import completion_logprobs, mean_rewards
from lockedroom.learning.bandit_worlds import WORLDS, first_policy
from lockedroom.learning.enumeration import best_of_n, optimum
from lockedroom.learning.frontier import best_of_n_bound, greatest_objective, place, reward_at_kl

REFERENCE = completion_logprobs(WORLDS["graded"], first_policy(WORLDS["graded"])).detach()
REWARDS = mean_rewards(WORLDS["graded"])


@pytest.mark.parametrize("beta", [0.05, 0.3, 2.0])
def test_the_greatest_objective_is_that_of_the_closed_form_and_no_random_policy_exceeds_it(beta: float) -> None:
    at = place(optimum(REFERENCE, REWARDS, beta), REFERENCE, REWARDS)
    greatest = greatest_objective(REFERENCE, REWARDS, beta)
    assert at.reward - beta * at.kl == pytest.approx(greatest, abs=1e-12)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        other_XM = optimum(REFERENCE, REWARDS, beta) + 0.3 * torch.randn(REWARDS.shape, generator=generator)
        other = place(other_XM.log_softmax(-1), REFERENCE, REWARDS)
        assert other.reward - beta * other.kl < greatest


@pytest.mark.parametrize("n", [1, 2, 4, 16, 256, 100_000])
def test_best_of_n_lies_under_the_frontier_and_its_kl_under_the_bound(n: int) -> None:
    at = place(best_of_n(REFERENCE, REWARDS, n), REFERENCE, REWARDS)
    assert at.kl <= best_of_n_bound(n) + 1e-12
    assert at.reward <= reward_at_kl(REFERENCE, REWARDS, at.kl) + 1e-9


def test_the_bound_is_met_where_completions_are_many_and_their_rewards_differ() -> None:
    uniform_XM = torch.full((1, 20_000), -math.log(20_000), dtype=torch.float64)
    rewards_XM = torch.arange(20_000, dtype=torch.float64)[None]
    below_XM = rewards_XM / 20_000
    # As `best_of_n`, whose table of all pairs would be too large here: every reward is different.
    won_XM = ((below_XM + 1 / 20_000) ** 4 - below_XM**4).log()
    assert place(won_XM, uniform_XM, rewards_XM).kl == pytest.approx(best_of_n_bound(4), abs=1e-3)


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_the_reward_at_a_kl_is_that_of_the_optimum_with_this_kl(beta: float) -> None:
    at = place(optimum(REFERENCE, REWARDS, beta), REFERENCE, REWARDS)
    assert reward_at_kl(REFERENCE, REWARDS, at.kl) == pytest.approx(at.reward, abs=1e-9)


def test_beyond_the_kl_of_the_best_completions_alone_there_is_no_more_reward() -> None:
    assert reward_at_kl(REFERENCE, REWARDS, 50.0) == pytest.approx(WORLDS["graded"].ceiling(), abs=1e-15)


def test_a_policy_that_never_writes_a_completion_has_a_finite_kl() -> None:
    certain_XM = torch.full_like(REFERENCE, -math.inf)
    certain_XM[:, 3] = 0.0
    assert place(certain_XM, REFERENCE, REWARDS).kl == pytest.approx(float(-REFERENCE[:, 3].mean()), abs=1e-12)


def test_without_a_kl_weight_there_is_no_closed_form() -> None:
    with pytest.raises(BadInput, match="beta = 0"):
        greatest_objective(REFERENCE, REWARDS, 0.0)
