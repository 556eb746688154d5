"""A tally is the same whatever the batches, the parts it was merged from, and the path it was counted on."""

from __future__ import annotations

import itertools

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from lockedroom.records import (
    Code,
    Completion,
    Details,
    Failure,
    FailureCode,
    FinishReason,
    Outcome,
    Record,
    Score,
    ScorerSpec,
)
from lockedroom.results.evaluation.summary import Summary, summarise
from lockedroom.results.evaluation.tally import Tally, pair_with_examples
from lockedroom.stats.one_run import RunSums
from lockedroom.testkit.small_run import additions

PLAIN = ScorerSpec(
    "plain",
    1,
    (
        Code("ok", Outcome.CORRECT, "right", 1.0),
        Code("wrong", Outcome.WRONG, "wrong", 0.0),
        Code("odd", Outcome.MALFORMED, "odd", 0.0),
    ),
)
FREE = ScorerSpec("free", 0)
GRADED = ScorerSpec("graded", 1, (Code("ok", Outcome.CORRECT, "right"), Code("wrong", Outcome.WRONG, "wrong")))

_FINISH = st.sampled_from([None, FinishReason.STOP, FinishReason.LENGTH])
_CODES = st.sampled_from(list(PLAIN.codes)).map(
    lambda code: Score(code.reward or 0.0, Details(code.name, code.outcome, None, ""))
)
_FREE = st.tuples(
    st.sampled_from([0.0, 1.0, 0.1, 0.3, 1 / 3, -2.5, 1e-300, 1e150]),
    st.sampled_from(["x", "y"]),
    st.sampled_from(list(Outcome)),
).map(lambda made: Score(made[0], Details(made[1], made[2], None, "")))
_FAILURES = st.sampled_from(list(FailureCode)).map(lambda code: Failure(code, ""))


def _records(draws: int, results: list[Score | Failure], reasons: list[FinishReason | None]) -> list[Record]:
    whole = len(results) // draws * draws
    return [
        Record(
            f"e{i // draws}",
            i % draws,
            Completion("", finish_reason=reason) if isinstance(result, Score) else None,
            result,
        )
        for i, (result, reason) in enumerate(zip(results[:whole], reasons, strict=False))
    ]


def _tallied(parts: list[list[Record]], draws: int, spec: ScorerSpec) -> Summary:
    tally = Tally(draws=draws, codes={}, failures={}, passes={}, graded_passes={})
    for part in parts:
        tally.add(part, spec)
    return summarise(tally, spec)


def _merged(parts: list[list[Record]], draws: int, spec: ScorerSpec) -> Summary:
    whole = Tally(draws=draws, codes={}, failures={}, passes={}, graded_passes={})
    for part in parts:
        tally = Tally(draws=draws, codes={}, failures={}, passes={}, graded_passes={})
        tally.add(part, spec)
        whole.merge(tally)
    return summarise(whole, spec)


def _cut(records: list[Record], draws: int, at: list[int]) -> list[list[Record]]:
    ends = [0, *sorted(min(i * draws, len(records)) for i in at), len(records)]
    return [records[a:b] for a, b in itertools.pairwise(ends)]


_RESULTS = st.sampled_from([(PLAIN, _CODES), (PLAIN, _CODES | _FAILURES), (FREE, _FREE), (FREE, _FREE | _FAILURES)])


@settings(deadline=None)  # the first t interval imports scipy
@given(st.data(), st.integers(1, 4), st.lists(st.integers(0, 12), max_size=4))
def test_batches_and_merging_never_change_a_summary(data: st.DataObject, draws: int, at: list[int]) -> None:
    spec, kinds = data.draw(_RESULTS)
    results = data.draw(st.lists(kinds, min_size=draws, max_size=40))
    reasons = data.draw(st.lists(_FINISH, min_size=len(results), max_size=len(results)))
    records = _records(draws, results, reasons)
    whole = msgspec.json.encode(_tallied([records], draws, spec))
    assert msgspec.json.encode(_tallied(_cut(records, draws, at), draws, spec)) == whole
    assert msgspec.json.encode(_merged(_cut(records, draws, at), draws, spec)) == whole


