"""Reward against KL, exactly: the best that any policy can do, and where a policy or best-of-n stands beside it.

Of all policies, the one that maximises E[R] − β·KL(π ‖ π_ref) is the tilted π*(y|x) = π_ref(y|x)·exp(R(x,y)/β) / Z(x), and
its objective is β·E_x[ln Z(x)] (Korbak, Perez & Buckley 2022, "RL with KL penalties is better viewed as Bayesian
inference"). So at its KL no policy has a greater reward: over β these points are the frontier.
Best-of-n draws n completions from π_ref and keeps the one of greatest reward, the first drawn of equals. Its KL is at most
ln n − (n−1)/n (Beirami et al. 2024, "Theoretical guarantees on the best-of-n alignment policy"), less where completions tie
in reward or single ones hold much probability; in a world that can be listed it is exact.
Shape letters: X prompts (equally likely), M completions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from lockedroom.errors import BadInput
from lockedroom.learning.enumeration import optimum

if TYPE_CHECKING:
    from torch import Tensor

# ln β between which the frontier is searched: from all but greedy to all but π_ref.
LOWEST, HIGHEST = -12.0, 12.0


class Point(msgspec.Struct, frozen=True):
    """A policy on the chart: E[R] and KL(π ‖ π_ref) in nats a completion, both exact."""

    reward: float
    kl: float


def place(logprobs_XM: Tensor, ref_logprobs_XM: Tensor, rewards_XM: Tensor) -> Point:
    """Return where a policy stands; completions that it never writes (log-probability −inf) count 0."""
    probabilities_XM = logprobs_XM.exp()
    ratio_XM = (logprobs_XM - ref_logprobs_XM).where(probabilities_XM > 0, 0.0)
    kl_X = (probabilities_XM * ratio_XM).sum(-1)
    return Point(float((probabilities_XM * rewards_XM).sum(-1).mean()), float(kl_X.mean()))


def greatest_objective(ref_logprobs_XM: Tensor, rewards_XM: Tensor, beta: float) -> float:
    """Return max over all policies of E[R] − β·KL = β·E_x[ln Σ_y π_ref·exp(R/β)]."""
    if not beta > 0:
        raise BadInput(f"beta = {beta}: the optimum has a closed form only for beta above 0")
    return beta * float((ref_logprobs_XM + rewards_XM / beta).logsumexp(-1).mean())


def reward_at_kl(ref_logprobs_XM: Tensor, rewards_XM: Tensor, kl: float) -> float:
    """Return the greatest E[R] of any policy whose KL is at most `kl`, by bisection on ln β.

    Above the KL at which only best completions are left, it is the ceiling.
    """

    def at(log_beta: float) -> Point:
        tilted_XM = optimum(ref_logprobs_XM, rewards_XM, math.exp(log_beta))
        return place(tilted_XM, ref_logprobs_XM, rewards_XM)

    low, high = LOWEST, HIGHEST
    if kl >= at(low).kl:
        return float(rewards_XM.amax(-1).mean())
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle).kl > kl else (low, middle)
    return at(high).reward


def best_of_n_bound(n: int) -> float:
    """Return ln n − (n−1)/n, an upper bound on the KL of best-of-n, in nats."""
    return math.log(n) - (n - 1) / n
