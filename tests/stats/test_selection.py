from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from lockedroom.errors import BadInput
from lockedroom.stats.intervals import clopper_pearson
from lockedroom.stats.selection import (
    best_of_n_kl_binary,
    best_of_n_kl_bound,
    expected_draws,
    expected_maximum_of_normals,
    gao_best_of_n,
    gao_best_of_n_peak,
    gao_rl,
    gao_rl_peak,
    tilted_kl,
    tilted_pass_rate,
    verified_accuracy,
    verifier_ceiling,
    verifier_errors,
    winners_curse,
    youden_j,
)

rate = st.floats(min_value=0, max_value=1)


@given(rate, st.integers(1, 1000))
def test_exact_kl_never_exceeds_the_bound_nor_minus_log_p(p: float, n: int) -> None:
    kl = best_of_n_kl_binary(p, n)
    assert -1e-12 <= kl <= best_of_n_kl_bound(n) + 1e-12
    if p > 0:
        assert kl <= -math.log(p) + 1e-12


@given(st.floats(0.001, 0.999), st.integers(1, 50))
def test_exact_kl_is_the_divergence_of_two_bernoullis(p: float, n: int) -> None:
    q = 1 - (1 - p) ** n
    assert best_of_n_kl_binary(p, n) == pytest.approx(float(stats.entropy([q, 1 - q], [p, 1 - p])), abs=1e-9)


def test_certain_examples_have_no_divergence() -> None:
    assert best_of_n_kl_binary(0.0, 8) == best_of_n_kl_binary(1.0, 8) == best_of_n_kl_binary(0.3, 1) == 0.0


def test_verified_accuracy_is_the_one_seen_in_simulation() -> None:
    p, t, f, n = 0.3, 0.8, 0.1, 5
    rng = np.random.Generator(np.random.PCG64(1))
    right = rng.random((100_000, n)) < p
    accepted = rng.random((100_000, n)) < np.where(right, t, f)
    chosen = right[np.arange(len(right)), accepted.argmax(axis=1)]  # the first accepted; the first of all if none
    assert verified_accuracy(p, t, f, n) == pytest.approx(chosen.mean(), abs=0.006)


@given(rate, rate, rate, st.integers(1, 200))
def test_verified_accuracy_is_a_probability_and_one_draw_gains_nothing(p: float, t: float, f: float, n: int) -> None:
    assert -1e-9 <= verified_accuracy(p, t, f, n) <= 1 + 1e-9
    assert verified_accuracy(p, t, f, 1) == pytest.approx(p, abs=1e-9)
    assert -1e-9 <= verifier_ceiling(p, t, f) <= 1 + 1e-9


def test_verifier_that_accepts_nothing_or_everything_chooses_at_random() -> None:
    assert verified_accuracy(0.3, 0.0, 0.0, 50) == verified_accuracy(0.3, 1.0, 1.0, 50) == 0.3
    assert verifier_ceiling(0.3, 0.0, 0.0) == 0.3


def test_error_budget_has_clopper_pearson_intervals_and_youdens_j() -> None:
    found = verifier_errors(18, 20, 3, 300)
    assert found.false_negative_rate == 0.1
    assert found.false_negative_interval == clopper_pearson(2, 20)
    assert found.false_positive_interval == clopper_pearson(3, 300)
    assert found.youden_j == pytest.approx(0.9 - 0.01)
    assert youden_j(0.2, 0.5) < 0
    with pytest.raises(BadInput):
        verifier_errors(0, 0, 0, 30)


@pytest.mark.parametrize("m", [2, 3, 17, 1000, 10**6])
def test_expected_maximum_agrees_with_quadrature(m: int) -> None:
    def integrand(x: float) -> float:
        return float(-np.expm1(m * stats.norm.logcdf(x)) - stats.norm.sf(x) ** m)

    expected = sum(integrate.quad(integrand, low, low + 1, epsabs=1e-13)[0] for low in range(12))
    assert expected_maximum_of_normals(m) == pytest.approx(expected, abs=1e-11)


def test_winners_curse_grows_with_the_candidates_from_zero() -> None:
    curses = [winners_curse(0.02, m) for m in (1, 2, 5, 50)]
    assert curses[0] == 0.0
    assert curses == sorted(curses)


@given(st.floats(1e-6, 1), st.integers(1, 200))
def test_expected_draws_sum_the_chance_to_still_be_drawing(p: float, budget: int) -> None:
    assert expected_draws(p, budget) == pytest.approx(sum((1 - p) ** i for i in range(budget)), rel=1e-9)


def test_hopeless_example_costs_the_whole_budget() -> None:
    assert expected_draws(0.0, 7) == 7.0


@given(st.floats(0.1, 3), st.floats(0.1, 3), st.floats(0.01, 10))
def test_no_distance_beats_the_peak(alpha: float, beta: float, distance: float) -> None:
    best, learned = gao_best_of_n_peak(alpha, beta), gao_rl_peak(alpha, beta)
    assert gao_best_of_n(best.distance, alpha, beta) == pytest.approx(best.value)
    assert gao_rl(learned.distance, alpha, beta) == pytest.approx(learned.value)
    assert gao_best_of_n(distance, alpha, beta) <= best.value + 1e-9
    assert gao_rl(distance, alpha, beta) <= learned.value * (1 + 1e-9)
    assert gao_rl(0.0, alpha, beta) == gao_best_of_n(0.0, alpha, beta) == 0.0


def test_impossible_questions_are_refused() -> None:
    refused = (
        lambda: best_of_n_kl_bound(0),
        lambda: best_of_n_kl_binary(1.2, 3),
        lambda: verified_accuracy(0.3, 1.1, 0.0, 2),
        lambda: verifier_ceiling(0.3, 1.0, -0.1),
        lambda: expected_maximum_of_normals(0),
        lambda: winners_curse(0.0, 3),
        lambda: winners_curse(math.nan, 3),
        lambda: expected_draws(0.5, 0),
        lambda: gao_best_of_n(-1.0, 1.0, 0.2),
        lambda: gao_rl_peak(1.0, 0.0),
        lambda: gao_rl_peak(1000.0, 1.0),
        lambda: youden_j(math.nan, 0.0),
    )
    for question in refused:
        with pytest.raises(BadInput):
            question()


def test_the_tilted_policy_is_the_optimum_of_reward_minus_beta_kl() -> None:
    p, beta = 0.3, 0.4
    q, kl = tilted_pass_rate(p, beta), tilted_kl(p, beta)

    def objective(rate: float) -> float:
        return rate - beta * (rate * math.log(rate / p) + (1 - rate) * math.log((1 - rate) / (1 - p)))

    assert math.isclose(q - beta * kl, objective(q), rel_tol=1e-12)
    assert math.isclose(q - beta * kl, beta * math.log(p * math.exp(1 / beta) + 1 - p), rel_tol=1e-12)
    assert all(objective(q) > objective(other) for other in (q - 0.01, q + 0.01))


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_a_certain_policy_cannot_be_tilted(p: float) -> None:
    assert (tilted_pass_rate(p, 0.1), tilted_kl(p, 0.1)) == (p, 0.0)


def test_a_tilt_tends_to_passing_always_at_minus_log_p_nats() -> None:
    assert math.isclose(tilted_pass_rate(0.2, 0.01), 1.0)
    assert math.isclose(tilted_kl(0.2, 0.01), -math.log(0.2))


def test_a_tilt_needs_a_positive_weight() -> None:
    with pytest.raises(BadInput, match="above 0"):
        tilted_pass_rate(0.5, 0.0)
