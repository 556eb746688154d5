from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from lockedroom.errors import BadInput
from lockedroom.stats.intervals import (
    clopper_pearson,
    holm_wilson,
    holm_wilson_effective,
    mean_t_interval,
    normal_quantile,
    t_quantile,
    two_sided_z,
    wilson,
)
from lockedroom.stats.paired import holm

levels = st.floats(min_value=0.5, max_value=0.999)
shares = st.integers(min_value=1, max_value=3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(shares, levels)
def test_wilson_agrees_with_scipy_and_stays_inside_the_unit_interval(share: tuple[int, int], level: float) -> None:
    c, n = share
    found = wilson(c, n, level)
    expected = stats.binomtest(c, n).proportion_ci(level, "wilson")
    assert found.low == pytest.approx(expected.low, abs=1e-12)
    assert found.high == pytest.approx(expected.high, abs=1e-12)
    assert 0 <= found.low <= c / n <= found.high <= 1


@given(shares, levels)
def test_clopper_pearson_agrees_with_scipy_and_is_never_degenerate(share: tuple[int, int], level: float) -> None:
    c, n = share
    found = clopper_pearson(c, n, level)
    expected = stats.binomtest(c, n).proportion_ci(level, "exact")
    assert found.low == pytest.approx(expected.low, abs=1e-9)
    assert found.high == pytest.approx(expected.high, abs=1e-9)
    assert 0 <= found.low < found.high <= 1


@given(shares.filter(lambda share: share[0] < share[1]), levels)
def test_one_success_more_moves_both_ends_up(share: tuple[int, int], level: float) -> None:
    c, n = share
    for method in (wilson, clopper_pearson):
        fewer, more = method(c, n, level), method(c + 1, n, level)
        assert fewer.low <= more.low
        assert fewer.high <= more.high


@given(shares)
def test_more_confidence_never_narrows(share: tuple[int, int]) -> None:
    c, n = share
    for method in (wilson, clopper_pearson):
        narrow, wide = method(c, n, 0.9), method(c, n, 0.99)
        assert wide.low <= narrow.low
        assert narrow.high <= wide.high


@pytest.mark.parametrize("method", [wilson, clopper_pearson])
@pytest.mark.parametrize(("c", "n"), [(4, 3), (-1, 3), (0, 0)])
def test_impossible_count_is_refused(method: object, c: int, n: int) -> None:
    assert callable(method)
    with pytest.raises(BadInput):
        method(c, n)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, -0.1, math.nan])
def test_impossible_confidence_is_refused(level: float) -> None:
    for interval in (
        lambda: wilson(1, 2, level),
        lambda: clopper_pearson(1, 2, level),
        lambda: holm_wilson([1], 2, level),
    ):
        with pytest.raises(BadInput, match="confidence"):
            interval()


def test_t_quantile_is_within_1e_9_of_scipy_from_100_degrees_of_freedom_on() -> None:
    for df in np.unique(np.round(np.logspace(2, 7, 300))):
        for p in np.concatenate((np.linspace(0.501, 0.9999, 100), [0.975, 0.995, 0.9995])):
            assert t_quantile(float(p), float(df)) == pytest.approx(special.stdtrit(df, p), rel=1e-9)


