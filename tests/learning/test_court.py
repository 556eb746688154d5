"""The court's known answers: each pitfall that is arithmetic, as an exact expectation over all batches."""

from __future__ import annotations

import itertools
import math
from functools import cache

import msgspec
import pytest
import torch

from lockedroom.learning.court import (
    Batches,
    Finding,
    Judge,
    all_batches,
    batch_tensors,
    builtin_judge,
    drawn_batches,
    estimator_slopes,
    every_combination,
    gradients,
    judge,
)
from lockedroom.learning.court_worlds import bandit_world, large_world, second_update, text_world
from lockedroom.learning.enumeration import exact_gradient, logprobs
from lockedroom.learning.estimator import PRESETS, Estimator, biased, make_estimator

BETA = 0.1


WORLDS = {"bandit": bandit_world(), "text": text_world(), "reused": second_update(text_world())}


@cache
def _batches(name: str, group: int = 2) -> Batches:
    return all_batches(WORLDS[name], group)


@cache
def _judge(name: str) -> Judge:
    return builtin_judge(_batches(name))


def _noise(found: Finding) -> float:
    assert found.noise is not None
    return found.noise


def _of(name: str, **fields: object) -> Finding:
    return _judge(name)(make_estimator(fields))


@pytest.mark.parametrize("name", ["bandit", "text", "reused"])
def test_the_probabilities_of_all_batches_sum_to_one(name: str) -> None:
    assert float(_batches(name).weights_B.sum()) == pytest.approx(1)


def test_of_every_combination_the_lab_says_what_enumeration_finds() -> None:
    combinations = every_combination(BETA)
    assert len(combinations) == 460
    assert len({*combinations}) == 460
    wrong = [one for one in combinations if bool(biased(one)) != (_judge("text")(one).verdict != "UNBIASED")]
    assert wrong == []


@pytest.mark.parametrize("name", ["bandit", "text"])
@pytest.mark.parametrize("baseline", ["none", "ema", "leave-one-out", "value"])
def test_a_baseline_without_the_own_reward_leaves_the_gradient_as_it_is(name: str, baseline: str) -> None:
    assert _of(name, baseline=baseline).bias < 1e-12


@pytest.mark.parametrize("name", ["bandit", "text"])
@pytest.mark.parametrize(("baseline", "n"), [("group-mean", 2), ("batch-mean", 4)])
def test_a_mean_with_the_own_reward_gives_exactly_1_minus_1_over_n_of_the_gradient(
    name: str, baseline: str, n: int
) -> None:
    found = _of(name, baseline=baseline)
    assert found.scale == pytest.approx(1 - 1 / n, abs=1e-12)
    assert found.cosine == pytest.approx(1, abs=1e-12)
    assert found.verdict == "BIASED"


@pytest.mark.parametrize("per", ["token", "completion"])
def test_k1_as_a_loss_does_nothing_and_is_broken(per: str) -> None:
    found = _of("text", kl="k1-in-loss", kl_per=per, beta=BETA)
    assert (found.verdict, found.said) == ("BROKEN", "the KL term has expected gradient zero")
    assert found.kl_scale == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("term", ["k1-in-reward", "k2-in-loss", "k3-ratio-in-loss", "exact-in-loss"])
def test_kl_of_whole_completions_pulls_as_it_should(term: str) -> None:
    found = _of("text", kl=term, beta=BETA)
    assert found.bias < 1e-12
    assert found.kl_cosine == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("term", ["k2-in-loss", "k3-ratio-in-loss", "exact-in-loss"])
def test_kl_in_the_loss_token_by_token_misses_what_a_token_does_to_later_ones(term: str) -> None:
    assert _of("text", kl=term, kl_per="token", beta=BETA).verdict == "BIASED"
    assert _of("bandit", kl=term, kl_per="token", beta=BETA).verdict == "UNBIASED"  # there is no later token


def test_kl_in_the_reward_from_each_token_on_is_exact_and_less_noisy() -> None:
    token, whole = (_of("text", kl="k1-in-reward", kl_per=per, beta=BETA) for per in ("token", "completion"))
    assert token.bias < 1e-12
    assert _noise(token) < _noise(whole)


