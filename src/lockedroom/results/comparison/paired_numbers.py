"""The numbers of a comparison, B relative to A, and the one word that they allow.

Legend: E examples; K draws an example; q is an example's mean over its scored draws; d = q_B − q_A.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from lockedroom.errors import BadInput, NotComparable
from lockedroom.results.comparison.columns import Columns
from lockedroom.stats.intervals import Interval
from lockedroom.stats.paired import (
    PairedTest,
    UnpairedDifference,
    mcnemar_exact,
    paired_difference,
    sign_flip,
    unpaired_difference,
)
from lockedroom.stats.power import Noise, minimum_detectable_effect
from lockedroom.stats.sequential import AnytimeTest, anytime_mcnemar
from lockedroom.stats.verdict import Verdict, decide, equivalence_confidence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEFT_OUT_SHOWN = 5


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked. `comparisons` is how many runs are compared with the first; `reward_range` None is unknown."""

    metric: str
    confidence: float
    margin: float | None
    anytime: bool
    seed: int
    comparisons: int
    reward_range: tuple[float, float] | None


class PairedNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """Every number of B − A over the examples that both runs judged. None stands for undefined.

    `family_interval` is at 1 − α/k for k comparisons and `equivalence_interval` at 1 − 2α/k; with one comparison
    the former is `interval`. `detectable` is the difference that so many examples would show with power 0.8.
    """

    examples: int
    mean_a: float
    mean_b: float
    difference: float
    standard_error: float | None
    interval: Interval | None
    family_interval: Interval | None
    equivalence_interval: Interval | None
    correlation: float | None
    wins: int
    losses: int
    ties: int
    test: PairedTest
    anytime: AnytimeTest | None
    unpaired: UnpairedDifference
    detectable: float | None


class FailureBounds(msgspec.Struct, frozen=True, kw_only=True):
    """What attempts that could not be judged leave open. `left_out` examples have no judged draw in A or in B.

    `lowest` gives every failure of A the greatest reward and every failure of B the least, `highest` the reverse; both
    are over all examples. None: the scorer's rewards have no known range.
    """

    failed_a: int
    failed_b: int
    left_out: int
    left_out_first: list[str]
    lowest: PairedNumbers | None
    highest: PairedNumbers | None


def numbers_of(a: Columns, b: Columns, question: Question) -> PairedNumbers:
    """Compare two runs over the examples with a scored draw on both sides. Raises NotComparable when there is none."""
    both = a.scored.any(axis=1) & b.scored.any(axis=1)
    if not both.any():
        raise NotComparable(
            "not comparable: no example has a judged attempt in both runs, so there is no difference to estimate; "
            "look at the failures: lockedroom inspect RUN --failures"
        )
    q_a = a.means(question.metric)[both]
    q_b = b.means(question.metric)[both]
    return _numbers(q_a, q_b, question, one_draw=a.draws == b.draws == 1)


def bounds_of(a: Columns, b: Columns, question: Question) -> FailureBounds | None:
    """Return what the failures leave open, or None when there are none."""
    import numpy as np

    failed_a, failed_b = int((~a.scored).sum()), int((~b.scored).sum())
    if failed_a == failed_b == 0:
        return None
    out = np.logical_not(a.scored.any(axis=1) & b.scored.any(axis=1))
    ends: list[PairedNumbers | None] = [None, None]
    if question.reward_range is not None:
        low, high = question.reward_range
        one_draw = a.draws == b.draws == 1
        ends = [
            _numbers(_filled(a, question, fill_a), _filled(b, question, fill_b), question, one_draw=one_draw)
            for fill_a, fill_b in ((high, low), (low, high))
        ]
    first = [a.ids[i] for i in np.flatnonzero(out)[:LEFT_OUT_SHOWN].tolist()]
    return FailureBounds(
        failed_a=failed_a,
        failed_b=failed_b,
        left_out=int(out.sum()),
        left_out_first=first,
        lowest=ends[0],
        highest=ends[1],
    )


def verdict_of(
    numbers: PairedNumbers, p_value: float, bounds: FailureBounds | None, question: Question, *, capped: str | None
) -> tuple[Verdict, list[str]]:
    """Return the verdict on B − A at a p-value (adjusted for the other comparisons), and why it is not a stronger one.

    With failures the verdict is given only if both worst cases give the same. `capped` is the reason why a difference
    may not be put down to anything (no knob was turned).
    """
    found, reasons = _decide(numbers, p_value, question), []
    if found in (Verdict.BETTER, Verdict.WORSE) and capped is not None:
        reasons.append(f"the numbers alone would say {found.name}, but {capped}")
        found = Verdict.INCONCLUSIVE
    if found is not Verdict.INCONCLUSIVE and bounds is not None:
        ends = [bounds.lowest, bounds.highest]
        held = [end is not None and _decide(end, _worst_p(end, question), question) is found for end in ends]
        if not all(held):
            reasons.append(f"the judged attempts alone would say {found.name}, but the failures could turn it")
            found = Verdict.INCONCLUSIVE
    return found, reasons


