"""One word for a comparison: BETTER, WORSE, EQUIVALENT or INCONCLUSIVE."""

from __future__ import annotations

import enum
import math
from typing import NoReturn

from lockedroom.errors import BadInput
from lockedroom.stats.intervals import Interval


class Verdict(enum.Enum):
    """What a comparison allows one to say of run A against run B."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"

    def __bool__(self) -> NoReturn:
        raise TypeError(f"{self!r} has no truth value; compare it, e.g. verdict is Verdict.BETTER")


def equivalence_confidence(confidence: float) -> float:
    """`1 − 2α` for α = 1 − confidence: the level of the interval that decides EQUIVALENT. Raises BadInput at α >= ½."""
    if not 0.5 < confidence < 1:
        raise BadInput(f"confidence must lie strictly between 0.5 and 1 for an equivalence test, found {confidence!r}")
    return 1 - 2 * (1 - confidence)


def decide(
    interval: Interval | None, p_value: float, *, margin: float | None = None, equivalence: Interval | None = None
) -> Verdict:
    """The verdict on A − B, with α = 1 − `interval.confidence`.

    EQUIVALENT iff a margin was named and the (1−2α) interval lies strictly inside (−margin, margin): the two one-sided
    tests at level α (Schuirmann 1987). It comes first: a difference that is real and inside the margin is too small to
    matter to the one who named the margin. Else BETTER (WORSE) iff p <= α and the (1−α) interval lies above (below) 0;
    both are asked for, as the test is exact and the interval is not. Else INCONCLUSIVE, as is an undefined interval.
    Raises BadInput for a margin <= 0, or one without an `equivalence` interval of confidence 1−2α.
    """
    if not 0 <= p_value <= 1:
        raise BadInput(f"a p-value must lie between 0 and 1, found {p_value!r}")
    if margin is not None and not (margin > 0 and math.isfinite(margin)):
        raise BadInput(f"the margin must be positive and finite, found {margin!r}")
    if interval is None:
        return Verdict.INCONCLUSIVE
    if margin is not None and _inside(equivalence, interval.confidence, margin):
        return Verdict.EQUIVALENT
    significant = p_value <= 1 - interval.confidence
    if significant and interval.low > 0:
        return Verdict.BETTER
    if significant and interval.high < 0:
        return Verdict.WORSE
    return Verdict.INCONCLUSIVE


def _inside(equivalence: Interval | None, confidence: float, margin: float) -> bool:
    wanted = equivalence_confidence(confidence)
    if equivalence is None or not math.isclose(equivalence.confidence, wanted, abs_tol=1e-9):
        found = "none" if equivalence is None else f"one of {equivalence.confidence:g}"
        raise BadInput(f"a margin needs the equivalence interval of confidence {wanted:g}, found {found}")
    return -margin < equivalence.low and equivalence.high < margin
