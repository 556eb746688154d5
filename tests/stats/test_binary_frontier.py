"""The best that can be right at each KL, from pass probabilities alone: agrees with listing, bounds everything else."""

from __future__ import annotations

import math

import pytest

from lockedroom.errors import BadInput
from lockedroom.learning import enumeration
from lockedroom.learning.court_worlds import large_world
from lockedroom.learning.frontier import place
from lockedroom.learning.frontier import reward_at_kl as listed_reward_at_kl
from lockedroom.stats.frontier import optimum, reward_at_kl
from lockedroom.stats.selection import best_of_n_kl_binary

WORLD = large_world()
REF_XM = enumeration.logprobs(WORLD.listed, WORLD.ref_logits_XSV)
RATES = (REF_XM.exp() * WORLD.rewards_XM).sum(-1).tolist()


@pytest.mark.parametrize("beta", [0.02, 0.3, 1.0, 20.0])
def test_the_optimum_is_that_of_a_world_in_which_all_completions_are_listed(beta: float) -> None:
    listed = place(enumeration.optimum(REF_XM, WORLD.rewards_XM, beta), REF_XM, WORLD.rewards_XM)
    found = optimum(RATES, beta)
    assert (found.reward, found.kl) == pytest.approx((listed.reward, listed.kl), abs=1e-12)


@pytest.mark.parametrize("kl", [0.0, 0.1, 0.7, 5.0])
def test_the_reward_at_a_kl_is_that_of_the_listed_world(kl: float) -> None:
    assert reward_at_kl(RATES, kl) == pytest.approx(listed_reward_at_kl(REF_XM, WORLD.rewards_XM, kl), abs=1e-5)


@pytest.mark.parametrize("n", [2, 8, 64])
def test_best_of_n_is_never_above_it(n: int) -> None:
    rates = [0.05, 0.5, 0.9, 1.0, 0.0]
    kl = sum(best_of_n_kl_binary(rate, n) for rate in rates) / 5
    assert reward_at_kl(rates, kl) >= sum(1 - (1 - rate) ** n for rate in rates) / 5 - 1e-12


def test_what_always_or_never_passes_costs_nothing_and_stays() -> None:
    found = optimum([0.0, 1.0], 0.1)
    assert (found.reward, found.kl) == (0.5, 0.0)
    assert reward_at_kl([0.0, 1.0], 3.0) == 0.5


def test_a_tiny_weight_on_kl_is_no_overflow() -> None:
    found = optimum([0.25], 1e-9)
    assert (found.reward, found.kl) == pytest.approx((1.0, math.log(4)))


@pytest.mark.parametrize(
    ("rates", "beta"), [([0.5], 0.0), ([0.5], math.nan), ([], 1.0), ([1.5], 1.0), ([math.nan], 1.0)]
)
def test_what_has_no_closed_form_is_bad_input(rates: list[float], beta: float) -> None:
    with pytest.raises(BadInput):
        optimum(rates, beta)
