"""Worlds where everything can be listed: sums, gradients, KL and its estimators, pass@k, best-of-n, the optimum."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from lockedroom.errors import BadInput
from lockedroom.learning import kl
from lockedroom.learning.court_worlds import bandit_world, large_world, text_world
from lockedroom.learning.enumeration import (
    MicroWorld,
    baseline_facts,
    best_of_n,
    entropy,
    exact_gradient,
    list_completions,
    logprobs,
    objective,
    optimum,
    pass_at_k,
    reverse_kl,
    scores,
    token_logprobs,
)

WORLDS = [bandit_world(), text_world(), large_world()]
each_world = pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)


def _policy(world: MicroWorld) -> tuple[Tensor, Tensor]:
    return logprobs(world.listed, world.logits_XSV), logprobs(world.listed, world.ref_logits_XSV)


def test_five_letters_and_an_end_make_156_completions_of_up_to_three_tokens() -> None:
    listed = list_completions(6, 3)
    texts = {tuple(t[m].tolist()) for t, m in zip(listed.tokens_MT, listed.mask_MT, strict=True)}
    assert (len(texts), len(listed.tokens_MT), listed.states) == (156, 156, 31)
    assert all(5 not in text[:-1] for text in texts)


@pytest.mark.parametrize(("vocabulary", "length"), [(9, 2), (2, 5), (1, 2), (3, 0)])
def test_a_world_too_large_to_list_is_refused(vocabulary: int, length: int) -> None:
    with pytest.raises(BadInput, match="at most 8 and 4"):
        list_completions(vocabulary, length)


@each_world
def test_probabilities_of_all_completions_sum_to_one(world: MicroWorld) -> None:
    assert torch.allclose(_policy(world)[0].exp().sum(-1), torch.ones(len(world.rewards_XM), dtype=torch.float64))


@each_world
def test_the_reward_weighted_score_is_the_gradient_of_the_expected_reward(world: MicroWorld) -> None:
    weight_XM = _policy(world)[0].exp() * world.rewards_XM / len(world.rewards_XM)
    sum_XSV = torch.einsum("xm,xmtsv->xsv", weight_XM, scores(world.listed, world.logits_XSV))
    assert float((sum_XSV - exact_gradient(world)).abs().max()) < 1e-15


def test_the_exact_gradient_is_that_of_finite_differences() -> None:
    world, step, beta = text_world(), 1e-6, 0.3
    gradient_XSV = exact_gradient(world, beta)
    for index in itertools.product(*map(range, gradient_XSV.shape)):
        moved_XSV = torch.zeros_like(gradient_XSV)
        moved_XSV[index] = step
        up, down = (objective(world, world.logits_XSV + sign * moved_XSV, beta) for sign in (1, -1))
        assert float(gradient_XSV[index]) == pytest.approx(float((up - down) / (2 * step)), abs=1e-9)


@each_world
def test_k1_and_k3_have_the_right_value_and_k2_has_not(world: MicroWorld) -> None:
    policy_XM, ref_XM = _policy(world)
    exact_X = reverse_kl(policy_XM, ref_XM)
    ratio_XM = policy_XM - ref_XM
    value = {
        name: (policy_XM.exp() * term(ratio_XM)).sum(-1) for name, term in (("k1", kl.k1), ("k2", kl.k2), ("k3", kl.k3))
    }
    assert torch.allclose(value["k1"], exact_X, atol=1e-12)
    assert torch.allclose(value["k3"], exact_X, atol=1e-12)
    assert float((value["k2"] - exact_X).abs().min()) > 1e-4


@each_world
def test_an_inverted_log_ratio_has_another_value(world: MicroWorld) -> None:
    policy_XM, ref_XM = _policy(world)
    inverted_X = (policy_XM.exp() * kl.k1(ref_XM - policy_XM)).sum(-1)
    assert torch.allclose(inverted_X, -reverse_kl(policy_XM, ref_XM))


def _loss_gradient(world: MicroWorld, term: str, *, ratio: bool = False) -> Tensor:
    """Return E[∇ term(log π/π_ref)] over completions drawn from π: what a KL in the loss pulls with."""
    logits_XSV = world.logits_XSV.clone().requires_grad_()
    policy_XM, ref_XM = logprobs(world.listed, logits_XSV), _policy(world)[1]
    values_XM = getattr(kl, term)(policy_XM - ref_XM)
    if ratio:
        values_XM = values_XM * (policy_XM - policy_XM.detach()).exp()
    (gradient_XSV,) = torch.autograd.grad((policy_XM.detach().exp() * values_XM).sum(-1).mean(), logits_XSV)
    return gradient_XSV


def _kl_gradient(world: MicroWorld, *, forward: bool) -> Tensor:
    logits_XSV = world.logits_XSV.clone().requires_grad_()
    pair = [logprobs(world.listed, logits_XSV), _policy(world)[1]]
    value = reverse_kl(pair[1], pair[0]) if forward else reverse_kl(pair[0], pair[1])
    (gradient_XSV,) = torch.autograd.grad(value.mean(), logits_XSV)
    return gradient_XSV


@each_world
def test_k1_as_a_loss_has_expected_gradient_zero(world: MicroWorld) -> None:
    assert float(_loss_gradient(world, "k1").abs().max()) < 1e-15
    assert float(_kl_gradient(world, forward=False).norm()) > 0.01


@each_world
def test_k2_as_a_loss_has_the_gradient_of_the_reverse_kl(world: MicroWorld) -> None:
    assert torch.allclose(_loss_gradient(world, "k2"), _kl_gradient(world, forward=False), atol=1e-15)


@each_world
def test_k3_as_a_loss_has_the_gradient_of_the_forward_kl(world: MicroWorld) -> None:
    assert torch.allclose(_loss_gradient(world, "k3"), _kl_gradient(world, forward=True), atol=1e-15)
    assert float((_loss_gradient(world, "k3") - _kl_gradient(world, forward=False)).norm()) > 0.001


@each_world
def test_k3_times_the_importance_ratio_has_the_gradient_of_the_reverse_kl(world: MicroWorld) -> None:
    assert torch.allclose(_loss_gradient(world, "k3", ratio=True), _kl_gradient(world, forward=False), atol=1e-15)


@each_world
def test_the_exact_kl_of_the_states_visited_sums_to_the_kl_of_completions(world: MicroWorld) -> None:
    listed = world.listed
    tables = (world.logits_XSV.log_softmax(-1), world.ref_logits_XSV.log_softmax(-1))
    policy_NTV, ref_NTV = (table_XSV[:, listed.states_MT].flatten(0, 1) for table_XSV in tables)
    mask_NT = listed.mask_MT.repeat(len(world.rewards_XM), 1)
    kl_NT = kl.exact_per_state(policy_NTV, ref_NTV).where(mask_NT, 0.0)
    states_XM = kl_NT.sum(-1).view(len(world.rewards_XM), -1)
    policy_XM, ref_XM = _policy(world)
    assert torch.allclose((policy_XM.exp() * states_XM).sum(-1), reverse_kl(policy_XM, ref_XM), atol=1e-12)


def test_far_from_the_reference_k3_is_far_noisier_than_k1() -> None:
    world = large_world()
    policy_XM = logprobs(world.listed, 6 * world.logits_XSV)
    ratio_XM = policy_XM - _policy(world)[1]
    spread = {}
    for name, term in (("k1", kl.k1), ("k3", kl.k3)):
        mean_X1 = (policy_XM.exp() * term(ratio_XM)).sum(-1, keepdim=True)
        spread[name] = (policy_XM.exp() * (term(ratio_XM) - mean_X1).square()).sum(-1).sqrt().max()
    assert float(spread["k3"]) > 20 * float(spread["k1"])


@each_world
def test_no_policy_beats_the_closed_form_optimum(world: MicroWorld) -> None:
    beta, ref_XM = 0.2, _policy(world)[1]
    best_XM = optimum(ref_XM, world.rewards_XM, beta)

    def value(policy_XM: Tensor) -> float:
        return float(((policy_XM.exp() * world.rewards_XM).sum(-1) - beta * reverse_kl(policy_XM, ref_XM)).mean())

    partition = beta * torch.logsumexp(ref_XM + world.rewards_XM / beta, -1).mean()
    assert value(best_XM) == pytest.approx(float(partition))
    generator = torch.Generator().manual_seed(0)
    for size in (1e-3, 0.1, 1.0):
        other_XM = best_XM + size * torch.randn(best_XM.shape, generator=generator, dtype=torch.float64)
        assert value(other_XM.log_softmax(-1)) < value(best_XM)


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan")])
def test_without_a_price_on_kl_there_is_no_closed_form(beta: float) -> None:
    with pytest.raises(BadInput, match="above 0"):
        optimum(torch.zeros(1, 2), torch.zeros(1, 2), beta)


@each_world
@pytest.mark.parametrize("n", [1, 2, 3])
def test_best_of_n_is_what_listing_all_draws_gives(world: MicroWorld, n: int) -> None:
    policy_M, rewards_M = _policy(world)[0][0].exp()[:7], world.rewards_XM[0][:7]
    policy_M = policy_M / policy_M.sum()
    expected_M = torch.zeros_like(policy_M)
    for drawn in itertools.product(range(len(policy_M)), repeat=n):
        first_best = max(drawn, key=lambda i: float(rewards_M[i]))
        expected_M[first_best] += policy_M[list(drawn)].prod()
    found_M = best_of_n(policy_M.log().unsqueeze(0), rewards_M.unsqueeze(0), n).exp()[0]
    assert torch.allclose(found_M, expected_M, atol=1e-12)


def test_best_of_no_draw_is_refused() -> None:
    with pytest.raises(BadInput, match="1 or more"):
        best_of_n(torch.zeros(1, 1), torch.zeros(1, 1), 0)


@each_world
def test_pass_at_k_is_what_best_of_k_passes(world: MicroWorld) -> None:
    policy_XM, passed_XM = _policy(world)[0], (world.rewards_XM >= 1).double()
    for k in (1, 2, 4):
        best = (best_of_n(policy_XM, passed_XM, k).exp() * passed_XM).sum(-1).mean()
        assert float(pass_at_k(policy_XM, passed_XM, k)) == pytest.approx(float(best))


@each_world
def test_entropy_is_that_of_the_tokens_added_up(world: MicroWorld) -> None:
    policy_XM = _policy(world)[0]
    tokens_XMT = token_logprobs(world.listed, world.logits_XSV)
    assert torch.allclose(entropy(policy_XM), -(policy_XM.exp() * tokens_XMT.sum(-1)).sum(-1))


@each_world
def test_no_constant_baseline_is_better_than_b_star(world: MicroWorld) -> None:
    policy_XM = _policy(world)[0].exp()
    square_XM = scores(world.listed, world.logits_XSV).sum(2).square().sum((-2, -1))
    for prompt, facts in enumerate(baseline_facts(world)):
        weight_M, reward_M = policy_XM[prompt] * square_XM[prompt], world.rewards_XM[prompt]
        for b in torch.linspace(-1, 2, 31).tolist():
            assert float((weight_M * (reward_M - b).square()).sum()) >= facts.second_best - 1e-12


def test_the_mean_reward_as_a_baseline_can_be_ten_times_worse_than_none() -> None:
    confident, ordinary = baseline_facts(bandit_world())
    assert confident.second_mean > 10 * confident.second_none
    assert ordinary.second_mean < ordinary.second_none
    # the condition: it helps if and only if the mean is nearer to b* than 0 is
    for facts in (confident, ordinary, *baseline_facts(large_world()), *baseline_facts(text_world())):
        nearer = abs(facts.mean_reward - facts.best_baseline) < abs(facts.best_baseline)
        assert nearer == (facts.second_mean < facts.second_none)
