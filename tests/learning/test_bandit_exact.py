"""The microscope's exact arithmetic, against finite differences and plain enumeration written out here."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lockedroom.errors import BadInput
from lockedroom.learning import bandit as exact
from lockedroom.learning.bandit_worlds import (
    WORLDS,
    PayoffScorer,
    World,
    draw_rounds,
    find_world,
    first_policy,
    list_rounds,
)
from lockedroom.learning.credit import WeightedPolicy, credit_ceiling, step_probabilities
from lockedroom.policy.tabular import TabularPolicy
from lockedroom.records import Example, Outcome, Sampling

BY_NAME = pytest.mark.parametrize("world", WORLDS.values(), ids=lambda world: world.name)


def _shaken(world: World, seed: int = 1) -> TabularPolicy:
    policy = first_policy(world)
    noise = torch.randn(policy.logits_SV.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    policy.logits_SV.data.add_(noise)
    return policy


def _expected(world: World, policy: TabularPolicy) -> float:
    return float((exact.completion_logprobs(world, policy).detach().exp() * exact.mean_rewards(world)).sum(-1).mean())


@BY_NAME
def test_the_gradient_of_the_expected_reward_is_that_of_finite_differences(world: World) -> None:
    policy = _shaken(world)
    reward, gradient_SV = exact.exact_objective(world, policy)
    assert reward == pytest.approx(_expected(world, policy), abs=1e-15)
    for row, column in itertools.product(*map(range, gradient_SV.shape)):
        ends = []
        for change in (1e-5, -1e-5):
            policy.logits_SV.data[row, column] += change
            ends.append(_expected(world, policy))
            policy.logits_SV.data[row, column] -= change
        assert float(gradient_SV[row, column]) == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-9)


@BY_NAME
def test_listing_every_draw_gives_the_same_reward_and_gradient(world: World) -> None:
    policy = _shaken(world)
    draws = exact.list_draws(world, policy)
    reward, gradient_SV = exact.exact_objective(world, policy)
    assert math.fsum(draws.probability_D) == pytest.approx(1, abs=1e-12)
    assert exact.expected_reward(draws) == pytest.approx(reward, abs=1e-14)
    assert exact.gradient(draws) == pytest.approx(gradient_SV.flatten().numpy(), abs=1e-14)


@BY_NAME
def test_the_score_function_has_mean_zero(world: World) -> None:
    draws = exact.list_draws(world, _shaken(world))
    assert np.abs(draws.probability_D @ draws.score_DK).max() < 1e-14


def test_the_score_of_a_bandit_is_one_for_the_arm_drawn_less_the_probabilities() -> None:
    world = WORLDS["stochastic"]
    policy = _shaken(world)
    probabilities_Y = exact.completion_logprobs(world, policy).detach().exp().numpy()[0]
    assert exact.score_functions(world, policy)[0][:, 1:] == pytest.approx(np.eye(3) - probabilities_Y, abs=1e-14)


@BY_NAME
@pytest.mark.parametrize("b", [-1.0, 0.0, 0.3, 2.0])
def test_variance_is_a_parabola_around_the_optimal_baseline(world: World, b: float) -> None:
    draws = exact.list_draws(world, _shaken(world))
    best = exact.optimal_baseline(draws)
    parabola = exact.variance(draws, best) + (b - best) ** 2 * exact.mean_squared_score(draws)
    assert exact.variance(draws, b) == pytest.approx(parabola, abs=1e-13)


@settings(max_examples=40)
@given(logits=st.lists(st.floats(-4, 4), min_size=3, max_size=3), seed=st.integers(0, 99))
def test_the_mean_reward_helps_exactly_where_it_lies_within_twice_the_optimum(logits: list[float], seed: int) -> None:
    pays = tuple(np.random.default_rng(seed).random(3))
    world = World("any", "", ("x",), ("A", "B", "C"), 1, ((1.0, 1.0, 1.0),), (pays,), {"": tuple(logits)})
    draws = exact.list_draws(world, first_policy(world))
    mean, best = exact.expected_reward(draws), exact.optimal_baseline(draws)
    margin = abs(mean - 2 * best) * mean * exact.mean_squared_score(draws)
    if margin > 1e-12:
        assert (exact.variance(draws, mean) < exact.variance(draws, 0.0)) == (mean < 2 * best)


def test_in_the_confident_world_the_mean_makes_variance_ninety_four_times_worse_and_the_optimum_better() -> None:
    draws = exact.list_draws(WORLDS["confident"], first_policy(WORLDS["confident"]))
    none, mean = exact.variance(draws, 0.0), exact.variance(draws, exact.expected_reward(draws))
    # By hand: π = (.9, .05, .05), ‖s‖² = .015 for the arm that pays and 1.715 for the others.
    assert exact.optimal_baseline(draws) == pytest.approx(0.9 * 0.015 / (0.9 * 0.015 + 0.1 * 1.715), rel=1e-12)
    assert none == pytest.approx(0.9 * 0.015 - (0.09**2 + 2 * 0.045**2), rel=1e-12)
    assert mean / none == pytest.approx(94, rel=1e-9)
    assert exact.variance(draws, exact.optimal_baseline(draws)) < none / 3


@BY_NAME
def test_groups_of_one_draw_have_the_moments_of_one_draw(world: World) -> None:
    draws = exact.list_draws(world, _shaken(world))
    batches = exact.list_batches(draws, 1)
    assert batches is not None
    found = exact.moments(batches, batches.reward_BG - 0.3)
    assert found.mean_K == pytest.approx(exact.gradient(draws), abs=1e-14)
    assert found.variance == pytest.approx(exact.variance(draws, 0.3), abs=1e-14)


def test_a_group_shares_its_round_so_its_probability_is_that_of_the_round_times_the_draws() -> None:
    world = WORLDS["contextual"]
    policy = _shaken(world)
    batches = exact.list_batches(exact.list_draws(world, policy), 2)
    assert batches is not None
    probability_CY = exact.completion_logprobs(world, policy).detach().exp().numpy()
    expected = []
    for one in list_rounds(world):
        for first, second in itertools.product(range(2), repeat=2):
            weight = one.probability * probability_CY[one.context][first] * probability_CY[one.context][second]
            expected.append((weight, one.payoffs_Y[first], one.payoffs_Y[second]))
    assert batches.probability_B == pytest.approx([one[0] for one in expected], abs=1e-15)
    assert batches.reward_BG.tolist() == [list(one[1:]) for one in expected]


def test_groups_too_many_to_list_are_not_listed() -> None:
    world = WORLDS["graded"]
    assert exact.list_batches(exact.list_draws(world, first_policy(world)), 40) is None


@pytest.mark.parametrize("name", ["stochastic", "contextual"])
def test_nature_pays_as_often_as_the_world_says(name: str) -> None:
    world = WORLDS[name]
    rounds = draw_rounds(world, seed=5, step=0, count=4000)
    for context, means in zip(world.contexts, world.mean_pays, strict=True):
        seen = [one for one in rounds if one.prompt == context]
        share = 1 / len(world.contexts)
        assert abs(len(seen) / 4000 - share) <= 4.5 * math.sqrt(share * (1 - share) / 4000)
        for text, mean in zip(world.texts, means, strict=True):
            paid = sum(one.expected_answer[text] for one in seen) / len(seen)
            assert abs(paid - mean) < 4.5 * math.sqrt(mean * (1 - mean) / len(seen))


def test_nature_is_the_same_for_the_same_seed_and_step_and_does_not_depend_on_how_many_rounds_are_asked() -> None:
    world = WORLDS["contextual"]
    assert draw_rounds(world, 3, 7, 5) == draw_rounds(world, 3, 7, 20)[:5]
    assert draw_rounds(world, 3, 7, 20) != draw_rounds(world, 3, 8, 20)
    assert draw_rounds(world, 3, 7, 20) != draw_rounds(world, 4, 7, 20)


def test_the_payoff_scorer_pays_what_the_card_says_and_names_what_is_no_choice() -> None:
    scorer, example = PayoffScorer(), Example(id="1", prompt="x", expected_answer={"A": 0.4, "B": 1.0, "C": 0.0})
    assert scorer.accepts(example.expected_answer)
    assert not scorer.accepts(7)
    assert [scorer.score(example, text).reward for text in "ABC"] == [0.4, 1.0, 0.0]
    assert [scorer.score(example, text).details.code for text in ("A", "B", "D")] == [
        "less_pay",
        "best_pay",
        "no_such_choice",
    ]
    assert scorer.score(example, "D").details.outcome is Outcome.MALFORMED


def test_an_unknown_world_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(BadInput, match="two-step"):
        find_world("nowhere")


def test_a_weighted_policy_reads_as_the_table_and_its_gradient_is_weighted_step_by_step() -> None:
    table = _shaken(WORLDS["two-step"])
    weighted = WeightedPolicy.over(table, (1.0, 0.0))
    listed = table.completions()
    passes = [
        policy.training_pass([policy.prompt_ids("go")], [listed], Sampling()).logprobs_NT
        for policy in (table, weighted)
    ]
    assert torch.equal(passes[0].detach(), passes[1].detach())
    gradients = [
        torch.autograd.grad(given[:, :2].sum(), policy.parameters())[0]
        for given, policy in zip(passes, (table, weighted), strict=True)
    ]
    assert torch.equal(gradients[1][0], gradients[0][0])
    assert float(gradients[1][1:].abs().max()) == 0
    assert float(gradients[0][1:].abs().max()) > 0


def test_the_ceiling_with_credit_to_one_step_is_what_a_search_over_that_step_finds() -> None:
    world = WORLDS["two-step"]
    policy = _shaken(world)
    first, second = step_probabilities(policy, "go")
    pay = dict(zip(world.texts, world.mean_pays[0], strict=True))
    of_first = max(sum(second[a][b] * pay["LR"[a] + "LR"[b]] for b in range(2)) for a in range(2))
    of_second = max(
        sum(first[a] * pay["LR"[a] + choice[a]] for a in range(2)) for choice in itertools.product("LR", repeat=2)
    )
    assert credit_ceiling(world, policy, "first") == pytest.approx(of_first, abs=1e-15)
    assert credit_ceiling(world, policy, "second") == pytest.approx(of_second, abs=1e-15)
    assert credit_ceiling(world, policy, "both") == 1.0
