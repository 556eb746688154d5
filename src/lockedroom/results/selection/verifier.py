"""Where selection by an imperfect verifier must end, from its error rates: given, counted by an audit, or in the pool."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from lockedroom.results.selection.picking import AuditedErrors, Plan
from lockedroom.stats.intervals import Interval
from lockedroom.stats.selection import verifier_ceiling

# How often (the proxy passed a draw, the measuring scorer passed it).
Confusion: TypeAlias = Counter[tuple[bool, bool]]


class VerifierModel(msgspec.Struct, frozen=True):
    """A verifier with these error rates: where selection by it must end (`ceiling`). `source` says where they are from.

    `predicted` of each n is the mean over examples of the accuracy at the example's own p: at exact p where known, else
    estimated without bias from its draws. The ceiling has no unbiased estimate; without exact p it is taken at p = c/N.
    From an audit, the rates have Clopper-Pearson intervals, and the ceiling is also taken at the worst and best of their ends.
    """

    source: str
    false_positive_rate: float
    false_negative_rate: float
    ceiling: float
    false_positive_interval: Interval | None = None
    false_negative_interval: Interval | None = None
    ceiling_at_worst: float | None = None
    ceiling_at_best: float | None = None


def mean_over(ps: Counter[float], value: Callable[[float], float]) -> float:
    """Return the mean of a value over examples, which depends on each through its p."""
    total = ps.total()
    return math.fsum(value(p) * times for p, times in ps.items()) / total if total else 0.0


def verifier_of(plan: Plan, confusion: Confusion, ps: Counter[float]) -> VerifierModel | None:
    """Return the verifier that a person, an audit or this pool describes; None where nothing does."""
    audited = plan.verifier_audit
    if audited is not None:
        return _audited(audited, ps)
    given = plan.verifier_errors
    if given is not None:
        rates, source = given, "given (--verifier-errors)"
    elif confusion:
        right = confusion[True, True] + confusion[False, True]
        wrong = confusion[True, False] + confusion[False, False]
        if not right or not wrong:
            return None
        rates = (confusion[True, False] / wrong, confusion[False, True] / right)
        source = "counted in this pool, where the measuring scorer is the truth"
    else:
        return None
    false_positive, false_negative = rates
    ceiling = mean_over(ps, lambda p: verifier_ceiling(p, 1 - false_negative, false_positive))
    return VerifierModel(source, false_positive, false_negative, ceiling)


def _audited(errors: AuditedErrors, ps: Counter[float]) -> VerifierModel:
    false_positive, false_negative = errors.false_positive_interval, errors.false_negative_interval
    ends = (
        (errors.false_positive_rate, errors.false_negative_rate),
        (false_positive.high, false_negative.high),
        (false_positive.low, false_negative.low),
    )
    ceilings = [mean_over(ps, lambda p, f=f, miss=miss: verifier_ceiling(p, 1 - miss, f)) for f, miss in ends]  # type: ignore[misc]  # bound at once
    return VerifierModel(
        f"counted by the audit {errors.audit[:12]} (of its attacks, not of this policy's completions)",
        errors.false_positive_rate,
        errors.false_negative_rate,
        ceilings[0],
        false_positive,
        false_negative,
        ceilings[1],
        ceilings[2],
    )