def not_worse(numbers: PairedNumbers, bounds: FailureBounds | None, margin: float) -> bool:
    """Whether B is at most `margin` worse than A: the lower end of the interval, in the worst case too, is >= −margin."""
    cases = [numbers] if bounds is None else [numbers, bounds.lowest, bounds.highest]
    return all(
        case is not None and case.family_interval is not None and case.family_interval.low >= -margin for case in cases
    )


def p_value_of(numbers: PairedNumbers) -> float:
    """The p-value that decides: the anytime-valid one where it was asked for."""
    return numbers.test.p_value if numbers.anytime is None else numbers.anytime.p_value


def _worst_p(numbers: PairedNumbers, question: Question) -> float:
    """Bonferroni, which is never smaller than Holm: the worst cases of the other comparisons need not be known."""
    return min(1.0, question.comparisons * p_value_of(numbers))


def _decide(numbers: PairedNumbers, p_value: float, question: Question) -> Verdict:
    if numbers.anytime is not None:
        if p_value > 1 - question.confidence or numbers.difference == 0:
            return Verdict.INCONCLUSIVE
        return Verdict.BETTER if numbers.difference > 0 else Verdict.WORSE
    if question.margin is not None:
        within = decide(numbers.family_interval, 1.0, margin=question.margin, equivalence=numbers.equivalence_interval)
        if within is Verdict.EQUIVALENT:
            return within
    return decide(numbers.interval, p_value)


def _numbers(
    q_a: NDArray[np.float64], q_b: NDArray[np.float64], question: Question, *, one_draw: bool
) -> PairedNumbers:
    a, b = q_a.tolist(), q_b.tolist()
    confidence, k = question.confidence, question.comparisons
    # The statistics speak of their first argument against their second; here that is B against A.
    paired = paired_difference(b, a, confidence)
    binary = one_draw and bool(((q_a == 0) | (q_a == 1)).all() and ((q_b == 0) | (q_b == 1)).all())
    alpha = 1 - confidence
    equivalence = None
    if question.margin is not None:
        equivalence = paired_difference(b, a, equivalence_confidence(1 - alpha / k)).interval
    se = paired.standard_error
    detectable = None
    if se is not None:
        noise = Noise(between=se * se * paired.examples)
        detectable = minimum_detectable_effect(paired.examples, noise, alpha=alpha)
    return PairedNumbers(
        examples=paired.examples,
        mean_a=paired.mean_b,
        mean_b=paired.mean_a,
        difference=paired.difference,
        standard_error=se,
        interval=paired.interval,
        family_interval=paired.interval if k == 1 else paired_difference(b, a, 1 - alpha / k).interval,
        equivalence_interval=equivalence,
        correlation=paired.correlation,
        wins=paired.wins,
        losses=paired.losses,
        ties=paired.ties,
        test=mcnemar_exact(paired.wins, paired.losses)
        if binary
        else sign_flip((q_b - q_a).tolist(), seed=question.seed),
        anytime=_anytime(paired.wins, paired.losses, question, binary=binary),
        unpaired=unpaired_difference(b, a, confidence),
        detectable=detectable,
    )


def _anytime(wins: int, losses: int, question: Question, *, binary: bool) -> AnytimeTest | None:
    if not question.anytime:
        return None
    if not binary:
        raise BadInput(
            "--anytime is for one draw an example and rewards of 0 or 1 (McNemar's table); leave it out, or evaluate "
            "with --draws 1"
        )
    return anytime_mcnemar(wins, losses, 1 - question.confidence)


def _filled(columns: Columns, question: Question, fill: float) -> NDArray[np.float64]:
    import numpy as np

    means: NDArray[np.float64] = np.where(columns.scored, columns.values(question.metric), fill).mean(axis=1)
    return means


def require_question(metric: str, confidence: float, margin: float | None, anytime: bool) -> None:
    """Raises BadInput for values that no comparison can have."""
    if metric not in ("pass", "reward"):
        raise BadInput(f"--metric {metric!r}: use pass or reward")
    if not 0.5 < confidence < 1:
        raise BadInput(f"--confidence {confidence}: must lie between 0.5 and 1, e.g. 0.95")
    if margin is not None and not 0 < margin < float("inf"):
        raise BadInput(
            f"--margin {margin}: must be above 0 and finite, in units of the metric, e.g. 0.02 for two points"
        )
    if margin is not None and anytime:
        raise BadInput("--anytime with --margin: equivalence has no anytime-valid test here; ask for one of the two")
