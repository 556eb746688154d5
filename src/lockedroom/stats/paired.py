"""Two runs in one room, joined example by example: difference, interval, exact tests, and many tests at once.

Legend: m examples; q_A[i] and q_B[i] are example i's mean rewards over its draws; d_i = q_A[i] − q_B[i]. Joining the
two runs by (id, content hash) is the caller's work; sequences of different length are refused here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from lockedroom.errors import BadInput
from lockedroom.stats.intervals import Interval, cut_interval, mean_t_interval, require_count, two_sided_z
from lockedroom.wording import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXACT_FLIPS = 20  # up to 2**20 sign patterns are enumerated; beyond that they are drawn
_EXACT_BINOMIAL = 2000  # discordant pairs up to which McNemar's p is a ratio of integers
_SHARED_FROM = 64  # equal |d| from which one binomial draw is cheaper than that many signs


class PairedDifference(msgspec.Struct, frozen=True):
    """The paired comparison of two runs. None stands for undefined, never for zero.

    `standard_error` = sd(d)/√m is None for one example and when all d_i are equal; `interval` is Bonett-Price when each
    q is 0 or 1 (one binary draw), else t on m−1 degrees of freedom, and None where the latter has no standard error.
    `correlation` (Pearson, of q_A and q_B) is None when either run has no spread.
    """

    examples: int
    mean_a: float
    mean_b: float
    difference: float
    standard_error: float | None
    interval: Interval | None
    correlation: float | None
    wins: int
    losses: int
    ties: int


class UnpairedDifference(msgspec.Struct, frozen=True):
    """The same difference as if the two runs had nothing in common; printed for contrast with the paired one."""

    difference: float
    standard_error: float | None
    interval: Interval | None


class PairedTest(msgspec.Struct, frozen=True, gc=False):
    """A two-sided p-value. `no_evidence`: no example told the runs apart, so p = 1 speaks of nothing.

    `method` is "mcnemar exact", "sign-flip exact" or "sign-flip, drawn"; `resamples` counts the sign patterns used.
    """

    p_value: float
    method: str
    no_evidence: bool
    resamples: int


def paired_difference(q_a: Sequence[float], q_b: Sequence[float], confidence: float = 0.95) -> PairedDifference:
    """The paired difference of two joined runs. Raises BadInput for empty or unequal lengths or non-finite values."""
    _require_pairs(q_a, q_b)
    m = len(q_a)
    d = [a - b for a, b in zip(q_a, q_b, strict=True)]
    difference = math.fsum(d) / m
    wins, losses = sum(x > 0 for x in d), sum(x < 0 for x in d)
    se = _standard_error(d, difference)
    binary = all(q in (0.0, 1.0) for q in q_a) and all(q in (0.0, 1.0) for q in q_b)
    if binary:
        interval: Interval | None = bonett_price(wins, losses, m, confidence)
    else:
        interval = None if se is None else mean_t_interval(difference, se, m - 1, confidence)
    return PairedDifference(
        examples=m,
        mean_a=math.fsum(q_a) / m,
        mean_b=math.fsum(q_b) / m,
        difference=difference,
        standard_error=se,
        interval=interval,
        correlation=_correlation(q_a, q_b),
        wins=wins,
        losses=losses,
        ties=m - wins - losses,
    )


def bonett_price(wins: int, losses: int, m: int, confidence: float = 0.95) -> Interval:
    """Interval for the difference of two paired proportions (Bonett & Price 2012, J. Educ. Behav. Stat. 37:479).

    One win and one loss are added to m + 2 examples, so that no discordant pair gives a short interval, not a point.
    Raises BadInput unless wins, losses >= 0 and wins + losses <= m.
    """
    _require_discordant(wins, losses)
    require_count(wins + losses, m)
    share_win, share_loss = (wins + 1) / (m + 2), (losses + 1) / (m + 2)
    centre = share_win - share_loss
    half = two_sided_z(confidence) * math.sqrt((share_win + share_loss - centre * centre) / (m + 2))
    return cut_interval(centre - half, centre + half, confidence, "bonett-price", (-1.0, 1.0))


def mcnemar_exact(wins: int, losses: int) -> PairedTest:
    """McNemar's exact test of one binary draw an example: `p = min(1, 2·P(Bin(wins + losses, ½) <= min))`.

    No discordant pair gives p = 1 and `no_evidence`. Raises BadInput for a negative count.
    """
    _require_discordant(wins, losses)
    discordant, fewer = wins + losses, min(wins, losses)
    if discordant <= _EXACT_BINOMIAL:
        tail = sum(math.comb(discordant, i) for i in range(fewer + 1))
        p_value = min(1.0, 2 * tail / (1 << discordant))
    else:
        from scipy.special import bdtr

        p_value = min(1.0, 2.0 * float(bdtr(float(fewer), discordant, 0.5)))
    return PairedTest(p_value, "mcnemar exact", discordant == 0, 0)


def sign_flip(differences: Sequence[float], *, seed: int | Sequence[int] = 0, resamples: int = 10_000) -> PairedTest:
    """Two-sided sign-flip permutation test that the d_i are symmetric around 0 (Fisher 1935), on |Σ d_i|.

    Zeros flip to zeros and are left out. Up to 20 others, all sign patterns are counted (exact); beyond, `resamples`
    are drawn and p = (1 + as extreme)/(1 + resamples), which never errs towards significance (Phipson & Smyth 2010).
    Sums within 1e-12 of the observed one, relative to Σ|d|, count as equal to it. Raises BadInput.
    """
    sizes = [abs(d) for d in differences if d != 0]
    if not all(math.isfinite(size) for size in sizes) or resamples < 1:
        raise BadInput("a sign-flip test needs finite differences and at least 1 resample")
    if not sizes:
        return PairedTest(1.0, "sign-flip exact", True, 0)
    bar = abs(math.fsum(differences)) - 1e-12 * math.fsum(sizes)
    if len(sizes) <= EXACT_FLIPS:
        extreme = _at_least(bar, _signed_sums(sorted(sizes)))
        return PairedTest(extreme / 2 ** len(sizes), "sign-flip exact", False, 2 ** len(sizes))
    extreme = _at_least(bar, _drawn_sums(sizes, seed, resamples))
    return PairedTest((1 + extreme) / (1 + resamples), "sign-flip, drawn", False, resamples)


def unpaired_difference(q_a: Sequence[float], q_b: Sequence[float], confidence: float = 0.95) -> UnpairedDifference:
    """Welch's interval for mean(q_a) − mean(q_b), as if no example were shared. Raises BadInput if a run is empty.

    The standard error and the interval are None unless both runs have two examples and some run has spread.
    """
    _require_values(q_a)
    _require_values(q_b)
    mean_a, mean_b = math.fsum(q_a) / len(q_a), math.fsum(q_b) / len(q_b)
    difference = mean_a - mean_b
    if min(len(q_a), len(q_b)) < 2:
        return UnpairedDifference(difference, None, None)
    part_a, part_b = _squares(q_a, mean_a), _squares(q_b, mean_b)
    part_a /= len(q_a) * (len(q_a) - 1)
    part_b /= len(q_b) * (len(q_b) - 1)
    se = math.sqrt(part_a + part_b)
    if se == 0:
        return UnpairedDifference(difference, None, None)
    share_a = part_a / (part_a + part_b)
    df = 1 / (share_a**2 / (len(q_a) - 1) + (1 - share_a) ** 2 / (len(q_b) - 1))
    return UnpairedDifference(difference, se, mean_t_interval(difference, se, df, confidence))


def two_proportion_z(successes_a: int, n_a: int, successes_b: int, n_b: int) -> float | None:
    """The pooled two-proportion z of unpaired runs; None if all or none succeeded. Raises BadInput as `wilson` does."""
    require_count(successes_a, n_a)
    require_count(successes_b, n_b)
    pooled = (successes_a + successes_b) / (n_a + n_b)
    if pooled in (0.0, 1.0):
        return None
    return (successes_a / n_a - successes_b / n_b) / math.sqrt(pooled * (1 - pooled) * (1 / n_a + 1 / n_b))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's (1979) adjusted p-values, in the order given: for claims. Raises BadInput for a p outside [0, 1]."""
    _require_p_values(p_values)
    k = len(p_values)
    adjusted, running = [0.0] * k, 0.0
    for step, index in enumerate(sorted(range(k), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (k - step) * p_values[index]))
        adjusted[index] = running
    return tuple(adjusted)


