from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lockedroom.errors import BadInput
from lockedroom.stats.paired import (
    benjamini_hochberg,
    bonett_price,
    holm,
    mcnemar_exact,
    paired_difference,
    sign_flip,
    two_proportion_z,
    unpaired_difference,
)

unit = st.floats(min_value=0, max_value=1)
pairs = st.lists(st.tuples(unit, unit), min_size=1, max_size=30)
p_lists = st.lists(unit, max_size=12)


@given(pairs)
def test_paired_difference_agrees_with_numpy_and_never_says_plus_minus_zero(rows: list[tuple[float, float]]) -> None:
    q_a, q_b = [a for a, _ in rows], [b for _, b in rows]
    found = paired_difference(q_a, q_b)
    d = np.array(q_a) - np.array(q_b)
    assert found.difference == pytest.approx(d.mean(), abs=1e-12)
    assert found.wins + found.losses + found.ties == found.examples == len(rows)
    assert found.correlation is None or -1 <= found.correlation <= 1
    if found.standard_error is None:
        assert float(np.ptp(d)) <= 1e-12 or len(rows) == 1
    else:
        assert found.standard_error > 0
        assert found.standard_error == pytest.approx(d.std(ddof=1) / math.sqrt(len(d)), rel=1e-6, abs=1e-12)


@given(pairs)
def test_swapping_the_runs_negates_the_difference(rows: list[tuple[float, float]]) -> None:
    q_a, q_b = [a for a, _ in rows], [b for _, b in rows]
    one, other = paired_difference(q_a, q_b), paired_difference(q_b, q_a)
    assert one.difference == -other.difference
    assert (one.wins, one.losses) == (other.losses, other.wins)


def test_graded_pairs_get_the_paired_t_interval() -> None:
    q_a, q_b = [0.9, 0.4, 0.7, 0.2], [0.5, 0.5, 0.1, 0.1]
    found = paired_difference(q_a, q_b)
    expected = stats.ttest_rel(q_a, q_b).confidence_interval()
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert found.correlation == pytest.approx(np.corrcoef(q_a, q_b)[0, 1])
    assert (found.wins, found.losses, found.ties) == (3, 1, 0)


def test_binary_pairs_get_an_interval_even_with_no_discordant_pair() -> None:
    found = paired_difference([1.0, 0.0, 1.0], [1.0, 0.0, 1.0])
    assert found.standard_error is None
    assert found.interval is not None
    assert found.interval.method == "bonett-price"
    assert found.interval.low == -found.interval.high < 0


def test_equal_shifts_of_graded_rewards_are_undefined_even_if_rounding_differs() -> None:
    found = paired_difference([0.3, 0.2, 0.9], [0.1, 0.0, 0.7])
    assert found.standard_error is None
    assert found.interval is None
    assert found.difference == pytest.approx(0.2)


def test_one_pair_and_a_run_without_spread_leave_their_numbers_undefined() -> None:
    single, flat = paired_difference([0.5], [0.25]), paired_difference([0.5, 0.5], [0.25, 0.75])
    assert single.standard_error is None
    assert single.interval is None
    assert flat.correlation is None
    assert flat.standard_error is not None


@pytest.mark.parametrize(("q_a", "q_b"), [([], []), ([1.0], [1.0, 0.0]), ([math.nan], [1.0]), ([1.0], [math.inf])])
def test_runs_that_cannot_be_paired_are_refused(q_a: list[float], q_b: list[float]) -> None:
    with pytest.raises(BadInput):
        paired_difference(q_a, q_b)


def test_bonett_price_covers_about_95_percent() -> None:
    rng = np.random.Generator(np.random.PCG64(1))
    draws = rng.multinomial(60, [0.15, 0.05, 0.8], size=4000)
    covered = [bonett_price(int(w), int(x), 60) for w, x, _ in draws]
    assert 0.93 <= sum(i.low <= 0.1 <= i.high for i in covered) / 4000 <= 0.98


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_agrees_with_the_exact_binomial_test(wins: int, losses: int) -> None:
    found = mcnemar_exact(wins, losses)
    assert found.no_evidence == (wins + losses == 0)
    if wins + losses:
        assert found.p_value == pytest.approx(stats.binomtest(wins, wins + losses).pvalue, rel=1e-9)
    assert mcnemar_exact(losses, wins) == found


@pytest.mark.parametrize(("wins", "losses"), [(1000, 1001), (1050, 951), (50_000, 49_000)])
def test_mcnemar_agrees_with_scipy_at_many_discordant_pairs(wins: int, losses: int) -> None:
    assert mcnemar_exact(wins, losses).p_value == pytest.approx(stats.binomtest(wins, wins + losses).pvalue, rel=1e-9)


