"""The unbiased estimate of what an imperfect verifier would pick."""

from __future__ import annotations

import math

import pytest

from lockedroom.errors import BadInput
from lockedroom.stats.pass_at_k import pass_at_k
from lockedroom.stats.selection import verified_accuracy
from lockedroom.stats.verified_draws import verified_accuracy_of_draws


@pytest.mark.parametrize("passes", [0, 1, 3, 10])
def test_a_perfect_verifier_gives_pass_at_k(passes: int) -> None:
    ks = [1, 2, 5, 10]
    assert verified_accuracy_of_draws(10, passes, 1.0, 0.0, ks) == pytest.approx([pass_at_k(10, passes, k) for k in ks])


@pytest.mark.parametrize(("t", "f"), [(1.0, 0.05), (0.8, 0.1), (0.0, 1.0), (0.5, 0.5), (0.0, 0.0)])
def test_its_mean_over_all_counts_is_the_published_law(t: float, f: float) -> None:
    draws, p, ns = 12, 0.3, [1, 4, 8, 12]
    weights = [math.comb(draws, c) * p**c * (1 - p) ** (draws - c) for c in range(draws + 1)]
    for column, n in enumerate(ns):
        mean = sum(w * verified_accuracy_of_draws(draws, c, t, f, ns)[column] for c, w in enumerate(weights))
        assert mean == pytest.approx(verified_accuracy(p, t, f, n))


@pytest.mark.parametrize(
    "bad", [(4, 5, 1.0, 0.0, [1]), (4, 2, 1.5, 0.0, [1]), (4, 2, 1.0, 0.0, [5]), (4, 2, 1.0, 0.0, [0])]
)
def test_counts_rates_and_n_out_of_range_are_refused(bad: tuple[int, int, float, float, list[int]]) -> None:
    with pytest.raises(BadInput):
        verified_accuracy_of_draws(*bad)
