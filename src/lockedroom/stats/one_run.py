"""The mean reward of one run, its standard error and interval, streamed exactly.

Legend: m examples have at least one scored draw; example i has K_i scored draws with mean q_i and variance var_i. The
estimate is the mean of q_i (each example weighs the same, however many of its draws failed) with SE = sd(q_i)/√m, the
standard error clustered by example. It contains the sampling noise of the draws already: σ²_within is a part of it, not
an addition to it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import msgspec

from lockedroom.errors import BadInput
from lockedroom.stats.exact_sum import UNIT_EXPONENT, ExactSum, exact_variance, ratio
from lockedroom.stats.intervals import Interval, mean_t_interval, require_count, wilson
from lockedroom.wording import counted


class WithFailures(msgspec.Struct, frozen=True, gc=False):
    """The three numbers printed when some attempts could not be judged.

    `mean_scored` leaves failures out (None if nothing was scored); `mean_failures_as_zero` divides by all attempts;
    `lowest` and `highest` give every failure the least and the greatest reward of the scorer's range.
    """

    scored: int
    failures: int
    mean_scored: float | None
    mean_failures_as_zero: float
    lowest: float
    highest: float


class RunEstimate(msgspec.Struct, frozen=True):
    """What one run says of E[R]. None stands for undefined, never for zero.

    `standard_error` is None with fewer than two examples and when `degenerate`: all q_i are equal, their spread is
    zero, and a printed 0 would claim certainty. `interval` is Wilson for one binary draw an example, else t; a
    degenerate run of all 0 or all 1 gets Wilson over its examples (wider than the draws deserve, never too narrow), any
    other degenerate run gets none. `variance_between` estimates Var(x) without bias, so it may come out below zero.
    """

    examples: int
    scored: int
    draws_min: int
    draws_max: int
    mean: float
    standard_error: float | None
    degenerate: bool
    interval: Interval | None
    variance_of_means: float | None
    variance_within: float | None
    variance_between: float | None


class RunState(msgspec.Struct, frozen=True):
    """`RunSums` as text and integers, to be sent between processes or kept on disk."""

    sum_q: str
    sum_q_squared: str
    sum_variance: str
    sum_reward: str
    examples_by_draws: dict[int, int]
    examples_unscored: int
    failures: int
    binary: bool


class RunSums:
    """All that a run's estimate needs, from one pass. It is a class because a stream needs state.

    The same examples give the same state in whatever order they come, and however they are split and merged.
    """

    def __init__(self) -> None:
        self.sum_q = ExactSum()
        self.sum_q_squared = ExactSum()
        self.sum_variance = ExactSum()
        self.sum_reward = ExactSum()
        self.examples_by_draws: Counter[int] = Counter()
        self.examples_unscored = 0
        self.failures = 0
        self.binary = True

    def add_example(self, rewards: Sequence[float], failures: int = 0, times: int = 1) -> None:
        """Add one example by the rewards of its scored draws; `times` adds as many examples that look the same.

        Raises BadInput for a reward that is not finite, a negative count, or an example with no attempt at all.
        """
        draws = len(rewards)
        if failures < 0 or times < 0 or draws + failures == 0:
            raise BadInput(
                f"an example needs at least one attempt, found {counted(draws, 'scored draw')} and {counted(failures, 'failure')}"
            )
        self.failures += failures * times
        if draws == 0:
            self.examples_unscored += times
            return
        mean, variance = _mean_and_variance(rewards)
        self.sum_q.add(mean, times)
        self.sum_q_squared.add_product(mean, mean, times)
        self.sum_variance.add(variance, times)
        self.examples_by_draws[draws] += times
        if _is_binary(rewards):
            self.sum_reward.add(1.0, times * rewards.count(1.0))
            return
        self.binary = False
        for reward in rewards:
            self.sum_reward.add(reward, times)

    def merge(self, other: RunSums) -> None:
        """Add all examples that `other` holds."""
        self.sum_q.merge(other.sum_q)
        self.sum_q_squared.merge(other.sum_q_squared)
        self.sum_variance.merge(other.sum_variance)
        self.sum_reward.merge(other.sum_reward)
        self.examples_by_draws.update(other.examples_by_draws)
        self.examples_unscored += other.examples_unscored
        self.failures += other.failures
        self.binary = self.binary and other.binary

    def state(self) -> RunState:
        """The canonical state: equal for equal sets of examples."""
        return RunState(
            sum_q=self.sum_q.to_text(),
            sum_q_squared=self.sum_q_squared.to_text(),
            sum_variance=self.sum_variance.to_text(),
            sum_reward=self.sum_reward.to_text(),
            examples_by_draws={draws: n for draws, n in sorted(self.examples_by_draws.items()) if n},
            examples_unscored=self.examples_unscored,
            failures=self.failures,
            binary=self.binary,
        )

    @classmethod
    def from_state(cls, state: RunState) -> RunSums:
        """The sums that `state` described. Raises BadInput for a malformed exact sum."""
        sums = cls()
        sums.sum_q = ExactSum.from_text(state.sum_q)
        sums.sum_q_squared = ExactSum.from_text(state.sum_q_squared)
        sums.sum_variance = ExactSum.from_text(state.sum_variance)
        sums.sum_reward = ExactSum.from_text(state.sum_reward)
        sums.examples_by_draws = Counter(state.examples_by_draws)
        sums.examples_unscored, sums.failures, sums.binary = state.examples_unscored, state.failures, state.binary
        return sums


def binary_standard_error(successes: int, n: int) -> float | None:
    """`sqrt(p(1-p)/(n-1))`; None (undefined) for n = 1 and for 0 or n successes. Raises BadInput as `wilson` does."""
    require_count(successes, n)
    if n == 1 or successes in (0, n):
        return None
    return math.sqrt(ratio(successes * (n - successes), n * n * (n - 1)))


def estimate_run(
    sums: RunSums, confidence: float = 0.95, *, reward_range: tuple[float, float] | None = (0.0, 1.0)
) -> RunEstimate | None:
    """The estimate of one run, or None if no attempt was scored. A t interval is cut to `reward_range`, and says so."""
    m = sums.examples_by_draws.total()
    if m == 0:
        return None
    draws = [k for k, n in sums.examples_by_draws.items() if n]
    mean = ratio(sums.sum_q.units(), m << UNIT_EXPONENT)
    spread = exact_variance(sums.sum_q, sums.sum_q_squared, m) if m > 1 else None
    degenerate = spread == 0.0
    se = math.sqrt(spread / m) if spread else None
    within = variance_within(sums)
    return RunEstimate(
        examples=m,
        scored=sum(k * n for k, n in sums.examples_by_draws.items()),
        draws_min=min(draws),
        draws_max=max(draws),
        mean=mean,
        standard_error=se,
        degenerate=degenerate,
        interval=_interval(sums, mean, se, confidence, reward_range),
        variance_of_means=spread,
        variance_within=within,
        variance_between=None if spread is None or within is None else spread - within * _mean_inverse_draws(sums),
    )


def variance_within(sums: RunSums) -> float | None:
    """σ²_within: the mean of var_i over examples with at least two scored draws; None if there is none."""
    repeated = sum(n for k, n in sums.examples_by_draws.items() if k > 1)
    return ratio(sums.sum_variance.units(), repeated << UNIT_EXPONENT) if repeated else None


def with_failures(sums: RunSums, *, reward_range: tuple[float, float] = (0.0, 1.0)) -> WithFailures:
    """The three numbers. The last three weigh attempts, not examples (the same when all have as many attempts).

    Raises BadInput if there was no attempt at all.
    """
    scored = sum(k * n for k, n in sums.examples_by_draws.items())
    attempts = scored + sums.failures
    if attempts == 0:
        raise BadInput("no attempts: there is nothing to average")
    m = sums.examples_by_draws.total()
    lowest, highest = (_mean_with(sums, reward, attempts) for reward in reward_range)
    return WithFailures(
        scored=scored,
        failures=sums.failures,
        mean_scored=ratio(sums.sum_q.units(), m << UNIT_EXPONENT) if m else None,
        mean_failures_as_zero=_mean_with(sums, 0.0, attempts),
        lowest=lowest,
        highest=highest,
    )


def _mean_with(sums: RunSums, reward_of_failures: float, attempts: int) -> float:
    total = ExactSum()
    total.merge(sums.sum_reward)
    total.add(reward_of_failures, sums.failures)
    return ratio(total.units(), attempts << UNIT_EXPONENT)


def _interval(
    sums: RunSums, mean: float, se: float | None, confidence: float, bounds: tuple[float, float] | None
) -> Interval | None:
    m = sums.examples_by_draws.total()
    single = sums.examples_by_draws[1] == m
    if sums.binary and (single or mean in (0.0, 1.0)):
        return wilson(round(mean * m), m, confidence)
    return None if se is None else mean_t_interval(mean, se, m - 1, confidence, bounds=bounds)


def _mean_and_variance(rewards: Sequence[float]) -> tuple[float, float]:
    """q_i and var_i, correctly rounded; var_i of a single draw is undefined and counts as nothing (0.0)."""
    draws = len(rewards)
    if draws == 1:
        return float(rewards[0]), 0.0
    if _is_binary(rewards):  # the common case: the same numbers, without big integers
        ones = rewards.count(1.0)
        return ones / draws, ones * (draws - ones) / (draws * (draws - 1))
    total, squares = ExactSum(), ExactSum()
    for reward in rewards:
        total.add(reward)
        squares.add_product(reward, reward)
    return ratio(total.units(), draws << UNIT_EXPONENT), exact_variance(total, squares, draws)


def _is_binary(rewards: Sequence[float]) -> bool:
    return rewards.count(0.0) + rewards.count(1.0) == len(rewards)


def _mean_inverse_draws(sums: RunSums) -> float:
    """The mean of 1/K_i, which is 1/K when all examples have K scored draws."""
    inverse = math.fsum(n / k for k, n in sums.examples_by_draws.items())
    return inverse / sums.examples_by_draws.total()
