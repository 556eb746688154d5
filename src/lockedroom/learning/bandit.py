"""Exact arithmetic of a policy in a world whose rounds and completions can be listed: no sampling, float64.

One draw is (round, completion) with probability p, reward r and score function s = ∇_θ log π(y|x). Then
J = Σ p·r, ∇J = Σ p·r·s, and the estimator g = (r − b)·s has, for any constant b, mean ∇J and variance
(the trace of its covariance)

    V(b) = Σ p·(r − b)²·‖s‖² − ‖∇J‖²  =  V(b*) + (b − b*)²·E‖s‖²,      b* = E[r·‖s‖²] / E‖s‖².

(Weaver & Tao 2001, "The optimal reward baseline for gradient-based reinforcement learning"; Greensmith, Bartlett & Baxter
2004, "Variance reduction techniques for gradient estimates".) V is a parabola around b*, so a baseline b beats no baseline
iff b lies between 0 and 2·b*; the mean reward makes it *worse* iff J > 2·b* (for J > 0). That happens where the rewarded
completions are the probable ones, whose ‖s‖ is small.
Shape letters: D draws listed, K parameters, B batches listed, G draws in a group, C contexts, Y completions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lockedroom.learning.bandit_worlds import World, list_rounds
from lockedroom.policy.tabular import TabularPolicy
from lockedroom.records import Sampling

Floats = NDArray[np.float64]
MAX_BATCHES = 200_000


class Draws(msgspec.Struct, frozen=True):
    """Everything that one draw can be. `context_D` and `round_D` say which context and which of nature's rounds it is of."""

    probability_D: Floats
    reward_D: Floats
    score_DK: Floats
    context_D: NDArray[np.int64]
    round_D: NDArray[np.int64]


class Batches(msgspec.Struct, frozen=True):
    """Every group of G draws of one round, with its probability; `reward_BG` and `score_BGK` are what it holds."""

    probability_B: Floats
    reward_BG: Floats
    score_BGK: Floats
    context_B: NDArray[np.int64]


class Moments(msgspec.Struct, frozen=True):
    """Of an estimator: its mean, and the trace of its covariance."""

    mean_K: Floats
    variance: float


def completion_logprobs(world: World, policy: TabularPolicy) -> Tensor:
    """Return logprobs_CY of every completion in every context, with gradients of the policy's own (a weighted one's too)."""
    listed = policy.completions()
    prompts = [policy.prompt_ids(context) for context in world.contexts]
    # Not `policy.training_pass`: what a WeightedPolicy makes of its gradient is what is compared with this one.
    given = TabularPolicy.training_pass(policy, prompts, [listed] * len(prompts), Sampling())
    return given.logprobs_NT.sum(-1).view(len(prompts), len(listed))


def mean_rewards(world: World) -> Tensor:
    """Return rewards_CY: what each completion is paid on average."""
    return torch.tensor(world.mean_pays, dtype=torch.float64)


def exact_objective(world: World, policy: TabularPolicy) -> tuple[float, Tensor]:
    """Return J and ∇J, the latter in the shape of the policy's logits."""
    reward = (completion_logprobs(world, policy).exp() * mean_rewards(world)).sum(-1).mean()
    return float(reward.detach()), torch.autograd.grad(reward, policy.parameters())[0]


def score_functions(world: World, policy: TabularPolicy) -> Floats:
    """Return score_CYK = ∇_θ log π(y | x) of every completion in every context."""
    logprobs_CY = completion_logprobs(world, policy)
    rows = [
        torch.autograd.grad(one, policy.parameters(), retain_graph=True)[0].flatten() for one in logprobs_CY.ravel()
    ]
    found: Floats = torch.stack(rows).view(*logprobs_CY.shape, -1).numpy()
    return found


def list_draws(world: World, policy: TabularPolicy) -> Draws:
    """Return every (round, completion) with its probability, reward and score function."""
    rounds = list_rounds(world)
    probability_CY = completion_logprobs(world, policy).detach().exp().numpy()
    score_CYK = score_functions(world, policy)
    Y = len(world.texts)
    return Draws(
        np.concatenate([one.probability * probability_CY[one.context] for one in rounds]),
        np.concatenate([np.asarray(one.payoffs_Y, dtype=np.float64) for one in rounds]),
        np.concatenate([score_CYK[one.context] for one in rounds]),
        np.repeat([one.context for one in rounds], Y),
        np.repeat(np.arange(len(rounds)), Y),
    )


