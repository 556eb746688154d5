"""The most that can be right at each KL, for binary rewards: from every example's pass probability alone.

Of all policies, π* ∝ π_ref·exp(R/β) has the least KL for its reward; `selection.tilted_pass_rate` and `tilted_kl` say where
one example stands, here they are averaged over examples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from lockedroom.errors import BadInput
from lockedroom.stats.selection import tilted_kl, tilted_pass_rate

# ln β between which the frontier is searched: from all but always right to all but π_ref.
_LOWEST, _HIGHEST = -6.0, 12.0


class Optimum(msgspec.Struct, frozen=True, gc=False):
    """The best policy at β: mean pass probability and mean KL, in nats a completion."""

    reward: float
    kl: float


def optimum(rates: Sequence[float], beta: float) -> Optimum:
    """Return where π* stands at β. An example that never or always passes stays as it is. Raises BadInput."""
    if not rates:
        raise BadInput("pass probabilities: there must be one")
    means = [math.fsum(of(rate, beta) for rate in rates) / len(rates) for of in (tilted_pass_rate, tilted_kl)]
    return Optimum(*means)


def reward_at_kl(rates: Sequence[float], kl: float) -> float:
    """Return the greatest mean pass probability of any policy whose mean KL is at most `kl`, by bisection on ln β."""
    low, high = _LOWEST, _HIGHEST
    most = optimum(rates, math.exp(low))
    if kl >= most.kl:
        return most.reward
    for _ in range(45):
        middle = (low + high) / 2
        low, high = (middle, high) if optimum(rates, math.exp(middle)).kl > kl else (low, middle)
    return optimum(rates, math.exp(high)).reward
