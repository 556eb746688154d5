from __future__ import annotations

import math
import random
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockedroom.errors import BadInput
from lockedroom.stats.pass_at_k import (
    Curve,
    Metric,
    pass_at_k,
    pass_at_k_of_probability,
    pass_curve,
    pass_hat_k,
)

METRICS: tuple[Metric, ...] = ("pass@k", "pass^k")
cells = st.integers(min_value=1, max_value=300).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))
)


@given(cells)
def test_both_metrics_equal_the_ratio_of_binomials(cell: tuple[int, int, int]) -> None:
    n, c, k = cell
    total = math.comb(n, k)
    assert pass_at_k(n, c, k) == pytest.approx(float(1 - Fraction(math.comb(n - c, k), total)), rel=1e-12)
    assert pass_hat_k(n, c, k) == pytest.approx(float(Fraction(math.comb(c, k), total)), rel=1e-11)


def test_both_metrics_count_the_subsets() -> None:
    draws = [True, False, True, False, False]
    subsets = list(combinations(draws, 2))
    assert pass_at_k(5, 2, 2) == pytest.approx(sum(map(any, subsets)) / len(subsets))
    assert pass_hat_k(5, 2, 2) == pytest.approx(sum(map(all, subsets)) / len(subsets))


@pytest.mark.parametrize(("c", "k"), [(1, 50_000), (3, 50_000), (500, 700), (99_999, 1), (50_000, 20)])
def test_stable_at_100_000_draws(c: int, k: int) -> None:
    n = 100_000
    few, many = sorted((c, k))
    missed = Fraction(math.perm(n - many, few), math.perm(n, few))
    assert pass_at_k(n, c, k) == pytest.approx(float(1 - missed), rel=1e-11)


@given(cells)
def test_curves_are_monotonic(cell: tuple[int, int, int]) -> None:
    n, c, k = cell
    if k < n:
        assert pass_at_k(n, c, k) <= pass_at_k(n, c, k + 1) + 1e-12
        assert pass_hat_k(n, c, k + 1) <= pass_hat_k(n, c, k) + 1e-12
    assert 0 <= pass_hat_k(n, c, k) <= c / n + 1e-12
    assert c / n - 1e-12 <= pass_at_k(n, c, k) <= 1


@pytest.mark.parametrize("metric", [pass_at_k, pass_hat_k])
def test_k_above_n_is_refused_not_dropped(metric: object) -> None:
    assert callable(metric)
    for n, c, k in ((10, 3, 11), (10, 3, 0), (10, 11, 1), (10, -1, 1)):
        with pytest.raises(BadInput):
            metric(n, c, k)


def test_known_probability_needs_no_sampling() -> None:
    assert pass_at_k_of_probability(0.5, 2) == 0.75
    assert pass_at_k_of_probability(1.0, 3) == 1.0
    assert pass_at_k_of_probability(1e-12, 10) == pytest.approx(1e-11, rel=1e-9)
    for p, k in ((1.5, 1), (0.5, 0), (math.nan, 1)):
        with pytest.raises(BadInput):
            pass_at_k_of_probability(p, k)


@pytest.mark.parametrize("metric", METRICS)
def test_curve_is_the_mean_and_spread_of_the_examples_metric(metric: Metric) -> None:
    passes = [0, 3, 7, 10, 3]
    one = pass_at_k if metric == "pass@k" else pass_hat_k
    curve = pass_curve([10] * 5, passes, metric=metric, ks=[1, 4, 9], resamples=0)
    for point in curve.points:
        values = [one(10, c, point.k) for c in passes]
        assert point.estimate == pytest.approx(np.mean(values), abs=1e-12)
        assert point.standard_error == pytest.approx(np.std(values, ddof=1) / math.sqrt(5), abs=1e-12)
        assert point.pointwise is None
        assert point.simultaneous is None


def band_of(curve: Curve, k: int) -> tuple[float, float, float, float]:
    point = curve.points[k - 1]
    assert point.pointwise is not None
    assert point.simultaneous is not None
    return point.simultaneous.low, point.pointwise.low, point.pointwise.high, point.simultaneous.high


def test_order_of_examples_changes_no_bit_and_the_seed_changes_the_bands() -> None:
    rng = random.Random(5)
    passes = [rng.randrange(21) for _ in range(200)]
    curve = pass_curve([20] * 200, passes, seed=1)
    assert pass_curve([20] * 200, rng.sample(passes, 200), seed=1) == curve
    assert band_of(pass_curve([20] * 200, passes, seed=2), 3) != band_of(curve, 3)


def test_simultaneous_band_holds_the_pointwise_band_and_both_hold_the_curve() -> None:
    rng = random.Random(6)
    curve = pass_curve([20] * 50, [rng.randrange(21) for _ in range(50)])
    for point in curve.points[:-1]:
        outer_low, inner_low, inner_high, outer_high = band_of(curve, point.k)
        assert 0 <= outer_low <= inner_low <= point.estimate <= inner_high <= outer_high <= 1