def benjamini_hochberg(p_values: Sequence[float]) -> tuple[float, ...]:
    """Benjamini-Hochberg (1995) adjusted p-values, in the order given: for exploration. Raises BadInput."""
    _require_p_values(p_values)
    k = len(p_values)
    adjusted, running = [0.0] * k, 1.0
    for step, index in enumerate(sorted(range(k), key=lambda i: p_values[i], reverse=True)):
        running = min(running, p_values[index] * k / (k - step))
        adjusted[index] = running
    return tuple(adjusted)


def _require_values(q: Sequence[float]) -> None:
    if not len(q) or not all(map(math.isfinite, q)):
        raise BadInput(f"a comparison needs at least one example and finite values, found {counted(len(q), 'example')}")


def _require_pairs(q_a: Sequence[float], q_b: Sequence[float]) -> None:
    if len(q_a) != len(q_b):
        raise BadInput(
            f"{counted(len(q_a), 'example')} against {len(q_b)}: a paired comparison needs the same examples"
        )
    _require_values(q_a)
    _require_values(q_b)


def _require_discordant(wins: int, losses: int) -> None:
    if wins < 0 or losses < 0:
        raise BadInput(f"{counted(wins, 'win')} and {counted(losses, 'loss')}: counts cannot be negative")


def _require_p_values(p_values: Sequence[float]) -> None:
    for p in p_values:
        if not 0 <= p <= 1:
            raise BadInput(f"a p-value must lie between 0 and 1, found {p!r}")