@given(st.floats(min_value=1, max_value=1e6), st.floats(min_value=0.0001, max_value=0.9999))
def test_t_quantile_is_odd_about_one_half(df: float, p: float) -> None:
    assert t_quantile(p, df) == pytest.approx(-t_quantile(1 - p, df), rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("df", [1.0, 2.5, 30.0, 99.9, 1000.0])
def test_t_quantile_falls_back_on_scipy_at_small_df_and_far_in_the_tail(df: float) -> None:
    assert t_quantile(0.9999999, df) == pytest.approx(special.stdtrit(df, 0.9999999), rel=1e-12)


@pytest.mark.parametrize("df", [0.0, -1.0, math.inf, math.nan])
def test_impossible_degrees_of_freedom_are_refused(df: float) -> None:
    with pytest.raises(BadInput, match="degrees of freedom"):
        t_quantile(0.975, df)


def test_normal_quantile_refuses_the_ends() -> None:
    assert normal_quantile(0.975) == pytest.approx(special.ndtri(0.975), rel=1e-14)
    with pytest.raises(BadInput):
        normal_quantile(1.0)


def test_t_interval_is_mean_plus_minus_t_se() -> None:
    found = mean_t_interval(0.5, 0.1, 4)
    assert found.high - 0.5 == pytest.approx(0.1 * stats.t.ppf(0.975, 4), rel=1e-12)
    assert 0.5 - found.low == pytest.approx(found.high - 0.5)
    assert found.method == "t"


def test_cut_to_the_reward_range_is_named() -> None:
    found = mean_t_interval(0.9, 0.1, 4, bounds=(0.0, 1.0))
    assert found.high == 1.0
    assert found.method == "t, cut to [0, 1]"
    assert mean_t_interval(0.5, 0.01, 4, bounds=(0.0, 1.0)).method == "t"


@pytest.mark.parametrize("se", [0.0, -1.0, math.nan, math.inf])
def test_zero_standard_error_gets_no_interval_of_width_zero(se: float) -> None:
    with pytest.raises(BadInput, match="degenerate"):
        mean_t_interval(1.0, se, 10)


def test_one_row_is_not_adjusted() -> None:
    assert holm_wilson([3], 10) == (wilson(3, 10),)
    assert holm_wilson([], 10) == ()


tables = st.integers(min_value=1, max_value=500).flatmap(
    lambda n: st.tuples(st.lists(st.integers(0, n), min_size=1, max_size=8), st.just(n))
)


@given(tables)
def test_holm_intervals_are_ordered_like_the_counts_and_never_narrower_than_wilson(
    table: tuple[list[int], int],
) -> None:
    counts, n = table
    found = holm_wilson(counts, n)
    for c, interval in zip(counts, found, strict=True):
        plain, bonferroni = wilson(c, n), wilson(c, n, 1 - 0.05 / len(counts))
        assert bonferroni.low - 1e-12 <= interval.low <= plain.low + 1e-12
        assert plain.high - 1e-12 <= interval.high <= bonferroni.high + 1e-12
        for other, theirs in zip(counts, found, strict=True):
            if c <= other:
                assert interval.low <= theirs.low
                assert interval.high <= theirs.high


@given(tables, st.floats(min_value=0.01, max_value=0.99))
def test_holm_interval_holds_exactly_the_thresholds_that_holms_test_does_not_reject(
    table: tuple[list[int], int], threshold: float
) -> None:
    counts, n = table
    found = holm_wilson(counts, n)
    z = [(c / n - threshold) / math.sqrt(threshold * (1 - threshold) / n) for c in counts]
    above = holm([float(special.ndtr(-x)) for x in z])
    below = holm([float(special.ndtr(x)) for x in z])
    for interval, p_above, p_below in zip(found, above, below, strict=True):
        if abs(p_above - 0.025) > 1e-9:
            assert (interval.low > threshold) == (p_above < 0.025)
        if abs(p_below - 0.025) > 1e-9:
            assert (interval.high < threshold) == (p_below < 0.025)


def test_wilson_and_large_sample_t_load_neither_numpy_nor_scipy() -> None:
    code = (
        "import sys\n"
        "from lockedroom.stats import intervals, one_run\n"
        "sums = one_run.RunSums()\n"
        "sums.add_example([1.0, 0.0], times=60); sums.add_example([0.25, 1.0], times=60)\n"
        "one_run.estimate_run(sums); intervals.holm_wilson([1, 2], 9); intervals.t_quantile(.975, 100)\n"
        "print([name for name in ('numpy', 'scipy') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_two_sided_z_at_95_percent() -> None:
    assert two_sided_z(0.95) == pytest.approx(1.959963984540054, rel=1e-15)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.sampled_from([0.9, 0.95, 0.99]))
def test_with_equal_sizes_the_effective_holm_interval_is_the_plain_one(counts: list[int], confidence: float) -> None:
    n = max(sum(counts), 1)

    plain = holm_wilson(counts, n, confidence)
    effective = holm_wilson_effective([count / n for count in counts], [float(n)] * len(counts), confidence)

    for one, other in zip(plain, effective, strict=True):
        assert other.low == pytest.approx(one.low, abs=1e-9)
        assert other.high == pytest.approx(one.high, abs=1e-9)


def test_effective_holm_intervals_do_not_depend_on_the_order_of_the_rows() -> None:
    shares, sizes = [0.2, 0.2, 0.5, 0.1], [40.0, 12.5, 100.0, 7.0]

    forward = holm_wilson_effective(shares, sizes)
    backward = holm_wilson_effective(shares[::-1], sizes[::-1])

    assert [(one.low, one.high) for one in forward] == [(one.low, one.high) for one in backward[::-1]]


def test_fewer_effective_attempts_give_a_wider_interval() -> None:
    narrow, wide = (holm_wilson_effective([0.3, 0.7], [size, size])[0] for size in (200.0, 50.0))
    assert wide.low < narrow.low < 0.3 < narrow.high < wide.high
