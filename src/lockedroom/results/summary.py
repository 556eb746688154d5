"""The numbers of a run, derived from its tally, and nothing else.

Estimators and intervals are those of docs/statistics.md. A number that is not defined (a standard error from one
example, a rate when nothing could be scored) is absent, never NaN or 0.
"""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import msgspec

from lockedroom.records import Outcome, ScorerSpec
from lockedroom.results.tally import CodeTally, Tally
from lockedroom.stats.exact_sum import UNIT_EXPONENT, ExactSum
from lockedroom.stats.intervals import holm_wilson_effective, mean_t_interval, wilson

FORMAT = "lockedroom.summary/1"
NO_VOCABULARY = "the scorer declares no codes: a result without code or outcome counts as correct when its reward is 1, else as wrong"


class Estimate(msgspec.Struct, frozen=True):
    """A mean over examples. `standard_error` and the interval are None where undefined.

    `degenerate` says that every example agreed, so that the sample shows no spread at all.
    """

    value: float
    standard_error: float | None
    low: float | None
    high: float | None
    method: str
    examples: int
    degenerate: bool


class WithFailures(msgspec.Struct, frozen=True):
    """The mean reward, read three ways when some attempts could not be judged.

    Over the scored attempts; with failures as 0; and the bounds if every failure were the worst or the best reward.
    """

    scored_only: float | None
    failures_as_zero: float
    lowest: float
    highest: float


class Variance(msgspec.Struct, frozen=True):
    """Of the reward: mean variance over the draws of one example, and variance of the examples' true means."""

    within: float
    between: float


class CodeCount(msgspec.Struct, frozen=True):
    """How often a code came, as a share of the scored attempts, with a Holm-adjusted Wilson interval.

    With several draws an example, the interval is that of the effective number of independent attempts.
    """

    code: str
    outcome: Outcome
    count: int
    share: float
    low: float
    high: float
    shown: list[tuple[str, int]]


class FailureCount(msgspec.Struct, frozen=True):
    code: str
    count: int
    shown: list[tuple[str, int]]


class Summary(msgspec.Struct, frozen=True):
    format: str
    confidence: float
    examples: int
    draws: int
    attempts: int
    scored: int
    failed: int
    examples_without_score: int
    pass_rate: Estimate | None
    mean_reward: Estimate | None
    with_failures: WithFailures | None
    variance: Variance | None
    finish_reason_known: int
    truncated: int
    codes: list[CodeCount]
    failures: list[FailureCount]
    notes: list[str]


class _Moments(msgspec.Struct):
    """Exact moments of the examples' means q: their number, Σq, Σq², and Σ of within-example variances."""

    examples: int = 0
    q: Fraction = Fraction(0)
    q_squared: Fraction = Fraction(0)
    within: Fraction = Fraction(0)
    with_variance: int = 0

    def add_rates(self, histogram: dict[int, dict[int, int]], sign: int) -> None:
        for scored, row in histogram.items():
            for correct, count in row.items():
                if scored:
                    rate, times = Fraction(correct, scored), sign * count
                    self.examples += times
                    self.q += rate * times
                    self.q_squared += rate * rate * times
                    if scored > 1:
                        self.with_variance += times
                        self.within += Fraction(correct * (scored - correct), scored * (scored - 1)) * times


def summarise(tally: Tally, spec: ScorerSpec, confidence: float = 0.95) -> Summary:
    """Return every number of a run; the same tally always gives the same bytes."""
    attempts = tally.examples * tally.draws
    scored = sum(code.count for code in tally.codes.values())
    passes = _Moments()
    passes.add_rates(tally.passes, 1)
    rewards = _reward_moments(tally)
    correct = sum(code.count for code in tally.codes.values() if code.outcome is Outcome.CORRECT)
    binary = tally.graded.examples == 0
    pass_rate = _estimate(passes, tally.draws, confidence, correct=correct)
    return Summary(
        format=FORMAT,
        confidence=confidence,
        examples=tally.examples,
        draws=tally.draws,
        attempts=attempts,
        scored=scored,
        failed=attempts - scored,
        examples_without_score=tally.passes.get(0, {}).get(0, 0),
        pass_rate=pass_rate,
        mean_reward=pass_rate if binary else _estimate(rewards, tally.draws, confidence, correct=None),
        with_failures=_with_failures(tally, rewards, spec, attempts, scored) if scored < attempts else None,
        variance=_variance(rewards, tally.draws),
        finish_reason_known=tally.finish_known,
        truncated=tally.truncated,
        codes=_code_counts(tally, scored, confidence),
        failures=[
            FailureCount(name, failure.count, failure.shown)
            for name, failure in sorted(tally.failures.items(), key=lambda item: (-item[1].count, item[0]))
        ],
        notes=[] if spec.codes else [NO_VOCABULARY],
    )


