"""What choosing among completions buys, and what it fakes: KL of best-of-n, imperfect verifiers, the winner's curse."""

from __future__ import annotations

import math

import msgspec

from lockedroom.errors import BadInput
from lockedroom.stats.intervals import Interval, clopper_pearson


class VerifierErrors(msgspec.Struct, frozen=True):
    """A verifier's error budget from its golden sets. `youden_j` <= 0: learning from it cannot go the right way.

    The intervals are Clopper-Pearson: with 0 of 30 exploits passed, the false-positive rate may still be 11.6 %.
    """

    false_positive_rate: float
    false_positive_interval: Interval
    false_negative_rate: float
    false_negative_interval: Interval
    youden_j: float


class Peak(msgspec.Struct, frozen=True, gc=False):
    """Where a gold-reward curve is highest: at `distance` d = √KL, in √nats, with gold reward `value`."""

    distance: float
    value: float


def best_of_n_kl_bound(n: int) -> float:
    """`ln n − (n−1)/n` nats: an *upper bound* on KL(best-of-n ‖ policy) (Beirami et al. 2024, arXiv:2401.01879).

    Raises BadInput for n < 1.
    """
    _require_n(n)
    return math.log(n) - (n - 1) / n


def best_of_n_kl_binary(p: float, n: int) -> float:
    """Exact KL(best-of-n ‖ policy) in nats for a binary reward with pass probability p and uniform tie-break.

    `q ln(q/p) + (1−q) ln((1−q)/(1−p))` with q = 1 − (1−p)^n; it tends to −ln p. Raises BadInput.
    """
    _require_rates(p=p)
    _require_n(n)
    if p in (0.0, 1.0) or n == 1:
        return 0.0
    log_miss = math.log1p(-p)
    q = -math.expm1(n * log_miss)
    return q * math.log(q / p) + (1 - q) * (n - 1) * log_miss


def tilted_pass_rate(p: float, beta: float) -> float:
    """Pass rate of the policy that maximises E[R] − β·KL for a binary reward, π* ∝ π_ref·exp(R/β): `p/(p + (1−p)e^(−1/β))`.

    Raises BadInput for p outside [0, 1] or β <= 0.
    """
    _require_rates(p=p)
    if not beta > 0:
        raise BadInput(f"beta = {beta}: the optimum has a closed form only for beta above 0")
    return p / (p + (1 - p) * math.exp(-1 / beta)) if p > 0 else 0.0


def tilted_kl(p: float, beta: float) -> float:
    """KL(π* ‖ π_ref) in nats of that policy: `−(1−q)/β − ln(p + (1−p)e^(−1/β))`, q its pass rate. Raises BadInput."""
    q = tilted_pass_rate(p, beta)
    if p in (0.0, 1.0):
        return 0.0
    return max(0.0, -(1 - q) / beta - math.log1p((1 - p) * math.expm1(-1 / beta)))


def verified_accuracy(p: float, true_positive_rate: float, false_positive_rate: float, n: int) -> float:
    """Accuracy of choosing, among n draws, one that an imperfect verifier accepts (any draw if it accepts none).

    `a = p·t + (1−p)·f`; `(1−(1−a)^n)·pt/a + (1−a)^n·p(1−t)/(1−a)`. Raises BadInput for rates outside [0, 1], n < 1.
    """
    _require_rates(p=p, true_positive_rate=true_positive_rate, false_positive_rate=false_positive_rate)
    _require_n(n)
    accepted = _acceptance(p, true_positive_rate, false_positive_rate)
    if accepted in (0.0, 1.0):  # it accepts nothing or everything, and so chooses at random
        return p
    none_accepted = (1 - accepted) ** n
    right_if_none = p * (1 - true_positive_rate) / (1 - accepted)
    return (1 - none_accepted) * p * true_positive_rate / accepted + none_accepted * right_if_none


def verifier_ceiling(p: float, true_positive_rate: float, false_positive_rate: float) -> float:
    """The limit of `verified_accuracy` for ever more draws, `pt/a`; p if nothing is ever accepted. Raises BadInput."""
    _require_rates(p=p, true_positive_rate=true_positive_rate, false_positive_rate=false_positive_rate)
    accepted = _acceptance(p, true_positive_rate, false_positive_rate)
    return p if accepted == 0 else p * true_positive_rate / accepted


def verifier_errors(
    correct_passed: int, correct_n: int, exploits_passed: int, exploits_n: int, confidence: float = 0.95
) -> VerifierErrors:
    """The error budget from golden corrects (must pass) and golden exploits (must not). Raises BadInput if one is empty."""
    false_negatives = clopper_pearson(correct_n - correct_passed, correct_n, confidence)
    false_positives = clopper_pearson(exploits_passed, exploits_n, confidence)
    tpr, fpr = correct_passed / correct_n, exploits_passed / exploits_n
    missed = (correct_n - correct_passed) / correct_n
    return VerifierErrors(fpr, false_positives, missed, false_negatives, youden_j(tpr, fpr))