def test_k3_as_a_loss_pulls_towards_the_forward_kl() -> None:
    found = _of("text", kl="k3-in-loss", beta=BETA)
    assert found.verdict == "BIASED"
    assert found.kl_cosine == pytest.approx(0.94, abs=0.03)


def test_the_mean_over_a_completions_own_tokens_turns_the_gradient_only_where_lengths_differ() -> None:
    assert _of("text", normalisation="per-completion").cosine < 0.99
    assert _of("bandit", normalisation="per-completion").verdict == "UNBIASED"


@pytest.mark.parametrize(("name", "width"), [("bandit", 1), ("text", 2)])
def test_dividing_by_the_token_limit_shortens_the_gradient_and_nothing_else(name: str, width: int) -> None:
    found = _of(name, normalisation="max-tokens")
    assert found.scale == pytest.approx(1 / width, abs=1e-12)
    assert found.cosine == pytest.approx(1, abs=1e-12)


def test_the_standard_deviation_weighs_prompts_by_how_hard_they_are() -> None:
    """In pairs of binary rewards it is one number; from four completions on it turns the gradient between prompts."""
    scaled = make_estimator({"baseline": "leave-one-out", "scale": "group-std"})
    assert _judge("bandit")(scaled).cosine == pytest.approx(1, abs=1e-9)
    assert builtin_judge(_batches("bandit", 4))(scaled).cosine < 1 - 1e-5
    assert _judge("text")(scaled).cosine < 0.99  # there a reward is partial


def test_a_second_update_on_the_same_completions_is_biased_with_and_without_clipping() -> None:
    reuse = _judge("reused")
    free, clipped = reuse(Estimator(epochs=2)), reuse(Estimator(epochs=2, clip_low=0.2, clip_high=0.2))
    assert free.verdict == clipped.verdict == "BIASED"
    assert clipped.cosine < free.cosine


def test_a_lost_sign_is_caught() -> None:
    batches = _batches("text")
    gradients_BD = gradients(batches, estimator_slopes(Estimator(), batch_tensors(batches)))
    found = judge(batches, -gradients_BD, 0.0)
    assert found.verdict == "BROKEN"
    assert found.cosine == pytest.approx(-1)
    assert "away" in found.said


def test_sampling_at_another_temperature_than_the_loss_believes_is_caught() -> None:
    world = text_world()
    hotter = msgspec.structs.replace(world, old_logits_XSV=world.logits_XSV / 1.5)
    found = builtin_judge(all_batches(hotter, 2))(Estimator())
    assert found.verdict == "BIASED"
    assert found.bias > 0.05


@pytest.mark.parametrize("baseline", ["leave-one-out", "group-mean"])
def test_a_gradient_that_failed_scores_thin_out_is_that_of_the_scored(baseline: str) -> None:
    """Every pattern of failures that leaves a pair: with leave-one-out the expectation is ∇J, whatever the pattern."""
    from lockedroom.learning.advantages import estimate_advantages

    world = msgspec.structs.replace(bandit_world(), rewards_XM=torch.tensor([[1.0, 0.0, 0.5]] * 2).double())
    old_XM = logprobs(world.listed, world.logits_XSV).exp()
    target_V = exact_gradient(world)[0, 0] * 2
    for scored in [(1, 1, 0), (1, 1, 1), (0, 1, 1)]:
        total_V = torch.zeros(3, dtype=torch.float64)
        for arms in itertools.product(range(3), repeat=3):
            rewards_PG, scored_PG = world.rewards_XM[0][list(arms)].unsqueeze(0), torch.tensor([scored]).bool()
            done = estimate_advantages(
                make_estimator({"baseline": baseline}), rewards_PG, scored_PG, torch.ones(3, 1).bool()
            )
            score_NV = torch.eye(3).double()[list(arms)] - old_XM[0]
            total_V += old_XM[0][list(arms)].prod() * (done.advantages_NT * score_NV).sum(0) / done.completions
        factor = 1 if baseline == "leave-one-out" else 1 - 1 / sum(scored)
        assert torch.allclose(total_V, factor * target_V, atol=1e-12)


