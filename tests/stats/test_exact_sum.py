from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lockedroom.errors import BadInput
from lockedroom.stats.exact_sum import ExactSum, exact_variance

finite = st.floats(allow_nan=False, allow_infinity=False)
modest = st.floats(min_value=-1e100, max_value=1e100)


def summed(values: list[float]) -> ExactSum:
    total = ExactSum()
    total.extend(values)
    return total


@given(st.lists(modest))
def test_value_is_the_correctly_rounded_sum(values: list[float]) -> None:
    assert summed(values).value() == math.fsum(values)


@given(st.lists(finite), st.randoms(use_true_random=False))
def test_any_order_and_any_split_give_the_same_text(values: list[float], rng: random.Random) -> None:
    shuffled = rng.sample(values, len(values))
    cut = rng.randrange(len(values) + 1)
    left, right = summed(shuffled[:cut]), summed(shuffled[cut:])
    left.merge(right)
    assert left.to_text() == summed(values).to_text()
    assert left == summed(values)


@given(finite, finite, st.integers(min_value=0, max_value=5))
@example(1.0, 0.1, 2)
@example(0.1, 1.0, 2)
def test_product_is_exact(left: float, right: float, times: int) -> None:
    total = ExactSum()
    total.add_product(left, right, times)
    assert Fraction(total.units(), 2**2148) == times * Fraction(left) * Fraction(right)


@given(st.lists(finite))
def test_text_reads_back_to_the_same_sum(values: list[float]) -> None:
    total = summed(values)
    assert ExactSum.from_text(total.to_text()) == total
    assert eval(repr(total)) == total


@pytest.mark.parametrize(
    ("values", "text"), [([], "0x0p0"), ([1.0, 0.5], "0x3p-1"), ([-6.0], "-0x3p1"), ([-0.0], "0x0p0")]
)
def test_text_is_canonical(values: list[float], text: str) -> None:
    assert summed(values).to_text() == text


@pytest.mark.parametrize(
    "text", ["", "0x2p0", "0x0p1", "-0x0p0", "0x1p+1", "0x01p0", "0x1p-2149", "0x1p9999999", " 0x1p0", "1p0"]
)
def test_text_that_is_not_canonical_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="to_text"):
        ExactSum.from_text(text)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_value_that_is_not_finite_is_refused(value: float) -> None:
    total = ExactSum()
    with pytest.raises(BadInput, match="finite"):
        total.add(value)
    with pytest.raises(BadInput, match="finite"):
        total.add_product(0.0, value)
    with pytest.raises(BadInput, match="finite"):
        total.add_product(2.0, value)
    assert total.value() == 0.0


def test_sum_beyond_the_largest_double_is_refused_not_infinite() -> None:
    with pytest.raises(BadInput, match="largest double"):
        summed([1.7e308, 1.7e308]).value()


def test_sum_is_not_hashable_and_equals_only_sums() -> None:
    assert ExactSum() != 0
    with pytest.raises(TypeError):
        hash(ExactSum())


@given(st.lists(st.floats(min_value=-1e6, max_value=1e6), min_size=2, max_size=20))
def test_variance_is_the_correctly_rounded_exact_one(values: list[float]) -> None:
    squares = ExactSum()
    for value in values:
        squares.add_product(value, value)
    exact = [Fraction(value) for value in values]
    mean = sum(exact, Fraction()) / len(exact)
    expected = sum(((x - mean) ** 2 for x in exact), Fraction()) / (len(exact) - 1)
    assert exact_variance(summed(values), squares, len(values)) == float(expected)


def test_variance_does_not_cancel_far_from_zero() -> None:
    values = [1e9, 1e9 + 1, 1e9 + 2]
    squares = ExactSum()
    for value in values:
        squares.add_product(value, value)
    assert exact_variance(summed(values), squares, 3) == 1.0


def test_variance_of_one_value_is_refused() -> None:
    with pytest.raises(BadInput, match="at least 2"):
        exact_variance(ExactSum(), ExactSum(), 1)