@settings(deadline=None)
@given(st.lists(_CODES, min_size=4, max_size=40), st.integers(1, 4))
def test_the_fast_path_and_the_general_path_agree(results: list[Score | Failure], draws: int) -> None:
    records = _records(draws, results, [None] * len(results))
    # A vocabulary whose rewards vary takes the general path.
    varying = msgspec.structs.replace(
        PLAIN, codes=tuple(msgspec.structs.replace(code, reward=None) for code in PLAIN.codes)
    )
    assert _tallied([records], draws, PLAIN) == _tallied([records], draws, varying)


@given(st.lists(_FREE | _FAILURES, min_size=1, max_size=60))
def test_single_attempts_that_are_counted_together_are_counted_right(results: list[Score | Failure]) -> None:
    records = _records(1, results, [None] * len(results))
    tally = Tally(draws=1, codes={}, failures={}, passes={}, graded_passes={})
    tally.add(records, FREE)
    scores = [result for result in results if isinstance(result, Score)]
    named = [(score.details.code, score.details.outcome) for score in scores]
    counted = {(code.code, code.outcome): (code.count, code.squares, code.products) for code in tally.codes.values()}
    assert counted == {name: (named.count(name),) * 3 for name in named}
    first = {name: [(f"e{i}", 0) for i, r in enumerate(results) if _named(r) == name][:3] for name in named}
    assert {(code.code, code.outcome): code.shown for code in tally.codes.values()} == first
    right = [outcome for _, outcome in named].count(Outcome.CORRECT)
    failures = len(results) - len(scores)
    histogram = {(n, c): times for n, row in tally.passes.items() for c, times in row.items()}
    assert histogram == {key: n for key, n in (((0, 0), failures), ((1, 0), len(scores) - right), ((1, 1), right)) if n}
    graded = [score.reward for score in scores if score.reward != (score.details.outcome is Outcome.CORRECT)]
    expected = RunSums()
    for reward in graded:
        expected.add_example([reward])
    assert tally.graded.state() == expected.state()


def _named(result: Score | Failure) -> tuple[str, Outcome] | None:
    return (result.details.code, result.details.outcome) if isinstance(result, Score) else None


def test_one_word_for_two_outcomes_is_counted_apart_whichever_comes_first() -> None:
    right = Score(1.0, Details("said", Outcome.CORRECT, None, ""))
    wrong = Score(0.0, Details("said", Outcome.WRONG, None, ""))
    records = _records(1, [right, wrong, wrong], [None] * 3)
    summary = _merged([records[1:2], records[:1], records[2:]], 1, FREE)
    assert {(code.code, code.count) for code in summary.codes} == {("said (correct)", 1), ("said (wrong)", 2)}
    assert summary.pass_rate is not None
    assert summary.pass_rate.value == 1 / 3


def test_the_first_three_attempts_of_each_code_are_shown() -> None:
    ok = Score(1.0, Details("ok", Outcome.CORRECT, None, ""))
    records = _records(2, [ok] * 10, [None] * 10)
    for parts in ([records], _cut(records, 2, [1, 2, 3])):
        assert _tallied(parts, 2, PLAIN).codes[0].shown == [("e0", 0), ("e0", 1), ("e1", 0)]


def test_finish_reasons_are_counted_where_they_are_known() -> None:
    ok = Score(1.0, Details("ok", Outcome.CORRECT, None, ""))
    records = _records(1, [ok] * 4, [FinishReason.LENGTH, None, FinishReason.STOP, FinishReason.LENGTH])
    summary = _tallied([records], 1, PLAIN)
    assert (summary.finish_reason_known, summary.truncated) == (3, 2)


def test_the_first_record_that_is_out_of_order_is_found() -> None:
    ok = Score(1.0, Details("ok", Outcome.CORRECT, None, ""))
    examples, records = additions(3), _records(2, [ok] * 6, [None] * 6)
    assert pair_with_examples(records, examples, 2) is None
    assert pair_with_examples([*records[:3], records[4], records[3], records[5]], examples, 2) == 3
    assert pair_with_examples(records[:5], examples, 2) == 5
    assert pair_with_examples([*records, records[0]], examples, 2) == 6
