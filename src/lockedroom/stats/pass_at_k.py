"""pass@k and pass^k without bias, with standard errors and bootstrap bands over examples.

A *pass* is a verdict (`outcome == correct`), never `reward > 0`. Legend: n draws of one example, c of them passed;
P distinct (n, c) pairs, K values of k, B bootstrap resamples.

Both curves depend on an example only through (n, c), so the tables have one row a pair, and resampling examples with
replacement is one multinomial draw of how often each pair occurs: exact, and independent of the examples' number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import msgspec

from lockedroom.errors import BadInput
from lockedroom.stats.intervals import Interval, require_probability, t_quantile, two_sided_z, wilson_band
from lockedroom.wording import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Metric = Literal["pass@k", "pass^k"]
UnequalDraws = Literal["refuse", "common minimum"]
_BLOCK = 4_000_000  # floats held at once while bootstrapping: 32 MB


class CurvePoint(msgspec.Struct, frozen=True):
    """The estimate at one k. `standard_error` and the bands are None where all examples agree (or there is one)."""

    k: int
    estimate: float
    standard_error: float | None
    pointwise: Interval | None
    simultaneous: Interval | None


class Curve(msgspec.Struct, frozen=True):
    """A pass@k or pass^k curve over `examples` examples with between `draws_min` and `draws_max` draws each.

    `unequal_draws` is "common minimum" if the draws differed and the caller allowed it: the curve then stops at the
    least n, and each example keeps all its own draws (the estimator is unbiased for any n >= k).
    """

    metric: Metric
    examples: int
    draws_min: int
    draws_max: int
    unequal_draws: UnequalDraws | None
    resamples: int
    points: tuple[CurvePoint, ...]


def pass_at_k(n: int, c: int, k: int) -> float:
    """`1 − C(n−c, k)/C(n, k)`: the chance that k of the n draws, taken without replacement, hold a pass.

    Chen et al. 2021 (arXiv:2107.03374). The product has min(c, k) factors and is summed in logarithms, exact to about
    1e-13 at n = 100,000. Raises BadInput unless 0 <= c <= n and 1 <= k <= n.
    """
    _require_draws(n, c, k)
    if n - c < k:
        return 1.0
    few, many = sorted((c, k))
    return -math.expm1(math.fsum(math.log1p(-many / (n - i)) for i in range(few)))


def pass_hat_k(n: int, c: int, k: int) -> float:
    """pass^k, `C(c, k)/C(n, k)`: the chance that k of the n draws, taken without replacement, all passed.

    Yao et al. 2024 (arXiv:2406.12045). Raises BadInput unless 0 <= c <= n and 1 <= k <= n.
    """
    _require_draws(n, c, k)
    if c < k:
        return 0.0
    few, many = sorted((n - c, k))
    return math.exp(math.fsum(math.log1p(-many / (n - i)) for i in range(few)))


def pass_at_k_of_probability(p: float, k: int) -> float:
    """`1 − (1−p)^k`: pass@k of an example whose pass probability p is known, without sampling. Raises BadInput."""
    if not 0 <= p <= 1 or k < 1:
        raise BadInput(f"pass@k needs 0 <= p <= 1 and k >= 1, found p = {p!r}, k = {k}")
    return 1.0 if p == 1 else -math.expm1(k * math.log1p(-p))


def pass_curve(
    draws: Sequence[int],
    passes: Sequence[int],
    *,
    metric: Metric = "pass@k",
    ks: Sequence[int] | None = None,
    unequal: UnequalDraws = "refuse",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int | Sequence[int] = 0,
) -> Curve:
    """The curve at `ks`, ascending (default: 1 .. the least number of draws); one (draws, passes) pair an example.

    SE = sd over examples / √m. Bands: `wilson_band` of the estimate and SE, with the quantile of |θ*−θ|/SE over `resamples`
    bootstrap samples of the examples, times t/z·√(m/(m−1)) (at each k for `pointwise`; of the greatest over all k, "max-t", for `simultaneous`).
    `resamples=0` leaves the bands out. Memory: 8·K·(P + B) bytes and 64 MB. Raises BadInput for a k above the
    least number of draws, for unequal draws under "refuse", and for no examples.
    """
    require_probability("confidence", confidence)
    least, most = _draw_range(draws, passes, unequal)
    ks = _require_ks(range(1, least + 1) if ks is None else ks, least)
    if resamples < 0:
        raise BadInput(f"resamples must be 0 or more, found {resamples}")
    pair_counts = sorted(Counter(zip(draws, passes, strict=True)).items())
    count_P = [count for _, count in pair_counts]
    table_PK = _table([pair for pair, _ in pair_counts], ks, metric)
    mean_K, se_K = _mean_and_se(table_PK, count_P)
    bands = _bands(table_PK, count_P, (mean_K, se_K), confidence, resamples=resamples, seed=seed)
    points = tuple(
        CurvePoint(k, float(mean), float(se) if se > 0 else None, *band)
        for k, mean, se, band in zip(ks, mean_K, se_K, bands, strict=True)
    )
    return Curve(metric, len(draws), least, most, unequal if least != most else None, resamples, points)


def _require_draws(n: int, c: int, k: int) -> None:
    if not 0 <= c <= n:
        raise BadInput(f"{counted(c, 'pass')} out of {counted(n, 'draw')}: the count must lie between 0 and n")
    if not 1 <= k <= n:
        raise BadInput(
            f"k = {k} with n = {counted(n, 'draw')}: k must lie between 1 and n; lower k or draw more completions"
        )


def _require_ks(ks: Sequence[int], least: int) -> Sequence[int]:
    for k in ks:
        if not 1 <= k <= least:
            raise BadInput(
                f"k = {k}: k must lie between 1 and the {counted(least, 'draw')} of every example; lower k or draw more"
            )
    if not ks or any(left >= right for left, right in pairwise(ks)):
        raise BadInput(f"the values of k must be ascending and at least one, found {list(ks)[:20]}")
    return ks


def _draw_range(draws: Sequence[int], passes: Sequence[int], unequal: UnequalDraws) -> tuple[int, int]:
    if len(draws) != len(passes) or not draws:
        raise BadInput(
            f"{counted(len(draws), 'draw count')} and {counted(len(passes), 'pass count')}: need one of each for every example"
        )
    for index, (n, c) in enumerate(zip(draws, passes, strict=True)):
        if n < 1 or not 0 <= c <= n:
            raise BadInput(
                f"example number {index}: {counted(c, 'pass')} out of {counted(n, 'draw')}; need at least one draw and 0 <= c <= n"
            )
    least, most = min(draws), max(draws)
    if least != most and unequal == "refuse":
        raise BadInput(
            f"examples have between {least} and {counted(most, 'scored draw')}; pass@k needs equal draws: draw more, "
            "or ask for the common minimum (--unequal common-minimum)"
        )
    return least, most


def _table(pairs: Sequence[tuple[int, int]], ks: Sequence[int], metric: Metric) -> Floats:
    """table_PK: the metric of each (n, c) pair at each k, by the recursion over k of the ratio of binomials."""
    import numpy as np

    n_P = np.array([n for n, _ in pairs], dtype=np.float64)
    c_P = np.array([c for _, c in pairs], dtype=np.float64)
    top_P = n_P - c_P if metric == "pass@k" else c_P
    table_PK = np.empty((len(pairs), len(ks)))
    ratio_P = np.ones(len(pairs))
    done = 0
    for column, k in enumerate(ks):
        for drawn in range(done, k):
            ratio_P *= np.maximum(top_P - drawn, 0.0) / (n_P - drawn)
        table_PK[:, column] = ratio_P
        done = k
    return 1.0 - table_PK if metric == "pass@k" else table_PK


def _mean_and_se(table_PK: Floats, count_P: Sequence[int]) -> tuple[Floats, Floats]:
    """mean_K, and se_K with 0 where it is undefined: one example, or all examples equal (to within 1e-12)."""
    import numpy as np

    m = sum(count_P)
    weight_P = np.array(count_P, dtype=np.float64)
    mean_K = np.einsum("p,pk->k", weight_P, table_PK) / m
    if m == 1:
        return mean_K, np.zeros_like(mean_K)
    squares_K = np.zeros_like(mean_K)
    for weight, row_K in zip(weight_P, table_PK, strict=True):  # one row at a time: no second P·K array
        squares_K += weight * (row_K - mean_K) ** 2
    equal_K = table_PK.max(axis=0) - table_PK.min(axis=0) <= 1e-12
    se_K = np.where(equal_K, 0.0, np.sqrt(squares_K / (m - 1) / m))
    return mean_K, se_K


def _bands(
    table_PK: Floats,
    count_P: Sequence[int],
    moments: tuple[Floats, Floats],
    confidence: float,
    *,
    resamples: int,
    seed: int | Sequence[int],
) -> list[tuple[Interval | None, Interval | None]]:
    """(pointwise, simultaneous) at each k; (None, None) where SE is undefined or no resample was asked for."""
    import numpy as np

    mean_K, se_K = moments
    bands: list[tuple[Interval | None, Interval | None]] = [(None, None)] * len(mean_K)
    kept = np.flatnonzero((se_K > 0) & (mean_K > 0) & (mean_K < 1))
    if resamples == 0 or len(kept) == 0:
        return bands
    t_BK = _bootstrap_t(table_PK[:, kept], count_P, (mean_K[kept], se_K[kept]), resamples, seed)
    t_BK *= _small_sample_factor(sum(count_P), confidence)
    # "higher" picks an order statistic at or above the nominal quantile: Monte Carlo error must not narrow a band
    pointwise_K = np.quantile(t_BK, confidence, axis=0, method="higher")
    simultaneous = float(np.quantile(t_BK.max(axis=1), confidence, method="higher"))
    for column, k in enumerate(kept.tolist()):
        mean, se = float(mean_K[k]), float(se_K[k])
        bands[k] = (
            Interval(*wilson_band(mean, se, float(pointwise_K[column])), confidence, "bootstrap wilson, pointwise"),
            Interval(*wilson_band(mean, se, simultaneous), confidence, "bootstrap wilson, simultaneous (max-t)"),
        )
    return bands


def _small_sample_factor(m: int, confidence: float) -> float:
    """t/z · √(m/(m−1)): a bootstrap of m examples varies as if they were all there are, and too little by a factor of m."""
    t = t_quantile((1 + confidence) / 2, m - 1)
    return t / two_sided_z(confidence) * math.sqrt(m / (m - 1))


def _bootstrap_t(
    table_PK: Floats,
    count_P: Sequence[int],
    moments: tuple[Floats, Floats],
    resamples: int,
    seed: int | Sequence[int],
) -> Floats:
    """t_BK = |θ*−θ|/SE of each resample: the pairs' multinomial counts times the table."""
    import numpy as np

    mean_K, se_K = moments
    m = sum(count_P)
    share_P = np.array(count_P, dtype=np.float64) / m
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    t_BK = np.empty((resamples, len(mean_K)))
    rows = max(1, _BLOCK // len(count_P))
    for start in range(0, resamples, rows):
        block_BP = rng.multinomial(m, share_P, size=min(rows, resamples - start)).astype(np.float64)
        # einsum, not a BLAS product: its order of addition does not depend on the number of threads
        t_BK[start : start + rows] = np.abs(np.einsum("bp,pk->bk", block_BP, table_PK) / m - mean_K) / se_K
    return t_BK
