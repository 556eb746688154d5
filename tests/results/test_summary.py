"""The numbers of one run against the oracles of docs/statistics.md, and the cases where a number is not defined."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lockedroom.records import Code, Completion, Details, Failure, FailureCode, Outcome, Record, Score, ScorerSpec
from lockedroom.results.evaluation.summary import Summary, summarise
from lockedroom.results.evaluation.tally import Tally

SPEC = ScorerSpec("s", 1, (Code("ok", Outcome.CORRECT, "", 1.0), Code("no", Outcome.WRONG, "", 0.0)))
OPEN = ScorerSpec("open", 0)
FAILED = Failure(FailureCode.SCORER_DIED, "")


def _score(reward: float) -> Score:
    right = reward == 1
    return Score(reward, Details("ok" if right else "no", Outcome.CORRECT if right else Outcome.WRONG, None, ""))


def _summary(rows: Sequence[Sequence[str | float]], spec: ScorerSpec = SPEC, confidence: float = 0.95) -> Summary:
    """Each row is an example: draws as '1', '0' and 'f' for a failure, or as rewards."""
    draws = len(rows[0])
    records = [
        Record(f"e{i}", draw, Completion(""), FAILED if one == "f" else _score(float(one)))
        for i, row in enumerate(rows)
        for draw, one in enumerate(row)
    ]
    tally = Tally(draws=draws, codes={}, failures={}, passes={}, graded_passes={})
    tally.add(records, spec)
    return summarise(tally, spec, confidence)


def _single(right: int, wrong: int, failed: int = 0) -> Summary:
    return _summary(["1"] * right + ["0"] * wrong + ["f"] * failed)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(3, 10, 0.1077913, 0.6032219), (0, 10, 0.0, 0.2775328), (18, 20, 0.6989664, 0.9721335),
     (20, 100, 0.133367, 0.288829), (0, 30, 0.0, 0.1135134)],
)  # fmt: skip
def test_one_binary_draw_gets_the_wilson_interval(right: int, n: int, low: float, high: float) -> None:
    rate = _single(right, n - right).pass_rate
    assert rate is not None
    assert (rate.value, rate.method) == (right / n, "wilson")
    assert rate.low == pytest.approx(low, abs=1e-6)
    assert rate.high == pytest.approx(high, abs=1e-6)


@pytest.mark.parametrize(("right", "n", "error"), [(12, 30, 0.0910), (14, 307, 0.011926), (2, 123, 0.011450)])
def test_the_standard_error_of_one_binary_draw_is_the_published_one(right: int, n: int, error: float) -> None:
    rate = _single(right, n - right).pass_rate
    assert rate is not None
    assert rate.standard_error == pytest.approx(error, abs=5e-5 if error == 0.0910 else 5e-7)


def test_failures_give_three_numbers_and_never_count_as_wrong() -> None:
    summary = _single(80, 10, 10)
    three = summary.with_failures
    assert three is not None
    assert three.mean_scored == pytest.approx(0.8889, abs=5e-5)
    assert (three.mean_failures_as_zero, three.lowest, three.highest) == (0.80, 0.80, 0.90)
    assert (summary.scored, summary.failed, summary.examples_without_score) == (90, 10, 10)
    assert summary.pass_rate is not None
    assert summary.pass_rate.value == pytest.approx(80 / 90)
    assert [code.share for code in summary.codes] == [80 / 90, 10 / 90]


def test_k_draws_are_clustered_by_example() -> None:
    summary = _summary(["1111", "1100", "0000", "1000", "1110"])
    rate, variance = summary.pass_rate, summary.variance
    assert rate is not None
    assert variance is not None
    assert rate.value == 0.5
    assert rate.standard_error == pytest.approx(0.1767767, abs=1e-7)
    assert rate.standard_error != pytest.approx(0.1147079, abs=1e-3)
    assert variance.within == pytest.approx(0.1666667, abs=1e-7)
    # Var(q) is 0.15625; what the draws add to it is taken off.
    assert variance.between == pytest.approx(0.15625 - 0.1666667 / 4, abs=1e-7)
    assert variance.between == pytest.approx(0.1145833, abs=1e-7)


def test_graded_rewards_get_the_t_interval_of_their_mean() -> None:
    summary = _summary([[0.2], [0.4], [0.9]], OPEN)
    mean = summary.mean_reward
    assert mean is not None
    assert mean.value == pytest.approx(0.5)
    assert mean.standard_error == pytest.approx(0.2081666)
    half = 4.302653 * 0.2081666
    assert mean.low == pytest.approx(0.5 - half)
    assert mean.high == pytest.approx(0.5 + half)
    assert summary.pass_rate is not None
    assert summary.pass_rate.value == 0.0


@pytest.mark.parametrize("reward", [0.1, 0.3, 1 / 3, 0.7, 1e-300, -2.5, 123456.789])
@pytest.mark.parametrize("draws", [1, 3])
def test_equal_graded_rewards_are_degenerate_and_never_plus_minus_zero(reward: float, draws: int) -> None:
    mean = _summary([[reward] * draws] * 7, OPEN).mean_reward
    assert mean is not None
    assert mean.value == reward
    assert mean.degenerate
    assert (mean.standard_error, mean.low, mean.high) == (None, None, None)


@pytest.mark.parametrize(("row", "value"), [("1", 1.0), ("0", 0.0), ("111", 1.0), ("000", 0.0)])
def test_examples_that_all_agree_still_get_an_honest_interval(row: str, value: float) -> None:
    rate = _summary([row] * 30).pass_rate
    assert rate is not None
    assert (rate.value, rate.standard_error, rate.degenerate) == (value, None, True)
    assert rate.low is not None
    assert rate.high is not None
    assert rate.high - rate.low == pytest.approx(0.1135134, abs=1e-6)


def test_nothing_judged_is_no_number_at_all() -> None:
    summary = _single(0, 0, 5)
    assert (summary.pass_rate, summary.mean_reward, summary.variance, summary.codes) == (None, None, None, [])
    assert summary.with_failures is not None
    assert summary.with_failures.mean_scored is None
    assert (summary.with_failures.lowest, summary.with_failures.highest) == (0.0, 1.0)


def test_one_example_has_no_standard_error() -> None:
    rate = _single(1, 0).pass_rate
    assert rate is not None
    assert (rate.standard_error, rate.degenerate) == (None, False)
    assert rate.low == pytest.approx(0.2065493)
    assert rate.high == 1.0


def test_an_example_with_failures_weighs_as_much_as_any_other() -> None:
    rate = _summary(["1f", "00", "ff"]).pass_rate
    assert rate is not None
    assert (rate.value, rate.examples) == (0.5, 2)


def test_a_scorer_without_vocabulary_is_noted() -> None:
    assert "declares no codes" in _summary([[1.0], [0.5]], OPEN).notes[0]


def test_the_confidence_level_widens_the_interval() -> None:
    narrow, wide = _summary(["1", "0"] * 20, confidence=0.5).pass_rate, _summary(["1", "0"] * 20).pass_rate
    assert narrow is not None
    assert wide is not None
    assert narrow.low is not None
    assert wide.low is not None
    assert wide.low < narrow.low < 0.5


def test_codes_of_repeated_draws_do_not_pretend_to_be_independent() -> None:
    clustered, independent = _summary(["1111"] * 10 + ["0000"] * 10), _summary(["1"] * 40 + ["0"] * 40)
    assert clustered.codes[0].high - clustered.codes[0].low > 1.5 * (
        independent.codes[0].high - independent.codes[0].low
    )
