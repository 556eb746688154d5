from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lockedroom.errors import BadInput
from lockedroom.stats.intervals import wilson
from lockedroom.stats.sequential import (
    anytime_mcnemar,
    false_alarm_rate,
    ladder,
    ladder_step,
    looks_confidence,
    pocock_z,
    robbins_interval,
)

shares = st.integers(min_value=1, max_value=5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(shares)
def test_robbins_ends_are_where_the_mixture_ratio_crosses_alpha(share: tuple[int, int]) -> None:
    s, n = share
    found = robbins_interval(s, n)
    assert 0 <= found.low <= s / n <= found.high <= 1
    for end, closed in ((found.low, s == 0), (found.high, s == n)):
        if not closed:
            assert (n + 1) * stats.binom.pmf(s, n, end) == pytest.approx(0.05, rel=1e-6)


@given(shares)
def test_the_price_of_peeking_is_a_wider_interval(share: tuple[int, int]) -> None:
    s, n = share
    anytime, once = robbins_interval(s, n, 0.95), wilson(s, n, 0.95)
    assert anytime.high - anytime.low > once.high - once.low


def test_robbins_before_the_first_attempt_is_everything() -> None:
    found = robbins_interval(0, 0)
    assert (found.low, found.high) == (0.0, 1.0)


def test_robbins_covers_at_every_look_at_once() -> None:
    rng = np.random.Generator(np.random.PCG64(1))
    low = [[robbins_interval(s, n).low for s in range(n + 1)] for n in range(101)]
    high = [[robbins_interval(s, n).high for s in range(n + 1)] for n in range(101)]
    misses = 0
    for run in (rng.random((500, 100)) < 0.3).cumsum(axis=1).tolist():
        misses += not all(low[n][s] <= 0.3 <= high[n][s] for n, s in enumerate(run, start=1))
    assert misses / 500 <= 0.05


@given(st.integers(0, 300), st.integers(0, 300))
def test_e_value_is_the_ratio_of_binomials(wins: int, losses: int) -> None:
    m = wins + losses
    found = anytime_mcnemar(wins, losses)
    assert found.e_value == pytest.approx(2**m / ((m + 1) * math.comb(m, wins)), rel=1e-9)
    assert found.p_value == pytest.approx(min(1.0, 1 / found.e_value))
    assert found.reject == (found.log_e_value >= -math.log(0.05))


@given(st.integers(0, 60))
def test_e_value_does_not_grow_on_average_without_an_effect(wins: int) -> None:
    """E is a martingale: half of the two next values add up to it (m = 60 pairs so far)."""
    now = anytime_mcnemar(wins, 60 - wins).e_value
    then = (anytime_mcnemar(wins + 1, 60 - wins).e_value + anytime_mcnemar(wins, 61 - wins).e_value) / 2
    assert then == pytest.approx(now, rel=1e-9)


def test_overwhelming_evidence_stays_finite() -> None:
    found = anytime_mcnemar(5000, 0)
    assert found.reject
    assert found.e_value < sys.float_info.max
    assert found.log_e_value == pytest.approx(5000 * math.log(2) - math.log(5001))


@pytest.mark.parametrize(("looks", "z"), [(1, 1.960), (2, 2.178), (3, 2.289), (4, 2.361), (5, 2.413), (10, 2.555)])
def test_pocock_boundaries_are_the_published_ones(looks: int, z: float) -> None:
    assert pocock_z(looks) == pytest.approx(z, abs=0.0005)


@pytest.mark.parametrize(("looks", "rate"), [(1, 0.050), (2, 0.083), (3, 0.107), (5, 0.142), (10, 0.193), (20, 0.248)])
def test_naive_looks_give_the_published_false_alarms(looks: int, rate: float) -> None:
    assert false_alarm_rate(looks, 1.959964) == pytest.approx(rate, abs=0.0006)


def test_one_look_needs_no_more_confidence() -> None:
    assert looks_confidence(1) == pytest.approx(0.95)
    assert looks_confidence(5) == pytest.approx(1 - 2 * stats.norm.sf(2.41318), abs=1e-5)


def test_ladder_answers_only_real_progress() -> None:
    assert ladder([0.388, 0.2, 0.195, 0.5], 0.01) == (0.39, 0.2, 0.2, 0.2)
    assert ladder([], 0.01) == ()
    assert ladder_step(None, 0.07, 0.01) == 0.07


@given(st.lists(st.floats(0, 1), min_size=1), st.floats(0.001, 0.2))
def test_ladder_never_goes_up(losses: list[float], step: float) -> None:
    answers = ladder(losses, step)
    assert list(answers) == sorted(answers, reverse=True)
    assert abs(answers[-1] - min(losses)) <= 1.5 * step + 1e-9


def test_impossible_questions_are_refused() -> None:
    refused = (
        lambda: robbins_interval(3, 2),
        lambda: robbins_interval(1, 2, 1.0),
        lambda: anytime_mcnemar(-1, 2),
        lambda: anytime_mcnemar(1, 2, 0.0),
        lambda: false_alarm_rate(0, 1.96),
        lambda: false_alarm_rate(201, 1.96),
        lambda: false_alarm_rate(5, 0.0),
        lambda: pocock_z(0),
        lambda: pocock_z(201),
        lambda: pocock_z(5, 0.0),
        lambda: looks_confidence(5, 1.0),
        lambda: ladder_step(None, math.nan, 0.01),
        lambda: ladder_step(None, 0.5, 0.0),
    )
    for question in refused:
        with pytest.raises(BadInput):
            question()


def test_the_ladder_answers_anew_only_beyond_a_whole_step() -> None:
    assert ladder_step(0.5, 0.25, 0.25) == 0.5
    assert ladder_step(0.5, 0.24, 0.25) == 0.25
