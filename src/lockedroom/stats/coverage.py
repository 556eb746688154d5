"""Does a nominal 95 % interval cover 95 %? By simulation, as `selftest` shows it, and exactly, which needs no luck.

Coverage of an interval for a share depends on (n, p) alone, jumps as p moves, and can be summed over the n + 1 counts.
A simulation of 2,000 runs estimates that sum with a standard error of half a point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from lockedroom.errors import BadInput
from lockedroom.stats.intervals import Interval, clopper_pearson, require_probability, wilson

SIZES = (20, 100, 500)
RATES = (0.02, 0.3, 0.5)
SIMULATIONS = 2000
BAND = (0.93, 0.97)
METHODS: dict[str, Callable[[int, int, float], Interval]] = {"wilson": wilson, "clopper-pearson": clopper_pearson}


class CoverageCell(msgspec.Struct, frozen=True, gc=False):
    """Coverage of one method at one (n, p): the exact probability and a seeded simulation of it.

    `within_band` is of the *exact* coverage in 93 % .. 97 %; `never_short` is exact coverage >= the nominal confidence;
    `agrees`: the simulation lies within 4.5 of its standard errors of the exact value (chance of a miss: 7e-6 a cell).
    """

    method: str
    n: int
    p: float
    confidence: float
    exact: float
    simulated: float
    simulations: int
    within_band: bool
    never_short: bool
    agrees: bool


def exact_coverage(method: str, n: int, p: float, confidence: float = 0.95) -> float:
    """The probability that the interval of Bin(n, p) successes holds p. Raises BadInput for an unknown method."""
    covers = _covers(method, n, p, confidence)
    log_miss, log_hit = math.log1p(-p), math.log(p)
    return math.fsum(
        math.exp(math.lgamma(n + 1) - math.lgamma(c + 1) - math.lgamma(n - c + 1) + c * log_hit + (n - c) * log_miss)
        for c in range(n + 1)
        if covers[c]
    )


def simulated_coverage(
    method: str,
    n: int,
    p: float,
    confidence: float = 0.95,
    *,
    simulations: int = SIMULATIONS,
    seed: int | Sequence[int] = 0,
) -> float:
    """The share of `simulations` seeded runs of n attempts whose interval holds p. Raises BadInput."""
    import numpy as np

    if simulations < 1:
        raise BadInput(f"need at least 1 simulation, found {simulations}")
    covers = _covers(method, n, p, confidence)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    return float(np.mean(np.array(covers)[rng.binomial(n, p, size=simulations)]))


def coverage_table(
    confidence: float = 0.95,
    *,
    sizes: Sequence[int] = SIZES,
    rates: Sequence[float] = RATES,
    simulations: int = SIMULATIONS,
    seed: int = 0,
) -> tuple[CoverageCell, ...]:
    """One cell for each method, n and p; each has its own random stream, derived from `seed` and its position."""
    cells: list[CoverageCell] = []
    for method in METHODS:
        for n in sizes:
            for p in rates:
                exact = exact_coverage(method, n, p, confidence)
                stream = (seed, len(cells))
                simulated = simulated_coverage(method, n, p, confidence, simulations=simulations, seed=stream)
                cells.append(_cell((method, n, p, confidence), exact, simulated, simulations))
    return tuple(cells)


def _cell(where: tuple[str, int, float, float], exact: float, simulated: float, simulations: int) -> CoverageCell:
    method, n, p, confidence = where
    allowed = 4.5 * math.sqrt(exact * (1 - exact) / simulations)
    return CoverageCell(
        method=method,
        n=n,
        p=p,
        confidence=confidence,
        exact=exact,
        simulated=simulated,
        simulations=simulations,
        within_band=BAND[0] <= exact <= BAND[1],
        never_short=exact >= confidence,
        agrees=abs(simulated - exact) <= allowed,
    )


def _covers(method: str, n: int, p: float, confidence: float) -> list[bool]:
    """For each count 0 .. n: does its interval hold p?"""
    require_probability("p", p)
    if method not in METHODS:
        raise BadInput(f"unknown interval {method!r}; known: {', '.join(METHODS)}")
    intervals = [METHODS[method](c, n, confidence) for c in range(n + 1)]
    return [interval.low <= p <= interval.high for interval in intervals]
