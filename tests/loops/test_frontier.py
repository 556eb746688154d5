"""The frontier: policies that the learner made land on the closed form, and the saved folder says so again."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lockedroom.errors import BadInput
from lockedroom.learning.bandit import completion_logprobs, mean_rewards
from lockedroom.learning.bandit_worlds import find_world, first_policy
from lockedroom.learning.frontier import place
from lockedroom.loops.microscope.frontier import trace_frontier
from lockedroom.policy.tabular import TabularPolicy
from lockedroom.results.microscope.frontier import BestOfN, FrontierSetting, Learned, break_even, render_frontier


def _setting(**given: Any) -> FrontierSetting:
    return FrontierSetting(**{"betas": (0.3,), "ns": (1, 2), "steps": 10, **given})


def test_learned_policies_land_on_the_closed_form_optimum() -> None:
    result = trace_frontier(_setting(betas=(0.5, 0.1), steps=200))
    for one in result.learned:
        assert 0 <= one.gap < 0.002
        assert one.reward == pytest.approx(one.optimum_reward, abs=0.01)
        assert one.kl == pytest.approx(one.optimum_kl, abs=0.03)
    assert "Every learned policy is on the frontier" in render_frontier(result)


def test_a_policy_that_has_not_arrived_is_said_not_to_have() -> None:
    result = trace_frontier(_setting(betas=(0.1,), steps=3))
    assert result.learned[0].gap > 0.1
    assert "β = 0.1 has not arrived" in render_frontier(result)


def test_no_point_lies_above_the_frontier_and_best_of_one_is_the_reference() -> None:
    result = trace_frontier(_setting(ns=(1, 2, 8, 64)))
    assert result.best_of_n[0].reward == pytest.approx(result.reference_reward, abs=1e-12)
    assert all(one.reward <= one.frontier_reward + 1e-9 for one in result.best_of_n)
    assert all(one.kl <= one.kl_bound + 1e-12 for one in result.best_of_n)
    rewards = [one.reward for one in result.curve]
    assert rewards == sorted(rewards)


def test_training_is_repaid_against_the_smallest_best_of_n_that_earns_as_much() -> None:
    learned = Learned(0.1, 0.5, 1.0, 0.5, 1.0, 0.4, 0.4, 0.0, 3000)
    best = [BestOfN(n, reward, 0.0, 0.0, 1.0) for n, reward in ((1, 0.9), (2, 0.4), (5, 0.5), (9, 0.8))]
    assert break_even(learned, best, 3) == pytest.approx(3000 / (4 * 3))
    assert break_even(msgspec.structs.replace(learned, reward=0.95), best, 3) is None


def test_the_saved_policies_stand_where_the_result_says(tmp_path: Path) -> None:
    result = trace_frontier(_setting(betas=(1.0, 0.3)), tmp_path / "run", command=["lockedroom", "frontier"])
    world = find_world("graded")
    ref_CY = completion_logprobs(world, first_policy(world)).detach()
    for one in result.learned:
        policy = TabularPolicy.load(tmp_path / "run" / f"policy-beta-{one.beta:g}.safetensors")
        at = place(completion_logprobs(world, policy).detach(), ref_CY, mean_rewards(world))
        assert (at.reward, at.kl) == (one.reward, one.kl)
    assert (tmp_path / "run" / "manifest.json").is_file()
    with pytest.raises(BadInput, match="never written into"):
        trace_frontier(_setting(), tmp_path / "run")


def test_the_same_seed_gives_the_same_frontier_and_another_seed_other_learned_policies() -> None:
    first, again, other = (trace_frontier(_setting(seed=seed)) for seed in (1, 1, 2))
    assert msgspec.json.encode(first) == msgspec.json.encode(again)
    assert first.learned != other.learned
    assert first.best_of_n == other.best_of_n


@pytest.mark.parametrize(
    "given",
    [
        {"betas": ()},
        {"betas": (0.0,)},
        {"betas": (-1.0,)},
        {"betas": (math.nan,)},
        {"betas": (math.inf,)},
        {"betas": (0.1, 0.1)},
        {"ns": ()},
        {"ns": (0,)},
        {"ns": (10**9,)},
        {"ns": (2, 2)},
        {"draws": 1},
        {"steps": 0},
        {"seed": -1},
        {"world": "nowhere"},
        {"learning_rate": math.inf},
    ],
    ids=str,
)
def test_settings_without_a_frontier_are_refused(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        trace_frontier(_setting(**given), tmp_path / "run")
    assert not (tmp_path / "run").exists()
