"""What a look at a sealed holdout answers: less than the number, so that the holdout lasts for more looks.

Every answer is a statement "the pass rate on the holdout lies in [low, high]". Failures count as not passed, and widen
that statement upwards by their share. What it says of the pass rate on *new* examples is a Clopper-Pearson interval
around it, at a confidence that pays for the other looks.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Literal

import msgspec

from lockedroom.errors import BadInput
from lockedroom.stats.intervals import Interval, require_probability
from lockedroom.stats.sequential import ladder_step

STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
_SMALLEST_ALPHA = 1e-300


class Rule(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """How coarse: `rounded` to a step, a yes or no at a `threshold`, or the `ladder` with a step."""

    kind: Literal["rounded", "threshold", "ladder"]
    step: float | None = None
    threshold: float | None = None


class Measured(msgspec.Struct, frozen=True, gc=False):
    """The exact counts of one look. They stay in the process that made them."""

    examples: int
    draws: int
    passes: int
    failures: int


class Answer(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What is said of one look, and all that is said.

    `value`: the rounded pass rate, or the best one that the Ladder has let through so far. `reached`: whether the
    threshold was, or whether the Ladder's best was beaten. The pass rate on the holdout lies in [low, high].
    """

    kind: Literal["rounded", "threshold", "ladder"]
    value: float | None
    reached: bool | None
    low: float
    high: float
    failures: int


class LookIntervals(msgspec.Struct, frozen=True):
    """What an answer says of the pass rate on new examples.

    `planned` holds, together with all other looks of the budget, when no submission was chosen after seeing an earlier
    answer; `adaptive` holds even when each was.
    """

    planned: Interval
    adaptive: Interval


def make_rule(kind: str, examples: int, *, step: float | None, threshold: float | None) -> Rule:
    """Return the rule, its step filled in: the least of `STEPS` that is at least 0.5/√examples, one standard error.

    Raises BadInput for a step that is not 1 over 2, 3, …, a threshold outside (0, 1), or either where it has no use.
    """
    if kind == "threshold":
        if threshold is None or not 0 < threshold < 1 or step is not None:
            raise BadInput(f"--answers threshold needs --threshold between 0 and 1 and no --step, found {threshold}")
        return Rule("threshold", threshold=threshold)
    if threshold is not None:
        raise BadInput("--threshold goes with --answers threshold")
    if step is None:
        step = next((step for step in STEPS if step >= 0.5 / math.sqrt(examples)), STEPS[-1])
    if not 0 < step <= 0.5 or (1 / _exactly(step)).denominator != 1:
        raise BadInput(f"--step {step}: must go into 1 a whole number of times, twice at least, e.g. 0.05")
    return Rule("ladder" if kind == "ladder" else "rounded", step=step)


def answer(rule: Rule, measured: Measured, best: float | None) -> Answer:
    """Return what may be said of a look. `best` is the Ladder's best value so far, None before the first look."""
    attempts = measured.examples * measured.draws
    rate = Fraction(measured.passes, attempts)
    unknown = Fraction(measured.failures, attempts)
    value: float | None = None
    reached: bool | None = None
    if rule.kind == "threshold":
        threshold = _exactly(rule.threshold)
        reached = rate >= threshold
        low, high = (threshold, Fraction(1)) if reached else (Fraction(0), threshold)
    elif rule.kind == "ladder":
        value, reached = _climb(best, rate, rule)
        low, high = _cell(_exactly(value), rule) if reached else (Fraction(0), _exactly(value) + _exactly(rule.step))
    else:
        step = _exactly(rule.step)
        value = float(round(rate / step) * step)
        low, high = _cell(_exactly(value), rule)
    return Answer(rule.kind, value, reached, float(low), float(min(Fraction(1), high + unknown)), measured.failures)


def intervals(rule: Rule, said: Answer, examples: int, *, look: int, budget: int, confidence: float) -> LookIntervals:
    """Return the intervals for the pass rate on new examples, of look number `look` (from 1) of `budget`.

    Planned looks share α evenly (Bonferroni: nothing is assumed of how the looks depend on one another). For looks
    chosen after seeing answers, every history of answers that may come before this look gets its own share of α
    (Dwork et al. 2015, "Generalization in adaptive data analysis and holdout reuse", arXiv:1506.02629, §3: descriptions).
    """
    require_probability("confidence", confidence)
    alpha = Fraction(1 - confidence) / budget
    return LookIntervals(_interval(said, examples, alpha), _interval(said, examples, alpha / histories(rule, look)))


def histories(rule: Rule, look: int) -> int:
    """How many different series of answers may come before look number `look` (from 1)."""
    if rule.kind == "threshold":
        return int(2 ** (look - 1))
    values = int(1 / _exactly(rule.step)) + 1
    if rule.kind == "ladder":  # the best so far never falls: a choice of values with repetition
        return math.comb(values + look - 2, look - 1)
    return int(values ** (look - 1))


def _climb(best: float | None, rate: Fraction, rule: Rule) -> tuple[float, bool]:
    """The Ladder's best value after this look, and whether this look raised it."""
    assert rule.step is not None
    loss = ladder_step(None if best is None else round(1 - best, 12), float(1 - rate), rule.step)
    value = round(1 - loss, 12)
    return value, best is None or value > best


def _cell(value: Fraction, rule: Rule) -> tuple[Fraction, Fraction]:
    half = _exactly(rule.step) / 2
    return max(Fraction(0), value - half), min(Fraction(1), value + half)


def _interval(said: Answer, n: int, alpha: Fraction) -> Interval:
    """Clopper-Pearson around the whole statement, with examples as attempts: draws of one example add no more.

    The ends are computed from α, because 1 − α is 1 in floating point long before α is 0.
    """
    from scipy.special import betainccinv, betaincinv

    tail = float(alpha / 2)
    confidence = float(1 - alpha)
    method = "clopper-pearson around the answer"
    if tail < _SMALLEST_ALPHA:
        return Interval(0.0, 1.0, confidence, "none: too many answers may have come before")
    fewest, most = math.floor(_exactly(said.low) * n), math.ceil(_exactly(said.high) * n)
    low = float(betaincinv(fewest, n - fewest + 1, tail)) if fewest else 0.0
    high = float(betainccinv(most + 1, n - most, tail)) if most < n else 1.0
    return Interval(low, high, confidence, method)


def _exactly(number: float | None) -> Fraction:
    """The decimal number that a person wrote, not the double that stands for it."""
    assert number is not None
    return Fraction(repr(number))
