from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockedroom.errors import BadInput
from lockedroom.stats.intervals import Interval
from lockedroom.stats.verdict import Verdict, decide, equivalence_confidence


def at(low: float, high: float, confidence: float = 0.95) -> Interval:
    return Interval(low, high, confidence, "t")


@pytest.mark.parametrize(
    ("low", "high", "p", "verdict"),
    [
        (0.01, 0.05, 0.01, Verdict.BETTER),
        (-0.05, -0.01, 0.01, Verdict.WORSE),
        (-0.01, 0.05, 0.2, Verdict.INCONCLUSIVE),
        (0.01, 0.05, 0.06, Verdict.INCONCLUSIVE),  # the exact test does not agree with the interval
        (-0.01, 0.05, 0.04, Verdict.INCONCLUSIVE),  # nor the interval with the exact test
        (0.01, 0.05, 0.05, Verdict.BETTER),
    ],
)
def test_better_and_worse_need_both_the_test_and_the_interval(
    low: float, high: float, p: float, verdict: Verdict
) -> None:
    assert decide(at(low, high), p) is verdict


def test_equivalent_iff_the_one_minus_two_alpha_interval_lies_inside_the_margin() -> None:
    inside, outside = at(-0.009, 0.0099, 0.9), at(-0.009, 0.01, 0.9)
    assert decide(at(-0.012, 0.012), 0.8, margin=0.01, equivalence=inside) is Verdict.EQUIVALENT
    assert decide(at(-0.012, 0.012), 0.8, margin=0.01, equivalence=outside) is Verdict.INCONCLUSIVE


def test_significant_difference_inside_the_margin_is_equivalent() -> None:
    assert decide(at(0.001, 0.008), 0.01, margin=0.01, equivalence=at(0.002, 0.007, 0.9)) is Verdict.EQUIVALENT
    assert decide(at(0.001, 0.03), 0.01, margin=0.01, equivalence=at(0.002, 0.02, 0.9)) is Verdict.BETTER


def test_undefined_interval_is_inconclusive() -> None:
    assert decide(None, 1.0, margin=0.01) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("margin", [0.0, -0.1, float("nan"), float("inf")])
def test_margin_must_be_positive(margin: float) -> None:
    with pytest.raises(BadInput, match="margin"):
        decide(at(-1, 1), 1.0, margin=margin, equivalence=at(-1, 1, 0.9))


@pytest.mark.parametrize("equivalence", [None, at(-0.001, 0.001, 0.95)])
def test_margin_needs_the_interval_of_the_right_confidence(equivalence: Interval | None) -> None:
    with pytest.raises(BadInput, match=r"0\.9"):
        decide(at(-1, 1), 1.0, margin=0.1, equivalence=equivalence)


def test_impossible_p_value_or_confidence_is_refused() -> None:
    with pytest.raises(BadInput, match="p-value"):
        decide(at(-1, 1), 1.5)
    with pytest.raises(BadInput, match="confidence"):
        equivalence_confidence(0.5)


def test_a_verdict_has_no_truth_value() -> None:
    with pytest.raises(TypeError, match="truth"):
        bool(Verdict.WORSE)


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1))
def test_swapping_the_runs_swaps_the_verdict(centre: float, half: float, p: float) -> None:
    mirror = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}
    verdict = decide(at(centre - half, centre + half), p)
    assert decide(at(-centre - half, -centre + half), p) is mirror.get(verdict, verdict)