def test_negative_or_too_many_discordant_pairs_are_refused() -> None:
    with pytest.raises(BadInput):
        mcnemar_exact(-1, 3)
    with pytest.raises(BadInput):
        bonett_price(3, 3, 5)


@given(st.lists(st.integers(-3, 3), max_size=9))
def test_small_sign_flip_counts_every_pattern(d: list[int]) -> None:
    found = sign_flip([float(x) for x in d])
    sums = [sum(s * x for s, x in zip(signs, d, strict=True)) for signs in product((1, -1), repeat=len(d))]
    assert found.p_value == sum(abs(total) >= abs(sum(d)) for total in sums) / len(sums)
    assert found.method == "sign-flip exact"
    assert found.no_evidence == (not any(d))


def test_sign_flip_of_binary_differences_is_mcnemar() -> None:
    found = sign_flip([1.0] * 26 + [-1.0] * 14 + [0.0] * 360, resamples=200_000)
    assert found.method == "sign-flip, drawn"
    assert found.p_value == pytest.approx(mcnemar_exact(26, 14).p_value, abs=0.003)
    assert sign_flip([1.0] * 15 + [-1.0] * 3).p_value == mcnemar_exact(15, 3).p_value


def test_drawn_sign_flip_agrees_with_scipy_for_common_and_for_distinct_sizes() -> None:
    rng = np.random.Generator(np.random.PCG64(3))
    d = np.concatenate((rng.normal(0.15, 1, size=61), rng.choice([0.25, -0.25], size=200, p=[0.55, 0.45])))
    expected = stats.permutation_test(
        (d,), np.sum, permutation_type="samples", n_resamples=20_000, vectorized=True, rng=np.random.default_rng(4)
    )
    assert sign_flip(d.tolist(), resamples=100_000).p_value == pytest.approx(float(expected.pvalue), abs=0.015)


def test_sign_flip_is_seeded_order_free_and_never_zero() -> None:
    d = [0.5 + i / 100 for i in range(100)]
    assert sign_flip(d, seed=1) == sign_flip(d[::-1], seed=1)
    assert sign_flip(d, resamples=99).p_value == 0.01
    mixed = [x * (-1) ** i for i, x in enumerate(d)]
    assert sign_flip(mixed, seed=1) != sign_flip(mixed, seed=2)


def test_sign_flip_refuses_what_is_not_finite() -> None:
    for d, resamples in (([math.nan, 1.0], 10), ([math.inf], 10), ([1.0], 0)):
        with pytest.raises(BadInput):
            sign_flip(d, resamples=resamples)


def test_unpaired_difference_is_welch() -> None:
    q_a, q_b = [0.1, 0.9, 0.4, 0.8], [0.2, 0.3, 0.1]
    expected = stats.ttest_ind(q_a, q_b, equal_var=False).confidence_interval()
    found = unpaired_difference(q_a, q_b)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_unpaired_difference_without_spread_or_size_is_undefined() -> None:
    for q_a, q_b in (([1.0], [0.0, 0.5]), ([1.0, 1.0], [0.5, 0.5])):
        found = unpaired_difference(q_a, q_b)
        assert found.standard_error is None
        assert found.interval is None
    with pytest.raises(BadInput):
        unpaired_difference([], [1.0])


def test_two_proportion_z_is_undefined_without_any_spread() -> None:
    assert two_proportion_z(5, 5, 3, 3) is None
    assert two_proportion_z(0, 5, 0, 3) is None
    with pytest.raises(BadInput):
        two_proportion_z(6, 5, 0, 3)


@given(p_lists)
def test_benjamini_hochberg_agrees_with_scipy_and_is_never_stricter_than_holm(p_values: list[float]) -> None:
    found = benjamini_hochberg(p_values)
    if p_values:
        assert found == pytest.approx(stats.false_discovery_control(p_values), abs=1e-12)
    assert all(p <= b + 1e-12 and b <= h + 1e-12 for p, b, h in zip(p_values, found, holm(p_values), strict=True))


@given(p_lists, st.floats(min_value=0.001, max_value=0.5))
def test_holm_rejects_by_step_down(p_values: list[float], alpha: float) -> None:
    rejected = 0
    for step, p in enumerate(sorted(p_values)):
        if min(1.0, p * (len(p_values) - step)) > alpha:
            break
        rejected += 1
    assert sum(p <= alpha for p in holm(p_values)) == rejected


def test_p_value_outside_the_unit_interval_is_refused() -> None:
    for adjust in (holm, benjamini_hochberg):
        with pytest.raises(BadInput):
            adjust([0.5, 1.5])
