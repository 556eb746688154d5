"""Power before spending: how many examples, how small a gain can be seen, more examples or more draws.

Legend: m examples; K draws an example in each run; ω² the variance over examples of the true difference; σ² the
variance of one draw within an example. The variance of the estimated difference is (ω² + σ²_A/K_A + σ²_B/K_B)/m
(Miller 2024, "Adding error bars to evals", arXiv:2411.00640).
"""

from __future__ import annotations

import math

import msgspec

from lockedroom.errors import BadInput
from lockedroom.stats.intervals import normal_quantile, require_probability


class Noise(msgspec.Struct, frozen=True, gc=False):
    """The variance of one example's estimated difference, by parts; see `total`.

    `between` is ω²; `within_a`, `within_b` are σ² of one draw; `draws_a`, `draws_b` are K.
    """

    between: float
    within_a: float = 0.0
    within_b: float = 0.0
    draws_a: float = 1.0
    draws_b: float = 1.0


class Spending(msgspec.Struct, frozen=True, gc=False):
    """What the next completions buy, in standard errors of the difference, if spent one way or the other.

    `better` is "more examples" or "more draws"; the standard errors hold after spending all `completions` that way.
    """

    completions: int
    se_now: float
    se_more_examples: float
    se_more_draws: float
    better: str


class Allocation(msgspec.Struct, frozen=True, gc=False):
    """The best split of a budget: `examples` of `draws` each a run, the cost, and the standard error it buys."""

    examples: int
    draws: int
    cost: float
    standard_error: float


def total(noise: Noise) -> float:
    """`ω² + σ²_A/K_A + σ²_B/K_B`. Raises BadInput for a negative variance, less than one draw, or no variance at all."""
    parts = (noise.between, noise.within_a, noise.within_b)
    if not all(part >= 0 and math.isfinite(part) for part in parts) or min(noise.draws_a, noise.draws_b) < 1:
        raise BadInput(f"variances must be 0 or more and draws 1 or more, found {noise}")
    variance = noise.between + noise.within_a / noise.draws_a + noise.within_b / noise.draws_b
    if variance == 0:
        raise BadInput("all variances are 0: a pilot without spread cannot tell how many examples are needed")
    return variance


def paired_between_variance(between_a: float, between_b: float, correlation: float) -> float:
    """`ω² = Var(x_A) + Var(x_B) − 2ρ·sd(x_A)·sd(x_B)` from a pilot's Var(x) and the correlation of true scores.

    Raises BadInput for a negative variance (an estimate below zero is to be read as 0) or |ρ| > 1.
    """
    if between_a < 0 or between_b < 0 or not -1 <= correlation <= 1:
        raise BadInput(f"need variances >= 0 and |ρ| <= 1, found {between_a!r}, {between_b!r}, ρ = {correlation!r}")
    return between_a + between_b - 2 * correlation * math.sqrt(between_a * between_b)


def sample_size(delta: float, noise: Noise, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Examples needed to see a paired difference `delta`: `(z_{α/2} + z_β)²·total/δ²`, rounded up. Raises BadInput."""
    _require_delta(delta)
    needed = _z_sum(alpha, power) ** 2 * total(noise) / delta**2
    return max(2, math.ceil(needed))


def minimum_detectable_effect(m: int, noise: Noise, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """The least paired difference that m examples see with the given power, in units of reward. Raises BadInput."""
    _require_examples(m)
    return _z_sum(alpha, power) * math.sqrt(total(noise) / m)


def unpaired_sample_size(
    delta: float, variance_a: float, variance_b: float, *, alpha: float = 0.05, power: float = 0.8
) -> int:
    """Examples needed *in each run* to see a difference `delta` between unpaired runs. Raises BadInput."""
    return sample_size(delta, Noise(0.0, variance_a, variance_b), alpha=alpha, power=power)


def unpaired_minimum_detectable_effect(m: int, p: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """The least difference that two unpaired binary runs of m examples see, around pass rate p. Raises BadInput."""
    require_probability("p", p)
    return minimum_detectable_effect(m, Noise(0.0, p * (1 - p), p * (1 - p)), alpha=alpha, power=power)


def power_of(delta: float, m: int, noise: Noise, *, alpha: float = 0.05) -> float:
    """The chance that a two-sided test at `alpha` sees a paired difference `delta` with m examples. Raises BadInput."""
    _require_delta(delta)
    _require_examples(m)
    require_probability("alpha", alpha)
    shift = abs(delta) / math.sqrt(total(noise) / m)
    z = -normal_quantile(alpha / 2)
    return _normal_tail(z - shift) + _normal_tail(z + shift)


def examples_or_draws(m: int, noise: Noise, completions: int) -> Spending:
    """Are the next `completions` of each run better spent on more examples or on more draws?

    New examples come with K draws each, more draws are spread evenly over the m examples; counts are not rounded, so a
    budget too small for one more draw everywhere is judged at its average. Raises BadInput for a budget below 1 or for
    runs with different K.
    """
    _require_examples(m)
    if completions < 1 or noise.draws_a != noise.draws_b:
        raise BadInput(f"need at least 1 completion and equal draws in both runs, found {completions} and {noise}")
    k = noise.draws_a
    deeper = msgspec.structs.replace(noise, draws_a=k + completions / m, draws_b=k + completions / m)
    wide = math.sqrt(total(noise) / (m + completions / k))
    deep = math.sqrt(total(deeper) / m)
    better = "more examples" if wide <= deep else "more draws"
    return Spending(completions, math.sqrt(total(noise) / m), wide, deep, better)


def allocate(
    budget: float, noise: Noise, *, cost_example: float, cost_draw: float, max_examples: int, max_draws: int = 1000
) -> Allocation:
    """The (m, K) of least standard error with `m·(cost_example + K·cost_draw) <= budget` in each run, by trying each K.

    Without a bound on examples the optimum is near `K = sqrt(σ²/ω² · cost_example/cost_draw)` (Cochran 1977, ch. 10),
    so that free examples always beat more draws. `noise.draws_a` and `draws_b` are ignored. Among equals the fewest
    draws win. Raises BadInput for costs that are not positive (an example may cost nothing) or a budget that buys fewer
    than two examples.
    """
    if cost_example < 0 or cost_draw <= 0 or max_examples < 2 or max_draws < 1:
        raise BadInput("need cost_example >= 0, cost_draw > 0, max_examples >= 2 and max_draws >= 1")
    best: Allocation | None = None
    for k in range(1, max_draws + 1):
        m = min(max_examples, math.floor(budget / (cost_example + k * cost_draw)))
        if m < 2:
            break
        se = math.sqrt(total(msgspec.structs.replace(noise, draws_a=k, draws_b=k)) / m)
        if best is None or se < best.standard_error:
            best = Allocation(m, k, m * (cost_example + k * cost_draw), se)
    if best is None:
        raise BadInput(f"a budget of {budget:g} buys fewer than two examples of one draw; a comparison needs two")
    return best


def _z_sum(alpha: float, power: float) -> float:
    require_probability("alpha", alpha)
    if not alpha < power < 1:
        raise BadInput(f"power must lie between alpha = {alpha:g} and 1, found {power!r}")
    return normal_quantile(power) - normal_quantile(alpha / 2)


def _normal_tail(z: float) -> float:
    return 0.5 * math.erfc(z / math.sqrt(2))


def _require_delta(delta: float) -> None:
    if not (delta != 0 and math.isfinite(delta)):
        raise BadInput(f"delta must be finite and not 0, found {delta!r}")


def _require_examples(m: int) -> None:
    if m < 2:
        raise BadInput(f"a comparison needs at least two examples, found {m}")
