"""Everything a summary needs, counted in one pass over the records of whole examples.

All sums are exact (integers and histograms), so a tally is the same whatever the batch size, and two tallies of
neighbouring parts merge into the tally of the whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from lockedroom.records import Completion, Example, Failure, FinishReason, Outcome, Record, Score, ScorerSpec
from lockedroom.stats.exact_sum import ExactSum

SHOWN_PER_CODE = 3


class CodeTally(msgspec.Struct):
    outcome: Outcome
    count: int = 0
    shown: list[tuple[str, int]] = []


class GradedSums(msgspec.Struct):
    """Exact sums over the examples whose rewards are not simply 1 for correct and 0 otherwise.

    `q` is an example's mean reward over its scored draws; `within` sums each example's sample variance over draws.
    """

    examples: int = 0
    q: ExactSum = msgspec.field(default_factory=ExactSum)
    q_squared: ExactSum = msgspec.field(default_factory=ExactSum)
    within: ExactSum = msgspec.field(default_factory=ExactSum)
    with_variance: int = 0
    rewards: ExactSum = msgspec.field(default_factory=ExactSum)


class Tally(msgspec.Struct):
    """Counts over whole examples. `passes[scored][correct]` is the number of examples with so many scored and correct
    draws; `graded_passes` is the part of it whose rewards went into `graded` instead of being 1 or 0 with the outcome."""

    draws: int
    examples: int = 0
    codes: dict[str, CodeTally] = {}
    failures: dict[str, CodeTally] = {}
    passes: dict[int, dict[int, int]] = {}
    graded_passes: dict[int, dict[int, int]] = {}
    graded: GradedSums = msgspec.field(default_factory=GradedSums)
    finish_known: int = 0
    truncated: int = 0

    def add(self, records: Sequence[Record], spec: ScorerSpec) -> None:
        """Count the records of whole examples (`draws` consecutive records each)."""
        self.examples += len(records) // self.draws
        self._count_finish_reasons(records)
        scored = [record.result for record in records if type(record.result) is Score]
        if len(scored) == len(records) and _reward_is_outcome(spec):
            self._add_plain(records, scored)
        else:
            self._add_any(records)

    def merge(self, later: Tally) -> None:
        """Add the tally of the records that follow these."""
        self.examples += later.examples
        self.finish_known += later.finish_known
        self.truncated += later.truncated
        _merge_codes(self.codes, later.codes)
        _merge_codes(self.failures, later.failures)
        _merge_histogram(self.passes, later.passes)
        _merge_histogram(self.graded_passes, later.graded_passes)
        mine, theirs = self.graded, later.graded
        mine.examples += theirs.examples
        mine.with_variance += theirs.with_variance
        for name in ("q", "q_squared", "within", "rewards"):
            getattr(mine, name).merge(getattr(theirs, name))

    def _count_finish_reasons(self, records: Sequence[Record]) -> None:
        reasons = [record.completion.finish_reason for record in records if type(record.completion) is Completion]
        unknown = reasons.count(None)
        if unknown < len(reasons):
            self.finish_known += len(reasons) - unknown
            self.truncated += reasons.count(FinishReason.LENGTH)

    def _add_plain(self, records: Sequence[Record], scores: Sequence[Score]) -> None:
        """The common case, free of per-record Python: every attempt scored, every reward the outcome as 1 or 0."""
        codes = [score.details.code for score in scores]
        for code, count in Counter(codes).items():
            first = scores[codes.index(code)]
            self._bump(self.codes, code, first.details.outcome, count)
            if len(self.codes[code].shown) < SHOWN_PER_CODE:
                self._show(code, records)
        correct = {code for code, tally in self.codes.items() if tally.outcome is Outcome.CORRECT}
        flags = [code in correct for code in codes]
        if self.draws == 1:
            passed: dict[int, int] = Counter(flags)
        else:
            passed = Counter(sum(flags[i : i + self.draws]) for i in range(0, len(flags), self.draws))
        histogram = self.passes.setdefault(self.draws, {})
        for number, count in passed.items():
            histogram[int(number)] = histogram.get(int(number), 0) + count

    def _add_any(self, records: Sequence[Record]) -> None:
        for i in range(0, len(records), self.draws):
            group = records[i : i + self.draws]
            for record in group:
                result = record.result
                if isinstance(result, Failure):
                    self._note(self.failures, result.code.value, Outcome.MALFORMED, record)
                else:
                    self._note(self.codes, result.details.code, result.details.outcome, record)
            self._add_example([record.result for record in group if isinstance(record.result, Score)])

    def _add_example(self, scores: Sequence[Score]) -> None:
        flags = [score.details.outcome is Outcome.CORRECT for score in scores]
        _bump_histogram(self.passes, len(flags), sum(flags))
        if all(score.reward == flag for score, flag in zip(scores, flags, strict=True)):
            return
        _bump_histogram(self.graded_passes, len(flags), sum(flags))
        self.graded.examples += 1
        _add_graded(self.graded, [score.reward for score in scores])

    def _bump(self, table: dict[str, CodeTally], code: str, outcome: Outcome, count: int) -> None:
        table.setdefault(code, CodeTally(outcome, shown=[])).count += count

    def _note(self, table: dict[str, CodeTally], code: str, outcome: Outcome, record: Record) -> None:
        key = code
        known = table.get(code)
        if known is not None and known.outcome is not outcome:
            key = f"{code} ({outcome.value})"  # a scorer without a vocabulary may reuse a word
        self._bump(table, key, outcome, 1)
        if len(table[key].shown) < SHOWN_PER_CODE:
            table[key].shown.append((record.id, record.draw))

    def _show(self, code: str, records: Sequence[Record]) -> None:
        shown = self.codes[code].shown
        for record in records:
            if isinstance(record.result, Score) and record.result.details.code == code:
                shown.append((record.id, record.draw))
                if len(shown) == SHOWN_PER_CODE:
                    return


def pair_with_examples(records: Sequence[Record], examples: Sequence[Example], draws: int) -> int | None:
    """Return the index of the first record that is not (example, draw) in order, or None when all are."""
    expected = [(example.id, draw) for example in examples for draw in range(draws)]
    if len(expected) == len(records):
        pairs = zip(records, expected, strict=True)
        return next((i for i, (record, pair) in enumerate(pairs) if (record.id, record.draw) != pair), None)
    return min(len(expected), len(records))


def _reward_is_outcome(spec: ScorerSpec) -> bool:
    """Whether the scorer's own table fixes every reward to 1 for correct and 0 otherwise."""
    return bool(spec.codes) and all(code.reward == float(code.outcome is Outcome.CORRECT) for code in spec.codes)


def _add_graded(sums: GradedSums, rewards: Sequence[float]) -> None:
    mean = sum(rewards) / len(rewards)
    sums.q.add(mean)
    sums.q_squared.add(mean * mean)
    for reward in rewards:
        sums.rewards.add(reward)
    if len(rewards) > 1:
        sums.with_variance += 1
        sums.within.add(sum((reward - mean) ** 2 for reward in rewards) / (len(rewards) - 1))


def _bump_histogram(histogram: dict[int, dict[int, int]], scored: int, correct: int) -> None:
    row = histogram.setdefault(scored, {})
    row[correct] = row.get(correct, 0) + 1


def _merge_histogram(mine: dict[int, dict[int, int]], theirs: dict[int, dict[int, int]]) -> None:
    for scored, row in theirs.items():
        for correct, count in row.items():
            own = mine.setdefault(scored, {})
            own[correct] = own.get(correct, 0) + count


def _merge_codes(mine: dict[str, CodeTally], theirs: dict[str, CodeTally]) -> None:
    for code, tally in theirs.items():
        own = mine.setdefault(code, CodeTally(tally.outcome, shown=[]))
        own.count += tally.count
        own.shown.extend(tally.shown[: SHOWN_PER_CODE - len(own.shown)])
