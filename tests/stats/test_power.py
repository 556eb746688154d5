from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockedroom.errors import BadInput
from lockedroom.stats.paired import paired_difference
from lockedroom.stats.power import (
    Noise,
    allocate,
    examples_or_draws,
    minimum_detectable_effect,
    paired_between_variance,
    power_of,
    sample_size,
    total,
    unpaired_minimum_detectable_effect,
    unpaired_sample_size,
)

noises = st.builds(
    Noise,
    between=st.floats(0.001, 1),
    within_a=st.floats(0, 1),
    within_b=st.floats(0, 1),
    draws_a=st.integers(1, 20),
    draws_b=st.integers(1, 20),
)


@given(noises, st.floats(0.001, 0.5))
def test_the_sample_size_is_the_least_that_sees_delta(noise: Noise, delta: float) -> None:
    m = sample_size(delta, noise)
    assert minimum_detectable_effect(m, noise) <= delta * (1 + 1e-9)
    if m > 2:
        assert minimum_detectable_effect(m - 1, noise) > delta * (1 - 1e-9)


@given(noises, st.integers(2, 10_000))
def test_power_at_the_minimum_detectable_effect_is_80_percent(noise: Noise, m: int) -> None:
    delta = minimum_detectable_effect(m, noise)
    assert power_of(delta, m, noise) == pytest.approx(0.8, abs=1e-4)
    assert power_of(-delta, m, noise) == power_of(delta, m, noise)


def test_predicted_standard_error_is_the_one_seen_in_simulation() -> None:
    rng = np.random.Generator(np.random.PCG64(2))
    x_a, x_b = rng.uniform(0.2, 0.9, size=4000), rng.uniform(0.2, 0.9, size=4000)
    q_a, q_b = rng.binomial(4, x_a) / 4, rng.binomial(2, x_b) / 2
    noise = Noise(
        between=float(np.var(x_a - x_b)),
        within_a=float(np.mean(x_a * (1 - x_a))),
        within_b=float(np.mean(x_b * (1 - x_b))),
        draws_a=4,
        draws_b=2,
    )
    seen = paired_difference(q_a.tolist(), q_b.tolist()).standard_error
    assert seen == pytest.approx(math.sqrt(total(noise) / 4000), rel=0.03)


def test_unpaired_runs_need_the_sum_of_both_variances() -> None:
    m = unpaired_sample_size(0.155, 0.25, 0.25)
    assert m == 164
    assert unpaired_minimum_detectable_effect(m, 0.5) <= 0.155


def test_correlation_shrinks_the_variance_of_the_difference() -> None:
    assert paired_between_variance(0.1, 0.1, 0.0) == 0.2
    assert paired_between_variance(0.1, 0.1, 1.0) == pytest.approx(0.0)
    assert paired_between_variance(0.1, 0.1, -1.0) == pytest.approx(0.4)


def test_noisy_draws_over_few_fixed_examples_are_still_better_spread_over_new_examples() -> None:
    found = examples_or_draws(100, Noise(0.01, 0.2, 0.2, draws_a=1, draws_b=1), 1000)
    assert found.better == "more examples"
    assert found.se_more_examples < found.se_more_draws < found.se_now


@given(noises, st.integers(2, 1000), st.integers(1, 5000))
def test_more_examples_never_lose_per_completion(noise: Noise, m: int, completions: int) -> None:
    balanced = Noise(noise.between, noise.within_a, noise.within_b, noise.draws_a, noise.draws_a)
    found = examples_or_draws(m, balanced, completions)
    assert found.se_more_examples <= found.se_more_draws * (1 + 1e-12)


def test_without_variance_between_examples_the_two_ways_tie() -> None:
    found = examples_or_draws(10, Noise(0.0, 0.1, 0.1, 2, 2), 20)
    assert found.se_more_examples == pytest.approx(found.se_more_draws)


def test_costly_examples_get_the_optimal_number_of_draws() -> None:
    found = allocate(1e6, Noise(0.02, 0.1, 0.1), cost_example=90, cost_draw=1, max_examples=10**9)
    assert found.draws == pytest.approx(math.sqrt(0.2 / 0.02 * 90), abs=2)
    assert found.cost <= 1e6


def test_a_bound_on_examples_is_met_with_more_draws() -> None:
    found = allocate(1000, Noise(0.02, 0.1, 0.1), cost_example=0, cost_draw=1, max_examples=100)
    assert (found.examples, found.draws, found.cost) == (100, 10, 1000)
    assert allocate(1000, Noise(0.02, 0.1), cost_example=0, cost_draw=1, max_examples=10**6).draws == 1
    assert allocate(9000, Noise(1.0), cost_example=0, cost_draw=1, max_examples=10, max_draws=3).draws == 1


@pytest.mark.parametrize(
    "noise",
    [Noise(-0.1), Noise(0.0), Noise(0.1, draws_a=0), Noise(math.nan), Noise(0.1, within_b=math.inf)],
)
def test_impossible_noise_is_refused(noise: Noise) -> None:
    with pytest.raises(BadInput, match="variance"):
        total(noise)


def test_impossible_questions_are_refused() -> None:
    noise = Noise(0.1)
    refused = (
        lambda: sample_size(0.0, noise),
        lambda: sample_size(math.nan, noise),
        lambda: sample_size(0.1, noise, alpha=0.0),
        lambda: sample_size(0.1, noise, power=1.0),
        lambda: sample_size(0.1, noise, power=0.01),
        lambda: minimum_detectable_effect(1, noise),
        lambda: unpaired_minimum_detectable_effect(10, 0.0),
        lambda: paired_between_variance(-0.1, 0.1, 0.0),
        lambda: paired_between_variance(0.1, 0.1, 1.1),
        lambda: examples_or_draws(10, noise, 0),
        lambda: examples_or_draws(10, Noise(0.1, draws_a=2), 5),
        lambda: allocate(1.5, noise, cost_example=0, cost_draw=1, max_examples=10),
        lambda: allocate(10, noise, cost_example=0, cost_draw=0, max_examples=10),
    )
    for question in refused:
        with pytest.raises(BadInput):
            question()