def _squares(values: Sequence[float], mean: float) -> float:
    """Σ(x − mean)², and 0 when the values differ by rounding alone: .3 − .1 is not .2 − 0. to the last bit."""
    least, most = min(values), max(values)
    if most - least <= 1e-12 * max(1.0, abs(least), abs(most)):
        return 0.0
    return math.fsum((x - mean) ** 2 for x in values)


def _standard_error(d: Sequence[float], mean: float) -> float | None:
    squares = _squares(d, mean)
    return math.sqrt(squares / (len(d) - 1) / len(d)) if squares > 0 else None


def _correlation(q_a: Sequence[float], q_b: Sequence[float]) -> float | None:
    mean_a, mean_b = math.fsum(q_a) / len(q_a), math.fsum(q_b) / len(q_b)
    scale = math.sqrt(_squares(q_a, mean_a)) * math.sqrt(_squares(q_b, mean_b))
    if scale == 0:
        return None
    together = math.fsum((a - mean_a) * (b - mean_b) for a, b in zip(q_a, q_b, strict=True))
    return max(-1.0, min(1.0, together / scale))


def _at_least(bar: float, sums: NDArray[np.float64]) -> int:
    return int((abs(sums) >= bar).sum())


def _signed_sums(sizes: Sequence[float]) -> NDArray[np.float64]:
    """The sum under each of the 2**len(sizes) sign patterns."""
    import numpy as np

    sums = np.zeros(1)
    for size in sizes:
        sums = np.concatenate((sums + size, sums - size))
    return sums


def _drawn_sums(sizes: Sequence[float], seed: int | Sequence[int], resamples: int) -> NDArray[np.float64]:
    """The sum under each of `resamples` random sign patterns; memory does not grow with the number of sizes.

    The g pairs of one size v together add v·(2·Bin(g, ½) − g), which is one draw, not g. Rarer sizes go eight at a time:
    one random byte picks one of their 256 signed sums.
    """
    import numpy as np

    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    sums_B = np.zeros(resamples)
    rare: list[float] = []
    for size, count in sorted(Counter(sizes).items()):
        if count < _SHARED_FROM:
            rare.extend([size] * count)
        else:
            sums_B += size * (2.0 * rng.binomial(count, 0.5, size=resamples) - count)
    for start in range(0, len(rare), 8):
        patterns = _signed_sums(rare[start : start + 8])
        sums_B += patterns[rng.integers(0, len(patterns), size=resamples, dtype=np.uint8)]
    return sums_B