def youden_j(true_positive_rate: float, false_positive_rate: float) -> float:
    """`TPR − FPR` (Youden 1950): 1 is perfect, 0 is a coin, below 0 rewards the wrong answers. Raises BadInput."""
    _require_rates(true_positive_rate=true_positive_rate, false_positive_rate=false_positive_rate)
    return true_positive_rate - false_positive_rate


def expected_maximum_of_normals(candidates: int) -> float:
    """e_M: the mean of the greatest of M independent standard normals, by the trapezoid rule, to about 1e-12.

    `∫_0^∞ 1 − Φ(x)^M − Φ(−x)^M dx`; the integrand is even and analytic, so the rule converges exponentially. Raises
    BadInput for M < 1 or M > 10^12.
    """
    if not 1 <= candidates <= 10**12:
        raise BadInput(f"the number of candidates must lie between 1 and 10^12, found {candidates}")
    if candidates == 1:
        return 0.0
    step = 1 / 64
    total = 0.0
    for index in range(1, 14 * 64):
        tail = 0.5 * math.erfc(index * step / math.sqrt(2))
        total += -math.expm1(candidates * math.log1p(-tail)) - tail**candidates
    return step * (total + 0.5 * (1 - 2 * 0.5**candidates))


def winners_curse(standard_error: float, candidates: int) -> float:
    """How much the best of M *equal* candidates is inflated on average: SE·e_M. Re-measure winners on fresh data.

    Raises BadInput for a standard error that is not positive.
    """
    if not (standard_error > 0 and math.isfinite(standard_error)):
        raise BadInput(f"the standard error must be positive and finite, found {standard_error!r}")
    return standard_error * expected_maximum_of_normals(candidates)


def expected_draws(p: float, budget: int) -> float:
    """Mean draws of sampling that stops at the first pass or at `budget`: `(1 − (1−p)^budget)/p`. Raises BadInput."""
    _require_rates(p=p)
    _require_n(budget)
    if p in (0.0, 1.0):
        return float(budget) if p == 0 else 1.0
    return -math.expm1(budget * math.log1p(-p)) / p


def gao_best_of_n(distance: float, alpha: float, beta: float) -> float:
    """Gold reward of best-of-n at d = √KL: `d(α − βd)` (Gao et al. 2022, arXiv:2210.10760). Raises BadInput if d < 0."""
    _require_distance(distance)
    return distance * (alpha - beta * distance)


def gao_rl(distance: float, alpha: float, beta: float) -> float:
    """Gold reward of RL at d = √KL: `d(α − β ln d)`, 0 at d = 0 (Gao et al. 2022). Raises BadInput for d < 0."""
    _require_distance(distance)
    return 0.0 if distance == 0 else distance * (alpha - beta * math.log(distance))


def gao_best_of_n_peak(alpha: float, beta: float) -> Peak:
    """The peak of `gao_best_of_n`: d = α/(2β), value α²/(4β). Raises BadInput unless α, β > 0 (else there is none)."""
    _require_peak(alpha, beta)
    return Peak(alpha / (2 * beta), alpha * alpha / (4 * beta))


def gao_rl_peak(alpha: float, beta: float) -> Peak:
    """The peak of `gao_rl`: d = exp(α/β − 1), value βd. Raises BadInput unless α, β > 0 and α/β < 700."""
    _require_peak(alpha, beta)
    distance = math.exp(alpha / beta - 1)
    return Peak(distance, beta * distance)


def _acceptance(p: float, true_positive_rate: float, false_positive_rate: float) -> float:
    return p * true_positive_rate + (1 - p) * false_positive_rate


def _require_rates(**rates: float) -> None:
    for name, rate in rates.items():
        if not 0 <= rate <= 1:
            raise BadInput(f"{name} must lie between 0 and 1, found {rate!r}")


def _require_n(n: int) -> None:
    if n < 1:
        raise BadInput(f"the number of draws must be at least 1, found {n}")


def _require_distance(distance: float) -> None:
    if not (distance >= 0 and math.isfinite(distance)):
        raise BadInput(f"d = √KL must be finite and 0 or more, found {distance!r}")


def _require_peak(alpha: float, beta: float) -> None:
    if not (alpha > 0 and beta > 0 and alpha / beta < 700):
        raise BadInput(f"a peak needs α > 0, β > 0 and α/β < 700, found α = {alpha!r}, β = {beta!r}")
