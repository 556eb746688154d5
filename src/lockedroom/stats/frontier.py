"""The most that can be right at each KL, for binary rewards: from every example's pass probability p alone.

Of all policies, π* ∝ π_ref·exp(R/β) has the least KL for its reward. With rewards 0 and 1 it passes with probability
q = p·e^(1/β) / (p·e^(1/β) + 1 − p), at KL = q ln(q/p) + (1−q) ln((1−q)/(1−p)). Letter: E examples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from lockedroom.errors import BadInput

# ln β between which the frontier is searched: from all but always right to all but π_ref.
_LOWEST, _HIGHEST = -12.0, 12.0


class Optimum(msgspec.Struct, frozen=True, gc=False):
    """The best policy at β: mean pass probability and mean KL, in nats a completion."""

    reward: float
    kl: float


def optimum(rates: Sequence[float], beta: float) -> Optimum:
    """Return where π* stands at β. An example that never or always passes stays as it is. Raises BadInput."""
    if not beta > 0:
        raise BadInput(f"beta = {beta}: the optimum has a closed form only for beta above 0")
    rates_E = np.asarray(rates, dtype=np.float64)
    if not len(rates_E) or not bool(((rates_E >= 0) & (rates_E <= 1)).all()):
        raise BadInput("pass probabilities must be between 0 and 1, and there must be one")
    open_E = (rates_E > 0) & (rates_E < 1)
    p = rates_E[open_E]
    log_p, log_miss = np.log(p), np.log1p(-p)
    odds = log_p - log_miss + 1 / beta
    log_q, log_not_q = -np.logaddexp(0, -odds), -np.logaddexp(0, odds)
    q = np.exp(log_q)
    kl = q * (log_q - log_p) + np.exp(log_not_q) * (log_not_q - log_miss)
    return Optimum(float(q.sum() + (rates_E == 1).sum()) / len(rates_E), float(kl.sum()) / len(rates_E))


def reward_at_kl(rates: Sequence[float], kl: float) -> float:
    """Return the greatest mean pass probability of any policy whose mean KL is at most `kl`, by bisection on ln β."""
    low, high = _LOWEST, _HIGHEST
    most = optimum(rates, math.exp(low))
    if kl >= most.kl:
        return most.reward
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if optimum(rates, math.exp(middle)).kl > kl else (low, middle)
    return optimum(rates, math.exp(high)).reward