@pytest.mark.parametrize("name", ["bandit", "text"])
def test_the_best_constant_baseline_is_the_unit_of_noise(name: str) -> None:
    """REINFORCE with each prompt's b* as its value has noise one; no preset that is unbiased and constant has less."""
    from lockedroom.learning.enumeration import baseline_facts

    batches = _batches(name)
    best_X1 = torch.tensor([[facts.best_baseline] for facts in baseline_facts(batches.world)], dtype=torch.float64)
    world = msgspec.structs.replace(batches.world, values_XS=best_X1.expand_as(batches.world.values_XS))
    constant = builtin_judge(all_batches(world, 2))(Estimator(baseline="value"))
    assert constant.noise == pytest.approx(1)
    for baseline in ("none", "ema"):
        assert _noise(_of(name, baseline=baseline)) >= 1


@pytest.mark.parametrize("factor", [0.25, 3.0])
def test_noise_is_of_the_gradient_brought_to_scale_one(factor: float) -> None:
    """A loss times a constant is no quieter: trace Var(c·g) / c² is trace Var(g)."""
    batches = _batches("text")
    given_BD = gradients(batches, estimator_slopes(Estimator(baseline="leave-one-out"), batch_tensors(batches)))
    whole, scaled = (judge(batches, c * given_BD, 0.0) for c in (1.0, factor))
    assert _noise(scaled) == pytest.approx(_noise(whole))
    mean_D = batches.weights_B @ given_BD
    variance = float(batches.weights_B @ (given_BD - mean_D).square().sum(-1))
    assert _noise(whole) == pytest.approx(variance / batches.best_variance)


def test_the_drawn_bias_is_the_mean_product_of_different_batches() -> None:
    """The U-statistic of ‖E off‖²: the mean of off_i·off_j over i ≠ j, which has no part of the noise in it."""
    batches = drawn_batches(text_world(), 2, 6, seed=3)
    target_D = batches.target(0.0)
    off_BD = torch.randn(6, len(target_D), generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 2
    products_BB = off_BD @ off_BD.T
    between = float(products_BB.sum() - products_BB.diagonal().sum()) / (6 * 5)
    assert judge(batches, target_D + off_BD, 0.0).bias == pytest.approx(math.sqrt(between) / float(target_D.norm()))


@pytest.mark.parametrize(("cosine", "verdict"), [(-0.2, "BROKEN"), (0.2, "BIASED")])
def test_a_kl_term_that_pushes_away_at_all_is_broken(cosine: float, verdict: str) -> None:
    batches = _batches("text")
    pull_D = BETA * batches.kl_D
    aside_D = torch.randn(len(pull_D), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    aside_D -= pull_D * (aside_D @ pull_D) / (pull_D @ pull_D)
    term_D = cosine * pull_D + math.sqrt(1 - cosine**2) * float(pull_D.norm()) * aside_D / float(aside_D.norm())
    plain_BD = batches.reward_D.expand(len(batches.rows_BN), -1)
    found = judge(batches, plain_BD + term_D, BETA, plain_BD=plain_BD)
    assert found.kl_cosine == pytest.approx(cosine)
    assert found.verdict == verdict


def test_drawn_batches_agree_with_the_listed_ones() -> None:
    drawn = builtin_judge(drawn_batches(text_world(), 2, 4000, seed=1))
    for estimator in (PRESETS["rloo"], PRESETS["grpo"], PRESETS["dr-grpo"]):
        exact, found = _judge("text")(estimator), drawn(estimator)
        assert found.bias_low <= exact.bias <= found.bias_high
        assert found.noise == pytest.approx(exact.noise, rel=0.2)


def test_the_interval_accuses_no_unbiased_estimator_in_twenty_draws() -> None:
    world = large_world()
    for seed in range(20):
        assert builtin_judge(drawn_batches(world, 4, 200, seed))(Estimator(baseline="ema")).verdict == "UNBIASED"


def test_nothing_the_court_says_is_not_a_number() -> None:
    for name in ("bandit", "text"):
        for estimator in PRESETS.values():
            found = _judge(name)(estimator)
            assert all(math.isfinite(x) for x in (found.bias, found.scale, found.cosine))
