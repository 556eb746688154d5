"""Exact pass@k beside the estimate: do they agree, as far as sampling noise allows?

With p_i known, the estimator `1 − C(N−c,k)/C(N,k)` of example i has mean 1 − (1−p_i)^k, and its variance follows from
c ~ Bin(N, p_i). For these examples the mean over i therefore errs by sampling noise of known size; the interval is ± z of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from lockedroom.results.selection.picking import Plan
from lockedroom.stats.intervals import two_sided_z
from lockedroom.stats.pass_at_k import Curve, pass_at_k, pass_at_k_of_probability

SLACK = 1e-6  # float32 kernels: rounding must not count as a miss where there is no noise


class ExactPoint(msgspec.Struct, frozen=True):
    """`agrees`: the estimate lies within ± `noise` of the exact value."""

    k: int
    exact: float
    estimate: float | None
    noise: float | None
    agrees: bool | None


class ExactCurve(msgspec.Struct, frozen=True):
    """pass@k from the policy's own probabilities at each n of the plan, and the estimate from N draws beside it."""

    confidence: float
    points: list[ExactPoint]


def compare_exact(ps: Sequence[float], curve: Curve | None, plan: Plan, draws: int) -> ExactCurve:
    """Return the exact curve of probabilities `ps` and whether the estimated one agrees."""
    kept = [min(1.0, p) for p in ps]
    estimates = {} if curve is None else {point.k: point.estimate for point in curve.points}
    z = two_sided_z(plan.confidence)
    points = []
    for k in plan.ns:
        exact = math.fsum(pass_at_k_of_probability(p, k) for p in kept) / len(kept)
        estimate = estimates.get(k)
        noise = z * sampling_error(kept, draws, k) if estimate is not None else None
        agrees = None if estimate is None or noise is None else abs(estimate - exact) <= noise + SLACK
        points.append(ExactPoint(k, exact, estimate, noise, agrees))
    return ExactCurve(plan.confidence, points)


def sampling_error(ps: Sequence[float], draws: int, k: int) -> float:
    """The standard error of estimated pass@k of these examples, from drawing `draws` completions of each."""
    import numpy as np
    from scipy.special import gammaln, xlog1py, xlogy

    values_C = np.array([pass_at_k(draws, c, k) for c in range(draws + 1)])
    counts_C = np.arange(draws + 1.0)
    log_ways_C = gammaln(draws + 1) - gammaln(counts_C + 1) - gammaln(draws - counts_C + 1)
    p_M1 = np.array(ps)[:, None]
    pmf_MC = np.exp(log_ways_C + xlogy(counts_C, p_M1) + xlog1py(draws - counts_C, -p_M1))
    # einsum, not a BLAS product: its order of addition does not depend on the number of threads
    mean_M = np.einsum("mc,c->m", pmf_MC, values_C)
    variance_M = np.einsum("mc,c->m", pmf_MC, values_C**2) - mean_M**2
    return math.sqrt(max(0.0, math.fsum(variance_M.tolist()))) / len(ps)