def _reward_moments(tally: Tally) -> _Moments:
    moments = _Moments()
    moments.add_rates(tally.passes, 1)
    moments.add_rates(tally.graded_passes, -1)
    graded = tally.graded
    moments.examples += graded.examples
    moments.q += _fraction(graded.q)
    moments.q_squared += _fraction(graded.q_squared)
    moments.within += _fraction(graded.within)
    moments.with_variance += graded.with_variance
    return moments


def _estimate(moments: _Moments, draws: int, confidence: float, *, correct: int | None) -> Estimate | None:
    """Mean over examples. With one binary draw each: Wilson; otherwise Student's t over the examples' means."""
    m = moments.examples
    if m == 0:
        return None
    mean = moments.q / m
    squares = moments.q_squared - moments.q * mean  # Σ(q - mean)², exact
    degenerate = squares == 0
    error = math.sqrt(squares / (m - 1) / m) if m > 1 and not degenerate else None
    if correct is not None and draws == 1:
        interval, method = wilson(correct, m, confidence), "Wilson"
    elif correct is not None and degenerate and mean in (0, 1):
        interval, method = wilson(int(mean * m), m, confidence), "Wilson over examples (every example agrees)"
    elif error is None:
        return Estimate(float(mean), None, None, None, "undefined", m, degenerate)
    else:
        interval, method = mean_t_interval(float(mean), error, m - 1, confidence), "Student's t over examples"
    low, high = interval.low, interval.high
    if correct is not None:
        low, high = max(0.0, low), min(1.0, high)
    return Estimate(float(mean), error, low, high, method, m, degenerate)


def _with_failures(tally: Tally, rewards: _Moments, spec: ScorerSpec, attempts: int, scored: int) -> WithFailures:
    plain = _correct(tally.passes) - _correct(tally.graded_passes)
    total = Fraction(plain) + _fraction(tally.graded.rewards)
    worst, best = (Fraction(bound) * (attempts - scored) for bound in spec.reward_range)
    return WithFailures(
        scored_only=float(rewards.q / rewards.examples) if rewards.examples else None,
        failures_as_zero=float(total / attempts),
        lowest=float((total + worst) / attempts),
        highest=float((total + best) / attempts),
    )


def _fraction(total: ExactSum) -> Fraction:
    return Fraction(total.units(), 1 << UNIT_EXPONENT)


def _correct(histogram: dict[int, dict[int, int]]) -> int:
    return sum(correct * count for row in histogram.values() for correct, count in row.items())


def _variance(moments: _Moments, draws: int) -> Variance | None:
    """Var(q) contains the sampling noise: between = Var(q) - within/K (may be negative by chance; printed as it is)."""
    if draws == 1 or moments.examples < 2 or moments.with_variance == 0:
        return None
    m = moments.examples
    observed = (moments.q_squared - moments.q * moments.q / m) / (m - 1)
    within = moments.within / moments.with_variance
    return Variance(within=float(within), between=float(observed - within / draws))


def _code_counts(tally: Tally, scored: int, confidence: float) -> list[CodeCount]:
    ordered = sorted(tally.codes.values(), key=lambda code: (-code.count, code.code, code.outcome.value))
    uses = Counter(code.code for code in ordered)
    sizes = [_effective_n(code, tally.passes, scored) for code in ordered]
    shares = [code.count / scored for code in ordered]
    return [
        CodeCount(_name(code, uses), code.outcome, code.count, share, interval.low, interval.high, code.shown)
        for code, share, interval in zip(ordered, shares, holm_wilson_effective(shares, sizes, confidence), strict=True)
    ]


def _name(code: CodeTally, uses: Counter[str]) -> str:
    return code.code if uses[code.code] == 1 else f"{code.code} ({code.outcome.value})"


def _effective_n(code: CodeTally, passes: dict[int, dict[int, int]], scored: int) -> float:
    """p(1-p)/SE² of a code's share, SE by linearisation over examples as clusters; at most the attempts themselves.

    A code that is as frequent in every example shows no spread; then only the examples count as independent.
    """
    clusters = [(n, sum(row.values())) for n, row in passes.items() if n]
    m = sum(times for _, times in clusters)
    share = Fraction(code.count, scored)
    spread = code.squares - 2 * share * code.products + share * share * sum(n * n * times for n, times in clusters)
    if all(n == 1 for n, _ in clusters):
        return float(scored)
    if m < 2 or spread <= 0:
        return float(m)
    variance = spread * m / (m - 1) / scored**2
    return min(float(scored), float(share * (1 - share) / variance)) or float(m)
