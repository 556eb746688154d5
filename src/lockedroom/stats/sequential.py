"""Looking more than once without fooling oneself: streams, planned looks, and a reused holdout.

Streaming, any number of looks: `robbins_interval` and `anytime_mcnemar`. Planned looks at a fixed holdout: `pocock_z`.
Adaptive reuse of one holdout: `ladder_step`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from lockedroom.errors import BadInput
from lockedroom.stats.intervals import Interval, require_probability, two_sided_z
from lockedroom.wording import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_LOOKS = 200
_LARGEST_LOG = 709.0  # exp of it is still a double


class AnytimeTest(msgspec.Struct, frozen=True, gc=False):
    """The state of an anytime-valid test. Peek as often as you like; `reject` once true may be acted on at once.

    `e_value` is the evidence against "no difference" (1 = none), given as the largest double where it would overflow;
    `log_e_value` (nats) is not bounded. `p_value` = min(1, 1/E) is valid at any stopping time.
    """

    wins: int
    losses: int
    e_value: float
    log_e_value: float
    p_value: float
    reject: bool


def robbins_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """The confidence sequence of a rate: valid at all n at once (Robbins 1970, Ann. Math. Stat. 41:1397).

    {p : (n+1)·C(n,s)·p^s·(1−p)^(n−s) >= α}; [0, 1] before the first attempt. Raises BadInput.
    """
    require_probability("confidence", confidence)
    if not 0 <= successes <= n:
        raise BadInput(
            f"{counted(successes, 'success')} out of {counted(n, 'attempt')}: the count must lie between 0 and n"
        )
    level = _log_binomial(n, successes) + math.log(n + 1) - math.log(1 - confidence)

    def inside(p: float) -> bool:
        hits = successes * math.log(p) if successes else 0.0
        misses = (n - successes) * math.log1p(-p) if successes < n else 0.0
        return level + hits + misses >= 0

    peak = successes / n if n else 0.5
    low = 0.0 if successes == 0 else _boundary(inside, peak, 0.0)
    high = 1.0 if successes == n else _boundary(inside, peak, 1.0)
    return Interval(low, high, confidence, "robbins confidence sequence")


def anytime_mcnemar(wins: int, losses: int, alpha: float = 0.05) -> AnytimeTest:
    """McNemar's test as an e-value, `E = 2^m/((m+1)·C(m, wins))` with m = wins + losses; rejects at E >= 1/α.

    The uniform mixture of Bernoulli likelihoods against ½ (Robbins 1970), hence valid at every m. Raises BadInput.
    """
    require_probability("alpha", alpha)
    if wins < 0 or losses < 0:
        raise BadInput(f"{counted(wins, 'win')} and {counted(losses, 'loss')}: counts cannot be negative")
    m = wins + losses
    log_e = m * math.log(2) - math.log(m + 1) - _log_binomial(m, wins)
    e_value = math.exp(min(log_e, _LARGEST_LOG))
    p_value = math.exp(min(0.0, -log_e))
    return AnytimeTest(wins, losses, e_value, log_e, p_value, log_e >= -math.log(alpha))


def false_alarm_rate(looks: int, z: float) -> float:
    """The chance that |Z| exceeds `z` at one or more of `looks` equally spaced looks at data without any effect.

    Armitage, McPherson & Rowe 1969 (J. R. Stat. Soc. A 132:235), by Gauss-Legendre quadrature to about 1e-10.
    Raises BadInput unless 1 <= looks <= 200 and 0 < z <= 10.
    """
    import numpy as np

    if not 1 <= looks <= MAX_LOOKS or not 0 < z <= 10:
        raise BadInput(f"need 1 to {MAX_LOOKS} looks and 0 < z <= 10, found {counted(looks, 'look')} and z = {z!r}")
    count = max(64, math.ceil(8 * z * math.sqrt(looks)))
    nodes, weights = np.polynomial.legendre.leggauss(count)
    edge = z
    at = edge * nodes  # the sums S_k that have not alarmed so far, and the density of S_k there
    density = _normal_density(at)
    for look in range(2, looks + 1):
        wider = z * math.sqrt(look)
        step = _normal_density(wider * nodes[:, None] - at[None, :])
        density = np.einsum("ij,j->i", step, density * weights * edge)
        edge, at = wider, wider * nodes
    return float(1 - np.sum(density * weights) * edge)


def pocock_z(looks: int, alpha: float = 0.05) -> float:
    """The |Z| to exceed at each of `looks` equally spaced looks for a total false-alarm rate α (Pocock 1977).

    2.413 for 5 looks at 5 %. Raises BadInput as `false_alarm_rate` does, and unless 1e-6 <= α < 1.
    """
    if not 1e-6 <= alpha < 1:
        raise BadInput(f"alpha must lie between 1e-6 and 1, found {alpha!r}")
    if looks < 1:
        raise BadInput(f"need 1 to {MAX_LOOKS} looks, found {looks}")
    from scipy.optimize import brentq

    low = two_sided_z(1 - alpha)
    high = two_sided_z(1 - alpha / looks)  # Bonferroni's z, which Pocock's never exceeds
    return float(brentq(lambda z: false_alarm_rate(looks, z) - alpha, low - 1e-6, high + 1e-6, xtol=1e-12))


def looks_confidence(looks: int, confidence: float = 0.95) -> float:
    """The confidence to ask of each interval for `looks` planned looks to keep `confidence` together. Raises BadInput."""
    require_probability("confidence", confidence)
    return math.erf(pocock_z(looks, 1 - confidence) / math.sqrt(2))


def ladder_step(best: float | None, loss: float, step: float) -> float:
    """The loss that the Ladder answers: the rounded new one if it beats `best` by more than `step`, else `best` again.

    Blum & Hardt 2015 (arXiv:1502.04585); `best` is the previous answer, None at first. Rounded to a multiple of `step`.
    Raises BadInput for a step that is not positive or a loss that is not finite.
    """
    if not (step > 0 and math.isfinite(step) and math.isfinite(loss)):
        raise BadInput(f"the Ladder needs a positive step and a finite loss, found {step!r} and {loss!r}")
    if best is not None and not loss < best - step:
        return best
    return round(round(loss / step) * step, 12)  # 12 digits: 7 * .01 is .07, not .07000000000000001


def ladder(losses: Sequence[float], step: float) -> tuple[float, ...]:
    """The Ladder's answers to a series of submissions. Raises BadInput as `ladder_step` does."""
    answers: list[float] = []
    for loss in losses:
        answers.append(ladder_step(answers[-1] if answers else None, loss, step))
    return tuple(answers)


def _boundary(inside: Callable[[float], bool], within: float, beyond: float) -> float:
    """Where `inside` ends on the way from `within` (inside) to `beyond` (outside): the last point not inside."""
    middle = (within + beyond) / 2
    while middle not in (within, beyond):
        within, beyond = (middle, beyond) if inside(middle) else (within, middle)
        middle = (within + beyond) / 2
    return beyond


def _log_binomial(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _normal_density(x: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    return np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