# t of 59 degrees of freedom over z, times √(60/59)
SMALL_SAMPLE_60 = 2.000995 / 1.959964 * math.sqrt(60 / 59)


def test_two_examples_give_a_band_that_says_how_little_they_know() -> None:
    point = pass_curve([2000, 2000], [700, 800], ks=[1], resamples=200).points[0]
    assert point.pointwise is not None
    assert point.pointwise.low < 0.2  # without the t quantile of one degree of freedom: .35
    assert point.pointwise.high > 0.6


def test_pointwise_band_matches_resampling_rows() -> None:
    rng = np.random.Generator(np.random.PCG64(7))
    passes = rng.binomial(8, 0.4, size=60)
    values = np.array([pass_at_k(8, int(c), 3) for c in passes])
    means = rng.choice(values, size=(20_000, 60)).mean(axis=1)
    mean, se = values.mean(), values.std(ddof=1) / math.sqrt(60)
    z = np.quantile(np.abs(means - mean), 0.95) / se * SMALL_SAMPLE_60
    _, low, high, _ = band_of(pass_curve([8] * 60, passes.tolist(), resamples=20_000), 3)
    for end in (low, high):  # the ends of a score interval: |θ̂ − θ| = z·√(κ·θ(1−θ)) with κ = SE²/θ̂(1−θ̂)
        assert abs(mean - end) == pytest.approx(z * se * math.sqrt(end * (1 - end) / (mean * (1 - mean))), rel=0.03)


def test_bands_near_an_end_cover_with_few_examples() -> None:
    rng = np.random.Generator(np.random.PCG64(9))
    truth = 1 - 1 / 9  # pass@8 of p uniform on [0, 1]
    hits = 0
    for trial in range(400):
        curve = pass_curve([8] * 30, rng.binomial(8, rng.random(30)).tolist(), ks=[4, 8], resamples=300, seed=trial)
        band = curve.points[1].pointwise
        hits += band is not None and band.low <= truth <= band.high
    assert 0.92 <= hits / 400 <= 0.98  # estimate ± quantile·SE: .87


def test_simultaneous_band_covers_the_whole_curve_about_as_often_as_it_says() -> None:
    rng = np.random.Generator(np.random.PCG64(8))
    rates = np.array([0.1, 0.3, 0.6])
    truth = [float(np.mean([pass_at_k_of_probability(p, k) for p in rates])) for k in range(1, 9)]
    hits = 0
    for trial in range(300):
        passes = rng.binomial(8, rng.choice(rates, size=80)).tolist()
        curve = pass_curve([8] * 80, passes, resamples=400, seed=trial)
        hits += all(band_of(curve, k)[0] <= truth[k - 1] <= band_of(curve, k)[3] for k in range(1, 9))
    assert 0.90 <= hits / 300 <= 0.99


def test_one_example_and_agreeing_examples_have_no_standard_error_and_no_band() -> None:
    for curve in (pass_curve([4], [2]), pass_curve([4, 4], [2, 2])):
        assert all(point.standard_error is None and point.simultaneous is None for point in curve.points)
    saturated = pass_curve([4, 4], [2, 3]).points[3]
    assert (saturated.estimate, saturated.standard_error, saturated.pointwise) == (1.0, None, None)


def test_many_pairs_and_resamples_are_drawn_in_blocks_and_give_the_normal_quantile() -> None:
    curve = pass_curve([100] * 505, list(range(101)) * 5, ks=[1], resamples=50_000)
    _, low, high, _ = band_of(curve, 1)
    se = curve.points[0].standard_error
    assert se is not None
    assert (high - low) / 2 / se == pytest.approx(1.96, abs=0.03)


def test_unequal_draws_are_refused_or_stop_at_the_common_minimum_and_say_so() -> None:
    with pytest.raises(BadInput, match="common minimum"):
        pass_curve([4, 8], [1, 2])
    curve = pass_curve([4, 8], [1, 2], unequal="common minimum", resamples=0)
    assert (curve.draws_min, curve.draws_max, curve.unequal_draws) == (4, 8, "common minimum")
    assert curve.points[3].estimate == pytest.approx((1 + pass_at_k(8, 2, 4)) / 2)
    assert pass_curve([4, 4], [1, 2], unequal="common minimum", resamples=0).unequal_draws is None


@pytest.mark.parametrize(
    ("draws", "passes", "ks", "resamples"),
    [
        ([], [], None, 0),
        ([4], [1, 2], None, 0),
        ([4], [5], None, 0),
        ([0], [0], None, 0),
        ([4, 4], [1, 2], [5], 0),
        ([4, 4], [1, 2], [0], 0),
        ([4, 4], [1, 2], [2, 2], 0),
        ([4, 4], [1, 2], [], 0),
        ([4, 4], [1, 2], None, -1),
    ],
)
def test_impossible_curves_are_refused(
    draws: list[int], passes: list[int], ks: list[int] | None, resamples: int
) -> None:
    with pytest.raises(BadInput):
        pass_curve(draws, passes, ks=ks, resamples=resamples)
