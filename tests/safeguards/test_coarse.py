from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockedroom.safeguards.coarse import Measured, Rule, answer, histories, intervals, make_rule
from lockedroom.stats.intervals import clopper_pearson

RULES = [
    Rule("rounded", step=0.05),
    Rule("rounded", step=0.001),
    Rule("threshold", threshold=0.7),
    Rule("ladder", step=0.02),
]


@given(st.sampled_from(RULES), st.integers(1, 60), st.integers(1, 4), st.data())
@settings(max_examples=300, deadline=None)
def test_the_pass_rate_lies_where_the_answer_says(rule: Rule, n: int, draws: int, data: st.DataObject) -> None:
    attempts = n * draws
    best = None
    for _ in range(3):
        passes = data.draw(st.integers(0, attempts))
        failures = data.draw(st.integers(0, attempts - passes))
        said = answer(rule, Measured(n, draws, passes, failures), best)
        low, high = Fraction(repr(said.low)), Fraction(repr(said.high))
        slack = Fraction(1, 10**9)
        assert low - slack <= Fraction(passes, attempts)
        assert Fraction(passes + failures, attempts) <= high + slack
        best = said.value


def test_the_ladder_answers_as_published() -> None:
    rule, best, said = Rule("ladder", step=0.01), None, []
    for losses in (388, 382, 373, 363):
        one = answer(rule, Measured(1000, 1, 1000 - losses, 0), best)
        best = one.value
        said.append((one.value, one.reached))
    assert said == [(0.61, True), (0.61, False), (0.63, True), (0.63, False)]


@pytest.mark.parametrize(("right", "reached"), [(27, False), (28, True)])
def test_a_threshold_is_reached_when_it_is_met_exactly(right: int, reached: bool) -> None:
    said = answer(Rule("threshold", threshold=0.7), Measured(40, 1, right, 0), None)
    assert (said.value, said.reached) == (None, reached)


@pytest.mark.parametrize(("n", "step"), [(10, 0.2), (25, 0.1), (100, 0.05), (1000, 0.02), (1, 0.2), (10**7, 0.001)])
def test_the_default_step_is_about_one_standard_error(n: int, step: float) -> None:
    assert make_rule("rounded", n, step=None, threshold=None).step == step


def test_how_many_histories_may_come_before_a_look() -> None:
    assert [histories(Rule("rounded", step=0.5), k) for k in (1, 2, 3)] == [1, 3, 9]
    assert [histories(Rule("threshold", threshold=0.5), k) for k in (1, 2, 5)] == [1, 2, 16]
    # the Ladder with values 0, .5, 1: one of 3 before the second look, 6 non-falling pairs before the third
    assert [histories(Rule("ladder", step=0.5), k) for k in (1, 2, 3)] == [1, 3, 6]


def test_the_interval_is_clopper_pearson_around_the_answer_at_the_shared_confidence() -> None:
    rule = Rule("rounded", step=0.1)
    said = answer(rule, Measured(100, 1, 52, 0), None)
    found = intervals(rule, said, 100, look=1, budget=5, confidence=0.95)
    assert found.planned.confidence == pytest.approx(0.99)
    assert found.planned.low == pytest.approx(clopper_pearson(45, 100, 0.99).low)
    assert found.planned.high == pytest.approx(clopper_pearson(55, 100, 0.99).high)
    later = intervals(rule, said, 100, look=5, budget=5, confidence=0.95)
    assert later.planned == found.planned
    assert later.adaptive.low < found.adaptive.low == found.planned.low


def test_after_too_many_fine_answers_nothing_is_claimed() -> None:
    rule = Rule("rounded", step=0.001)
    said = answer(rule, Measured(1000, 1, 500, 0), None)
    found = intervals(rule, said, 1000, look=150, budget=200, confidence=0.95)
    assert (found.adaptive.low, found.adaptive.high) == (0.0, 1.0)
    assert found.planned.low > 0.4


@pytest.mark.parametrize("value", [0, 40])
def test_a_perfect_or_hopeless_answer_keeps_its_open_end(value: int) -> None:
    rule = Rule("rounded", step=0.1)
    found = intervals(
        rule, answer(rule, Measured(40, 1, value, 0), None), 40, look=1, budget=1, confidence=0.95
    ).planned
    assert (found.low == 0.0) == (value == 0)
    assert (found.high == 1.0) == (value == 40)
