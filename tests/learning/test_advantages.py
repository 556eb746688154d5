"""Rewards to advantages: failures, groups without signal, baselines, scaling."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lockedroom.errors import BadInput
from lockedroom.learning.advantages import Advantages, estimate_advantages
from lockedroom.learning.estimator import Estimator

LOO = Estimator(baseline="leave-one-out")
STD = Estimator(baseline="group-mean", scale="group-std")
NAN = float("nan")


def _estimate(
    estimator: Estimator, rewards: list[list[float]], scored: list[list[int]] | None = None, **more: Any
) -> Advantages:
    rewards_PG = torch.tensor(rewards, dtype=torch.float64)
    scored_PG = torch.ones_like(rewards_PG, dtype=torch.bool) if scored is None else torch.tensor(scored).bool()
    mask_NT = torch.ones(rewards_PG.numel(), 1, dtype=torch.bool)
    return estimate_advantages(estimator, rewards_PG, scored_PG, mask_NT, **more)


def _flat(advantages: Advantages) -> list[float]:
    found: list[float] = advantages.advantages_NT[:, 0].tolist()
    return found


def test_leave_one_out_subtracts_the_mean_of_the_others() -> None:
    assert _flat(_estimate(LOO, [[1, 0, 0.5]])) == pytest.approx([0.75, -0.75, 0.0])


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9))
def test_the_group_mean_is_exactly_1_minus_1_over_n_of_leave_one_out(rewards: list[float]) -> None:
    mean = _flat(_estimate(Estimator(baseline="group-mean"), [rewards]))
    n = len(rewards)
    assert mean == pytest.approx([(1 - 1 / n) * one for one in _flat(_estimate(LOO, [rewards]))], abs=1e-9)
    centre = sum(rewards) / n
    assert mean == pytest.approx([one - centre for one in rewards], abs=1e-9)


def test_a_group_whose_scores_all_failed_contributes_nothing_and_is_counted() -> None:
    done = _estimate(LOO, [[NAN, NAN], [1, 0]], [[0, 0], [1, 1]])
    assert _flat(done) == [0, 0, 1, -1]
    assert (done.completions, done.groups_failed, done.groups_without_signal, done.failures) == (2, 1, 1, 2)
    assert done.mask_NT[:, 0].tolist() == [False, False, True, True]


def test_a_partly_failed_group_is_not_a_failed_one() -> None:
    assert _estimate(LOO, [[1, NAN, 0], [NAN, NAN, NAN]], [[1, 0, 1], [0, 0, 0]]).groups_failed == 1


def test_the_mean_baseline_is_of_what_is_learned_from() -> None:
    """A completion alone in its group has none to compare with, and no baseline to average."""
    assert _estimate(LOO, [[0.5, 0.5], [3, NAN]], [[1, 1], [1, 0]]).baseline_mean == 0.5


def test_a_partly_failed_group_uses_the_scored_ones() -> None:
    done = _estimate(LOO, [[1, NAN, 0, 0]], [[1, 0, 1, 1]])
    assert _flat(done) == pytest.approx([1, 0, -0.5, -0.5])
    assert (done.completions, done.failures) == (3, 1)


def test_the_batch_mean_is_that_of_the_scored_alone() -> None:
    done = _estimate(Estimator(baseline="batch-mean"), [[1, NAN, 0], [0.5, 0.5, NAN]], [[1, 0, 1], [1, 1, 0]])
    assert done.baseline_mean == 0.5
    assert _flat(done) == [0.5, 0.0, -0.5, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("baseline", ["none", "batch-mean", "group-mean", "ema", "leave-one-out"])
def test_what_stands_in_a_failure_is_never_read(baseline: str) -> None:
    estimator = Estimator(baseline=baseline)  # type: ignore[arg-type]
    scored = [[1, 0, 1], [1, 1, 0]]
    one = _estimate(estimator, [[1, NAN, 0], [0.5, 0, float("inf")]], scored, ema=0.2)
    other = _estimate(estimator, [[1, -7, 0], [0.5, 0, 3]], scored, ema=0.2)
    assert _flat(one) == _flat(other)
    assert (one.ema, one.baseline_mean) == (other.ema, other.baseline_mean)


@pytest.mark.parametrize("baseline", ["none", "batch-mean", "group-mean", "ema", "leave-one-out", "value"])
def test_a_failure_is_neither_learned_from_nor_counted_whatever_the_baseline(baseline: str) -> None:
    estimator = Estimator(baseline=baseline)  # type: ignore[arg-type]
    values_NT = torch.full((6, 1), 0.3, dtype=torch.float64)
    done = _estimate(estimator, [[1, NAN, 0], [0.5, 0, NAN]], [[1, 0, 1], [1, 1, 0]], ema=0.2, values_NT=values_NT)
    assert done.mask_NT[:, 0].tolist() == [True, False, True, True, True, False]
    assert (_flat(done)[1], _flat(done)[5], done.completions, done.tokens) == (0.0, 0.0, 4, 4)


def test_a_completion_left_alone_by_failures_is_neither_summed_nor_counted() -> None:
    done = _estimate(LOO, [[1, NAN], [1, 0]], [[1, 0], [1, 1]])
    assert (_flat(done), done.completions, done.groups_without_signal) == ([0, 0, 1, -1], 2, 1)


@pytest.mark.parametrize("estimator", [LOO, STD, Estimator(baseline="group-mean")])
@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, 1 / 3, -1e6])
def test_equal_rewards_have_no_signal_to_the_last_bit(estimator: Estimator, reward: float) -> None:
    done = _estimate(estimator, [[reward] * 7])
    assert _flat(done) == [0.0] * 7
    assert done.groups_without_signal == 1


@pytest.mark.parametrize("rewards", [[1.0] + [0.0] * 7, [0.5] * 3 + [0.5 + 1e-9], [0.0, 1e-300], [1e-9, 0.0]])
def test_the_standard_deviation_never_makes_an_advantage_large(rewards: list[float]) -> None:
    assert max(map(abs, _flat(_estimate(STD, [rewards])))) <= math.sqrt(len(rewards))


def test_a_group_is_divided_by_the_deviation_of_its_scored_rewards_and_next_to_nothing_more() -> None:
    """1, 0, 0, 0 have mean 1/4 and, divided by n − 1, deviation 1/2."""
    assert _flat(_estimate(STD, [[1.0, 0.0, 0.0, 0.0]])) == pytest.approx([1.5, -0.5, -0.5, -0.5], rel=1e-3)
    failed = _flat(_estimate(STD, [[1.0, 0.0, NAN, 0.0, 0.0]], [[1, 1, 0, 1, 1]]))
    assert failed == pytest.approx([1.5, -0.5, 0.0, -0.5, -0.5], rel=1e-3)


def test_a_spread_of_1e_9_is_not_blown_up_into_a_signal() -> None:
    assert max(map(abs, _flat(_estimate(STD, [[0.5, 0.5, 0.5 + 1e-9]])))) < 1e-4


def test_a_group_of_one_with_a_group_baseline_has_no_gradient() -> None:
    done = _estimate(STD, [[1.0], [0.0]])
    assert (_flat(done), done.completions, done.groups_without_signal) == ([0, 0], 0, 2)


def test_the_running_mean_is_used_before_it_is_updated() -> None:
    done = _estimate(Estimator(baseline="ema", ema_decay=0.25), [[1.0, 0.0]], ema=0.4)
    assert _flat(done) == pytest.approx([0.6, -0.4])
    assert done.ema == pytest.approx(0.75 * 0.4 + 0.25 * 0.5)
    assert done.baseline_mean == pytest.approx(0.4)


def test_the_running_mean_is_that_of_the_reward_with_its_charge_for_kl() -> None:
    estimator = Estimator(baseline="ema", kl="k1-in-reward", beta=0.5)
    k1_NT = torch.tensor([[1.0], [1.0], [4.0]], dtype=torch.float64)
    done = _estimate(estimator, [[1.0, 0.0, NAN]], [[1, 1, 0]], k1_NT=k1_NT, ema=0.2)
    assert done.ema == pytest.approx(0.9 * 0.2)
    assert _flat(done) == pytest.approx([0.5 - 0.2, -0.5 - 0.2, 0.0])


def test_the_running_mean_stays_when_nothing_was_scored() -> None:
    assert _estimate(Estimator(baseline="ema"), [[1.0]], [[0]], ema=0.4).ema == 0.4


def test_fine_tuning_on_what_passed_keeps_that_alone() -> None:
    passed_PG = torch.tensor([[True, False, True]])
    done = _estimate(Estimator(keep="passed"), [[1, 0.9, 1]], [[1, 1, 0]], passed_PG=passed_PG)
    assert (_flat(done), done.completions) == ([1, 0, 0], 1)


def test_a_value_is_subtracted_token_by_token() -> None:
    mask_NT = torch.tensor([[True, True, False]])
    done = estimate_advantages(
        Estimator(baseline="value"),
        torch.tensor([[1.0]]),
        torch.tensor([[True]]),
        mask_NT,
        values_NT=torch.tensor([[0.25, 0.5, NAN]]),
    )
    assert done.advantages_NT.tolist() == [[0.75, 0.5, 0.0]]


def _k1(per: str) -> Tensor:
    estimator = Estimator(kl="k1-in-reward", kl_per=per, beta=0.5)  # type: ignore[arg-type]
    return estimate_advantages(
        estimator,
        torch.tensor([[1.0]]),
        torch.tensor([[True]]),
        torch.tensor([[True, True, False]]),
        k1_NT=torch.tensor([[0.2, 0.4, NAN]]),
    ).advantages_NT


def test_kl_in_the_reward_is_charged_to_the_whole_completion_or_from_each_token_on() -> None:
    assert _k1("completion").tolist()[0] == pytest.approx([0.7, 0.7, 0.0])
    assert _k1("token").tolist()[0] == pytest.approx([0.7, 0.8, 0.0])


@pytest.mark.parametrize("bad", [NAN, float("inf")])
def test_a_scored_reward_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(BadInput, match="finite"):
        _estimate(LOO, [[bad, 0.0]])


@pytest.mark.parametrize("shape", [(0, 2), (2, 0)])
def test_an_empty_group_is_bad_input(shape: tuple[int, int]) -> None:
    with pytest.raises(BadInput, match="neither of them 0"):
        estimate_advantages(LOO, torch.zeros(shape), torch.zeros(shape).bool(), torch.zeros(0, 1).bool())
