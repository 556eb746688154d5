"""Confidence intervals for one proportion or one mean, and the quantiles that they need.

Computing a Wilson or a t interval with at least 100 degrees of freedom loads neither numpy nor scipy (0.3 s and 40 MB
at start-up). A Wald interval is not offered: at 0 of n it has width zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from lockedroom.errors import BadInput
from lockedroom.wording import counted

EXPANSION_FROM_DF = 100  # below it the expansion of `t_quantile` loses its tenth digit, and scipy takes over


class Interval(msgspec.Struct, frozen=True, gc=False):
    """A two-sided confidence interval. `method` names its construction, and any clipping that was done."""

    low: float
    high: float
    confidence: float
    method: str


def normal_quantile(p: float) -> float:
    """The standard normal quantile (AS 241, Wichura 1988, from the standard library). Raises BadInput unless 0 < p < 1."""
    from statistics import NormalDist

    require_probability("p", p)
    return NormalDist().inv_cdf(p)


def two_sided_z(confidence: float) -> float:
    """The normal quantile of a two-sided interval, 1.959964 at 95 %. Raises BadInput unless 0 < confidence < 1."""
    require_probability("confidence", confidence)
    return -normal_quantile((1 - confidence) / 2)


def t_quantile(p: float, df: float) -> float:
    """Student's t quantile at `df` > 0 degrees of freedom (not necessarily whole). Raises BadInput.

    From 100 degrees of freedom on it is the expansion of Abramowitz & Stegun 26.7.5 with one more term (Fisher &
    Cornish 1960), within 1e-9 of scipy, relative, for p in .0001 .. .9999; beyond either end, and below 100, scipy.
    """
    require_probability("p", p)
    if not (df > 0 and math.isfinite(df)):
        raise BadInput(f"degrees of freedom must be positive and finite, found {df!r}")
    if df < EXPANSION_FROM_DF or not 0.0001 <= p <= 0.9999:
        from scipy.special import stdtrit

        return float(stdtrit(df, p))
    x = normal_quantile(p)
    s = x * x
    terms = (
        x * (s + 1) / 4,
        x * ((5 * s + 16) * s + 3) / 96,
        x * (((3 * s + 19) * s + 17) * s - 15) / 384,
        x * ((((79 * s + 776) * s + 1482) * s - 1920) * s - 945) / 92160,
        x * (((((27 * s + 339) * s + 930) * s - 1782) * s - 765) * s + 17955) / 368640,
    )
    tail = 0.0
    for term in reversed(terms):
        tail = (tail + term) / df
    return x + tail


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """The score interval of `successes` out of `n` (Wilson 1927): the default for a share.

    Its low end is exactly 0 at no success and its high end exactly 1 at no miss. Raises BadInput unless
    0 <= successes <= n and n >= 1.
    """
    require_count(successes, n)
    low, high = _wilson_ends(successes, n, two_sided_z(confidence))
    return Interval(low, high, confidence, "wilson")


def wilson_band(share: float, standard_error: float, quantile: float) -> tuple[float, float]:
    """The Wilson interval of a share at its effective sample, share·(1 − share)/SE², with a quantile of one's own for z.

    Franco et al. (2019, J. Surv. Stat. Methodol. 7:334). It lies in [0, 1] and covers where `share ± quantile·SE` does not:
    near the ends, with few examples. `share` lies strictly between 0 and 1, and the standard error is above 0.
    """
    n = share * (1 - share) / standard_error**2
    return _wilson_ends(share * n, n, quantile)


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """The exact interval of `successes` out of `n` (Clopper & Pearson 1934): for gates, as it never covers too seldom.

    Raises BadInput unless 0 <= successes <= n and n >= 1.
    """
    from scipy.special import betaincinv

    require_count(successes, n)
    require_probability("confidence", confidence)
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 1 - tail))
    return Interval(low, high, confidence, "clopper-pearson")


def mean_t_interval(
    mean: float, se: float, df: float, confidence: float = 0.95, *, bounds: tuple[float, float] | None = None
) -> Interval:
    """`mean ± t·se`, cut to `bounds` (the reward's range) if given; a cut is named in `method`.

    Raises BadInput if `se` is not positive: a zero standard error means that all values were equal, and an interval of
    width zero would claim a certainty that nobody has.
    """
    if not (se > 0 and math.isfinite(se)):
        raise BadInput(
            f"a t interval needs a positive finite standard error, found {se!r}; report the mean as degenerate"
        )
    require_probability("confidence", confidence)
    half = t_quantile((1 + confidence) / 2, df) * se
    return cut_interval(mean - half, mean + half, confidence, "t", bounds)


def cut_interval(
    low: float, high: float, confidence: float, method: str, bounds: tuple[float, float] | None
) -> Interval:
    """The interval within `bounds`, where the parameter must lie (so no coverage is lost); `method` says if it was cut."""
    if bounds is None or (bounds[0] <= low and high <= bounds[1]):
        return Interval(low, high, confidence, method)
    cut = f"{method}, cut to [{bounds[0]:g}, {bounds[1]:g}]"
    return Interval(max(low, bounds[0]), min(high, bounds[1]), confidence, cut)


def holm_wilson(counts: Sequence[int], n: int, confidence: float = 0.95) -> tuple[Interval, ...]:
    """Holm-adjusted Wilson intervals of shares `counts[i] / n`, in the order given.

    Holm (1979, Scand. J. Stat. 6:65) adjusts tests; here his step-down is inverted. An interval holds each threshold π
    that the step-down over all k score tests of "share = π" does not reject (two one-sided families at α/2). So for any
    one π fixed beforehand, the claims "share > π" of the rows above π and "share < π" of the rows below it are *together*
    wrong with probability at most α. It is not simultaneous coverage of k different shares: for two-sided intervals that
    takes Bonferroni, α/k in each row (on what Holm can give: Strassburger & Bretz 2008, Stat. Med. 27:4914).

    The low end of the i-th largest count is the least of the Wilson low ends at level α/(k−j+1) over j <= i; high ends
    likewise from the smallest count up. One row gets the plain Wilson interval. Raises BadInput as `wilson` does.
    """
    require_probability("confidence", confidence)
    for count in counts:
        require_count(count, n)
    k = len(counts)
    lows, highs = [0.0] * k, [1.0] * k
    least, greatest = 1.0, 0.0
    ascending = sorted(range(k), key=lambda index: counts[index])
    for step in range(k):
        z = two_sided_z(1 - (1 - confidence) / (k - step))
        small, large = ascending[step], ascending[k - 1 - step]
        greatest = max(greatest, _wilson_ends(counts[small], n, z)[1])
        least = min(least, _wilson_ends(counts[large], n, z)[0])
        highs[small], lows[large] = greatest, least
    method = "wilson" if k == 1 else f"wilson, holm over {k}"
    return tuple(Interval(low, high, confidence, method) for low, high in zip(lows, highs, strict=True))


def holm_wilson_effective(
    shares: Sequence[float], effective_n: Sequence[float], confidence: float = 0.95
) -> tuple[Interval, ...]:
    """`holm_wilson` for shares of clustered attempts, each with its effective number of independent attempts.

    `effective_n[i]` is p(1-p)/SE² with the cluster-robust SE (Kish 1965, Survey Sampling, §8.2); the Wilson interval of
    an effective sample is the one Franco et al. (2019, J. Surv. Stat. Methodol. 7:334) recommend for clustered shares.
    With unequal sizes the order of the shares is not the order of the tests, so the step-down is inverted by bisection.
    """
    require_probability("confidence", confidence)
    k = len(shares)
    limits = [two_sided_z(1 - (1 - confidence) / (k - step)) for step in range(k)]
    method = "wilson, effective n" if k == 1 else f"wilson, effective n, holm over {k}"
    misses = [1 - share for share in shares]
    return tuple(
        Interval(
            _holm_low(shares, effective_n, limits, i), 1 - _holm_low(misses, effective_n, limits, i), confidence, method
        )
        for i in range(k)
    )


def _holm_low(shares: Sequence[float], sizes: Sequence[float], limits: Sequence[float], row: int) -> float:
    """The largest threshold that Holm's step-down over all rows still claims `row` to exceed; 0 if there is none."""
    low, high = 0.0, shares[row]
    for _ in range(60):
        middle = (low + high) / 2
        if _claimed_above(middle, shares, sizes, limits, row):
            low = middle
        else:
            high = middle
    return low if low > 1e-12 else 0.0


def _claimed_above(
    threshold: float, shares: Sequence[float], sizes: Sequence[float], limits: Sequence[float], row: int
) -> bool:
    if not 0 < threshold < 1:
        return False
    unit = math.sqrt(threshold * (1 - threshold))
    scores = sorted(
        ((share - threshold) * math.sqrt(n) / unit, i) for i, (share, n) in enumerate(zip(shares, sizes, strict=True))
    )
    for (score, i), limit in zip(reversed(scores), limits, strict=True):
        if score < limit:
            return False
        if i == row:
            return True
    return False


def require_probability(name: str, value: float) -> None:
    """Raises BadInput unless 0 < value < 1."""
    if not 0 < value < 1:
        raise BadInput(f"{name} must lie strictly between 0 and 1, found {value!r}")


def require_count(successes: int, n: int) -> None:
    """Raises BadInput unless 0 <= successes <= n and n >= 1."""
    if n < 1:
        raise BadInput(f"a share needs at least one attempt, found n = {n}")
    if not 0 <= successes <= n:
        raise BadInput(
            f"{counted(successes, 'success')} out of {counted(n, 'attempt')}: the count must lie between 0 and n"
        )


def _wilson_ends(successes: float, n: float, z: float) -> tuple[float, float]:
    scale = n + z * z
    centre = (successes + z * z / 2) / scale
    half = z * math.sqrt(successes * (n - successes) / n + z * z / 4) / scale
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high