def expected_reward(draws: Draws) -> float:
    return math.fsum(draws.probability_D * draws.reward_D)


def gradient(draws: Draws) -> Floats:
    """Return ∇J_K = E[r·s]."""
    found: Floats = (draws.probability_D * draws.reward_D) @ draws.score_DK
    return found


def mean_squared_score(draws: Draws) -> float:
    """Return E‖s‖²: how fast variance grows as a baseline leaves b*."""
    return math.fsum(draws.probability_D * (draws.score_DK**2).sum(-1))


def optimal_baseline(draws: Draws) -> float:
    """Return b*, the constant of least variance; 0 where no score has any length (a policy that cannot move)."""
    norms_D = (draws.score_DK**2).sum(-1)
    weight = math.fsum(draws.probability_D * norms_D)
    return math.fsum(draws.probability_D * norms_D * draws.reward_D) / weight if weight > 0 else 0.0


def variance(draws: Draws, baseline: float) -> float:
    """Return V(b) of the estimator (r − b)·s from one draw."""
    norms_D = (draws.score_DK**2).sum(-1)
    second = math.fsum(draws.probability_D * (draws.reward_D - baseline) ** 2 * norms_D)
    return second - float((gradient(draws) ** 2).sum())


def mean_by_context(draws: Draws) -> dict[int, float]:
    """Return E[r | context]: what a value function that has converged says before the draw."""
    found = {}
    for context in sorted(set(draws.context_D.tolist())):
        inside = draws.context_D == context
        weight = math.fsum(draws.probability_D[inside])
        found[context] = math.fsum((draws.probability_D * draws.reward_D)[inside]) / weight
    return found


def list_batches(draws: Draws, group: int) -> Batches | None:
    """Return every group of `group` draws of one round with its probability; None if there are more than MAX_BATCHES."""
    rounds = int(draws.round_D.max()) + 1
    members = [np.flatnonzero(draws.round_D == one) for one in range(rounds)]
    if sum(float(len(one)) ** group for one in members) > MAX_BATCHES:
        return None
    rows, weights, contexts = [], [], []
    for one in members:
        of_round = draws.probability_D[one].sum()
        conditional = draws.probability_D[one] / of_round
        for chosen in itertools.product(range(len(one)), repeat=group):
            rows.append(one[list(chosen)])
            weights.append(of_round * float(np.prod(conditional[list(chosen)])))
            contexts.append(int(draws.context_D[one[0]]))
    index_BG = np.stack(rows)
    return Batches(
        np.asarray(weights), draws.reward_D[index_BG], draws.score_DK[index_BG], np.asarray(contexts, dtype=np.int64)
    )


def moments(batches: Batches, advantage_BG: Floats) -> Moments:
    """Return mean and variance of the estimator (1/G) Σ_g A_g·s_g over all batches, weighted by their probability."""
    estimate_BK = (advantage_BG[..., None] * batches.score_BGK).mean(1)
    mean_K = batches.probability_B @ estimate_BK
    second = math.fsum(batches.probability_B * (estimate_BK**2).sum(-1))
    return Moments(mean_K, second - float((mean_K**2).sum()))


def share_of_gradient(estimate_K: Sequence[float] | Floats, gradient_K: Floats) -> float:
    """Return how much of ∇J an estimator's mean holds, along ∇J: 1 is unbiased in length, −1 is the wrong way."""
    squared = float((gradient_K**2).sum())
    return float(np.asarray(estimate_K) @ gradient_K) / squared if squared > 0 else 0.0


def reward_variance(batches: Batches) -> float:
    """Return the variance of a group's mean reward."""
    mean_B = batches.reward_BG.mean(1)
    mean = math.fsum(batches.probability_B * mean_B)
    return math.fsum(batches.probability_B * (mean_B - mean) ** 2)


def running_mean_variance(batches: Batches, decay: float) -> float:
    """Return the variance of b ← (1 − α)·b + α·(group's mean reward) at rest, under a policy that stands still: α/(2 − α) of theirs."""
    return decay / (2 - decay) * reward_variance(batches)
