from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockedroom.errors import BadInput
from lockedroom.stats.intervals import wilson
from lockedroom.stats.one_run import (
    RunEstimate,
    RunSums,
    binary_standard_error,
    estimate_run,
    variance_within,
    with_failures,
)

rewards = st.lists(st.floats(min_value=0, max_value=1), max_size=5)
attempts = st.tuples(rewards, st.integers(min_value=0, max_value=2)).filter(lambda row: len(row[0]) + row[1] > 0)


def summed(rows: list[tuple[list[float], int]]) -> RunSums:
    sums = RunSums()
    for scored, failures in rows:
        sums.add_example(scored, failures)
    return sums


def estimated(*rows: list[float]) -> RunEstimate:
    estimate = estimate_run(summed([(row, 0) for row in rows]))
    assert estimate is not None
    return estimate


@given(st.lists(attempts, max_size=12), st.randoms(use_true_random=False))
def test_order_split_merge_and_transport_change_no_bit(rows: list[tuple[list[float], int]], rng: random.Random) -> None:
    shuffled = [(rng.sample(scored, len(scored)), failures) for scored, failures in rng.sample(rows, len(rows))]
    cut = rng.randrange(len(rows) + 1)
    left, right = summed(shuffled[:cut]), summed(shuffled[cut:])
    left.merge(RunSums.from_state(right.state()))
    whole = summed(rows)
    assert left.state() == whole.state()
    assert estimate_run(left) == estimate_run(whole)


@given(st.lists(st.lists(st.floats(min_value=0, max_value=1), min_size=3, max_size=3), min_size=2, max_size=10))
def test_balanced_standard_error_is_the_cluster_robust_one(rows: list[list[float]]) -> None:
    found = estimated(*rows)
    table = np.array(rows)
    residual_by_cluster = (table - table.mean()).sum(axis=1)
    m = len(rows)
    robust = math.sqrt(m / (m - 1) * float((residual_by_cluster**2).sum())) / table.size
    assert found.mean == pytest.approx(table.mean(), abs=1e-12)
    if found.standard_error is not None:
        assert found.standard_error == pytest.approx(robust, abs=1e-12)
    assert found.variance_within == pytest.approx(table.var(axis=1, ddof=1).mean(), abs=1e-12)


@given(st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=6), min_size=1, max_size=6))
def test_binary_shortcut_gives_the_bits_of_the_general_path(rows: list[list[float]]) -> None:
    """Half of every reward is not binary, and halving is exact."""
    binary, halved = summed([(row, 0) for row in rows]), summed([([x / 2 for x in row], 0) for row in rows])
    assert binary.sum_q.value() == 2 * halved.sum_q.value()
    assert binary.sum_q_squared.value() == 4 * halved.sum_q_squared.value()
    assert binary.sum_variance.value() == 4 * halved.sum_variance.value()
    assert binary.sum_reward.value() == 2 * halved.sum_reward.value()


def test_times_adds_as_many_examples() -> None:
    once, often = RunSums(), RunSums()
    once.add_example([0.5, 1.0], failures=1, times=3)
    for _ in range(3):
        often.add_example([1.0, 0.5], failures=1)
    assert once.state() == often.state()


def test_single_binary_draws_get_wilson_and_the_binomial_standard_error() -> None:
    found = estimated(*[[1.0]] * 12, *[[0.0]] * 18)
    assert found.interval == wilson(12, 30)
    assert found.standard_error == binary_standard_error(12, 30)
    assert found.variance_within is None
    assert found.variance_between is None


def test_graded_rewards_get_a_t_interval() -> None:
    found = estimated([0.2], [0.4], [0.9])
    assert found.mean == 0.5
    assert found.standard_error == pytest.approx(np.std([0.2, 0.4, 0.9], ddof=1) / math.sqrt(3), rel=1e-14)
    assert found.interval is not None
    assert found.interval.method == "t, cut to [0, 1]"


def test_one_example_has_no_standard_error() -> None:
    found = estimated([0.5, 0.7])
    assert found.standard_error is None
    assert found.interval is None
    assert not found.degenerate
    assert binary_standard_error(1, 1) is None


def test_all_equal_rewards_are_degenerate_and_never_plus_minus_zero() -> None:
    graded, right = estimated([0.5], [0.5]), estimated([1.0, 1.0], [1.0, 1.0])
    assert graded.degenerate
    assert graded.standard_error is None
    assert graded.interval is None
    assert right.degenerate
    assert right.interval == wilson(2, 2)
    assert binary_standard_error(0, 9) is None


def test_between_variance_may_be_negative_and_is_not_repaired() -> None:
    found = estimated([1.0, 0.0], [0.0, 1.0])
    assert found.variance_between == -0.25


def test_unequal_scored_draws_weigh_examples_not_draws() -> None:
    found = estimate_run(summed([([1.0, 1.0, 0.0], 0), ([0.0], 2), ([], 3)]))
    assert found is not None
    assert found.mean == pytest.approx(1 / 3)
    assert (found.examples, found.scored, found.draws_min, found.draws_max) == (2, 4, 1, 3)
    assert found.variance_within == pytest.approx(1 / 3)
    assert found.variance_between == pytest.approx(2 / 9 - (1 / 3) * (1 / 3 + 1) / 2)


def test_nothing_scored_has_no_estimate_but_has_bounds() -> None:
    sums = summed([([], 2), ([], 2)])
    assert estimate_run(sums) is None
    assert variance_within(sums) is None
    three = with_failures(sums)
    assert (three.mean_scored, three.mean_failures_as_zero, three.lowest, three.highest) == (None, 0.0, 0.0, 1.0)


def test_bounds_follow_the_reward_range() -> None:
    three = with_failures(summed([([0.5], 1)]), reward_range=(-1.0, 2.0))
    assert (three.mean_failures_as_zero, three.lowest, three.highest) == (0.25, -0.25, 1.25)


@given(st.lists(attempts, min_size=1, max_size=8))
def test_every_way_to_count_failures_lies_within_the_bounds(rows: list[tuple[list[float], int]]) -> None:
    three = with_failures(summed(rows))
    assert three.lowest <= three.mean_failures_as_zero <= three.highest


def test_no_attempts_are_refused() -> None:
    with pytest.raises(BadInput, match="no attempts"):
        with_failures(RunSums())
    with pytest.raises(BadInput, match="at least one attempt"):
        RunSums().add_example([])


def test_reward_that_is_not_finite_is_refused() -> None:
    for row in ([math.nan], [1.0, math.inf]):
        with pytest.raises(BadInput, match="finite"):
            RunSums().add_example(row)


def test_mean_is_undefined_not_nan_for_impossible_counts() -> None:
    with pytest.raises(BadInput):
        binary_standard_error(3, 2)
