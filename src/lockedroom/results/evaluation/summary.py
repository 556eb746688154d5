"""The numbers of a run, derived from its tally, and nothing else.

Estimators and intervals are those of docs/statistics.md. A number that is not defined (a standard error from one
example, a rate when nothing could be scored) is absent, never NaN or 0.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import msgspec

from lockedroom.records import Outcome, ScorerSpec
from lockedroom.results.evaluation.tally import CodeTally, Tally
from lockedroom.stats.intervals import holm_wilson, holm_wilson_effective
from lockedroom.stats.one_run import RunEstimate, RunSums, WithFailures, estimate_run, with_failures

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


class RateCount(msgspec.Struct, frozen=True):
    """How many examples had `correct` of their `scored` draws correct: the distribution of per-example pass rates."""

    scored: int
    correct: int
    examples: int


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
    pass_rates: list[RateCount]
    finish_reason_known: int
    truncated: int
    codes: list[CodeCount]
    failures: list[FailureCount]
    notes: list[str]


def summarise(tally: Tally, spec: ScorerSpec, confidence: float = 0.95) -> Summary:
    """Return every number of a run; the same tally always gives the same bytes."""
    attempts = tally.examples * tally.draws
    passes = RunSums()
    _add_rates(passes, tally.passes, tally.draws, without={})
    rewards = _reward_sums(tally)
    scored = sum(code.count for code in tally.codes.values())
    reward_range = spec.reward_range if spec.codes else None
    pass_rate = estimate_run(passes, confidence)
    mean_reward = estimate_run(rewards, confidence, reward_range=reward_range)
    return Summary(
        format=FORMAT,
        confidence=confidence,
        examples=tally.examples,
        draws=tally.draws,
        attempts=attempts,
        scored=scored,
        failed=attempts - scored,
        examples_without_score=tally.passes.get(0, {}).get(0, 0),
        pass_rate=_estimate(pass_rate),
        mean_reward=_estimate(mean_reward if tally.graded_passes else pass_rate),
        with_failures=with_failures(rewards, reward_range=spec.reward_range) if scored < attempts else None,
        variance=_variance(mean_reward),
        pass_rates=[
            RateCount(scored, correct, examples)
            for scored, row in sorted(tally.passes.items())
            for correct, examples in sorted(row.items())
        ],
        finish_reason_known=tally.finish_known,
        truncated=tally.truncated,
        codes=_code_counts(tally, scored, confidence),
        failures=[
            FailureCount(name, failure.count, failure.shown)
            for name, failure in sorted(tally.failures.items(), key=lambda item: (-item[1].count, item[0]))
        ],
        notes=[] if spec.codes else [NO_VOCABULARY],
    )


def _add_rates(
    sums: RunSums, histogram: dict[int, dict[int, int]], draws: int, *, without: dict[int, dict[int, int]]
) -> None:
    for scored, row in histogram.items():
        for correct, count in row.items():
            times = count - without.get(scored, {}).get(correct, 0)
            if times:
                sums.add_example([1.0] * correct + [0.0] * (scored - correct), failures=draws - scored, times=times)


def _reward_sums(tally: Tally) -> RunSums:
    """The rewards of all examples: those that are 1 or 0 with the outcome from the histogram, the others as summed."""
    sums = RunSums()
    _add_rates(sums, tally.passes, tally.draws, without=tally.graded_passes)
    sums.merge(tally.graded)
    return sums


def _estimate(found: RunEstimate | None) -> Estimate | None:
    if found is None:
        return None
    interval = found.interval
    return Estimate(
        value=found.mean,
        standard_error=found.standard_error,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        method=interval.method if interval else "undefined",
        examples=found.examples,
        degenerate=found.degenerate,
    )


def _variance(found: RunEstimate | None) -> Variance | None:
    if found is None or found.variance_within is None or found.variance_between is None:
        return None
    return Variance(within=found.variance_within, between=found.variance_between)


def _code_counts(tally: Tally, scored: int, confidence: float) -> list[CodeCount]:
    ordered = sorted(tally.codes.values(), key=lambda code: (-code.count, code.code, code.outcome.value))
    if not ordered:
        return []
    uses = Counter(code.code for code in ordered)
    if set(tally.passes) <= {0, 1}:
        intervals = holm_wilson([code.count for code in ordered], scored, confidence)
    else:
        sizes = [_effective_n(code, tally.passes, scored) for code in ordered]
        intervals = holm_wilson_effective([code.count / scored for code in ordered], sizes, confidence)
    return [
        CodeCount(_name(code, uses), code.outcome, code.count, code.count / scored, one.low, one.high, code.shown)
        for code, one in zip(ordered, intervals, strict=True)
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
    if m < 2 or spread <= 0:
        return float(m)
    variance = spread * m / (m - 1) / scored**2
    return min(float(scored), float(share * (1 - share) / variance)) or float(m)
