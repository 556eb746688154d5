"""Everything a summary needs, counted in one pass over the records of whole examples.

All sums are exact (integers and histograms), so a tally is the same whatever the batch size, and two tallies of
neighbouring parts merge into the tally of the whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from lockedroom.records import Completion, Details, Example, Failure, FinishReason, Outcome, Record, Score, ScorerSpec
from lockedroom.stats.one_run import RunSums

SHOWN_PER_CODE = 3


class CodeTally(msgspec.Struct):
    """How often a code came with an outcome. With c of an example's n scored draws: `squares` sums c², `products` sums c·n."""

    code: str
    outcome: Outcome
    count: int = 0
    squares: int = 0
    products: int = 0
    shown: list[tuple[str, int]] = []


class Tally(msgspec.Struct):
    """Counts over whole examples. `passes[scored][correct]` is the number of examples with so many scored and correct
    draws; `graded_passes` is the part of it whose rewards went into `graded` instead of being 1 or 0 with the outcome."""

    draws: int
    examples: int = 0
    codes: dict[str, CodeTally] = {}
    failures: dict[str, CodeTally] = {}
    passes: dict[int, dict[int, int]] = {}
    graded_passes: dict[int, dict[int, int]] = {}
    graded: RunSums = msgspec.field(default_factory=RunSums)
    finish_known: int = 0
    truncated: int = 0

    def add(self, records: Sequence[Record], spec: ScorerSpec) -> None:
        """Count the records of whole examples (`draws` consecutive records each)."""
        self.examples += len(records) // self.draws
        self._count_finish_reasons(records)
        if records and _reward_is_outcome(spec):
            codes = [record.result.details.code for record in records if type(record.result) is Score]
            if len(codes) == len(records):
                self._add_plain(records, codes)
                return
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
        self.graded.merge(later.graded)

    def _count_finish_reasons(self, records: Sequence[Record]) -> None:
        reasons = [record.completion.finish_reason for record in records if type(record.completion) is Completion]
        unknown = reasons.count(None)
        if unknown < len(reasons):
            self.finish_known += len(reasons) - unknown
            self.truncated += reasons.count(FinishReason.LENGTH)

    def _add_plain(self, records: Sequence[Record], codes: Sequence[str]) -> None:
        """The common case: every attempt scored, every reward the outcome as 1 or 0. Like examples are counted together."""
        tallies = {code: self._tally_of(records[codes.index(code)].result, records) for code in dict.fromkeys(codes)}
        histogram = self.passes.setdefault(self.draws, {})
        alike = Counter(codes) if self.draws == 1 else Counter(zip(*[iter(codes)] * self.draws, strict=True))
        for codes_of_one, examples in alike.items():
            group = (codes_of_one,) if isinstance(codes_of_one, str) else codes_of_one
            correct = 0
            for code in set(group):
                tally, times = tallies[code], group.count(code)
                tally.count += times * examples
                tally.squares += times * times * examples
                tally.products += times * self.draws * examples
                if tally.outcome is Outcome.CORRECT:
                    correct += times
            histogram[correct] = histogram.get(correct, 0) + examples

    def _add_any(self, records: Sequence[Record]) -> None:
        if self.draws == 1:
            records = self._add_single_scores(records)
        for i in range(0, len(records), self.draws):
            group = records[i : i + self.draws]
            scores = [record.result for record in group if isinstance(record.result, Score)]
            failed = [self._note_failure(record) for record in group if isinstance(record.result, Failure)]
            keys = [self._note_code(record) for record in group if isinstance(record.result, Score)]
            for table, names in ((self.failures, failed), (self.codes, keys)):
                for name, count in Counter(names).items():
                    table[name].squares += count * count
                    table[name].products += count * len(scores)
            self._add_examples(scores)

    def _add_single_scores(self, records: Sequence[Record]) -> list[Record]:
        """Count the examples whose only attempt was scored, those with the same verdict together; return the others."""
        scored = [record for record in records if type(record.result) is Score]
        scores = [record.result for record in records if type(record.result) is Score]
        verdicts = [(score.reward, score.details.code, score.details.outcome) for score in scores]
        one_of = dict(zip(verdicts, scores, strict=True))
        for verdict, examples in Counter(verdicts).items():
            tally = self._tally_of(one_of[verdict], scored)
            tally.count += examples
            tally.squares += examples
            tally.products += examples
            self._add_examples([one_of[verdict]], examples)
        return [record for record in records if type(record.result) is not Score]

    def _tally_of(self, result: Score | Failure, records: Sequence[Record]) -> CodeTally:
        """Return the tally of a score's code and outcome; `records` may hold some of the first attempts that it shows."""
        assert isinstance(result, Score)
        details = result.details
        tally = self.codes.setdefault(_key(details), CodeTally(details.code, details.outcome, shown=[]))
        if len(tally.shown) < SHOWN_PER_CODE:
            _show(tally, records)
        return tally

    def _add_examples(self, scores: Sequence[Score], times: int = 1) -> None:
        """Add an example by its scored attempts, or as many examples as `times` that were scored alike."""
        flags = [score.details.outcome is Outcome.CORRECT for score in scores]
        _bump_histogram(self.passes, len(flags), sum(flags), times)
        if all(score.reward == flag for score, flag in zip(scores, flags, strict=True)):
            return
        _bump_histogram(self.graded_passes, len(flags), sum(flags), times)
        self.graded.add_example([score.reward for score in scores], failures=self.draws - len(scores), times=times)

    def _note_failure(self, record: Record) -> str:
        assert isinstance(record.result, Failure)
        name = record.result.code.value
        _note(self.failures.setdefault(name, CodeTally(name, Outcome.MALFORMED, shown=[])), record)
        return name

    def _note_code(self, record: Record) -> str:
        assert isinstance(record.result, Score)
        details = record.result.details
        key = _key(details)
        _note(self.codes.setdefault(key, CodeTally(details.code, details.outcome, shown=[])), record)
        return key


def pair_with_examples(records: Sequence[Record], examples: Sequence[Example], draws: int) -> int | None:
    """Return the index of the first record that is not (example, draw) in order, or None when all are."""
    expected = [(example.id, draw) for example in examples for draw in range(draws)]
    if len(expected) == len(records):
        pairs = zip(records, expected, strict=True)
        return next((i for i, (record, pair) in enumerate(pairs) if (record.id, record.draw) != pair), None)
    return min(len(expected), len(records))


def _key(details: Details) -> str:
    """A scorer without a vocabulary may use one word for two outcomes, so a code alone is no key."""
    return f"{details.outcome.value}:{details.code}"


def _note(tally: CodeTally, record: Record) -> None:
    tally.count += 1
    if len(tally.shown) < SHOWN_PER_CODE:
        tally.shown.append((record.id, record.draw))


def _show(tally: CodeTally, records: Sequence[Record]) -> None:
    for record in records:
        if not isinstance(record.result, Score):
            continue
        details = record.result.details
        if details.code == tally.code and details.outcome is tally.outcome:
            if (record.id, record.draw) not in tally.shown:
                tally.shown.append((record.id, record.draw))
            if len(tally.shown) == SHOWN_PER_CODE:
                return


def _reward_is_outcome(spec: ScorerSpec) -> bool:
    """Whether the scorer's own table fixes every reward to 1 for correct and 0 otherwise."""
    return bool(spec.codes) and all(code.reward == float(code.outcome is Outcome.CORRECT) for code in spec.codes)


def _bump_histogram(histogram: dict[int, dict[int, int]], scored: int, correct: int, times: int) -> None:
    row = histogram.setdefault(scored, {})
    row[correct] = row.get(correct, 0) + times


def _merge_histogram(mine: dict[int, dict[int, int]], theirs: dict[int, dict[int, int]]) -> None:
    for scored, row in theirs.items():
        for correct, count in row.items():
            own = mine.setdefault(scored, {})
            own[correct] = own.get(correct, 0) + count


def _merge_codes(mine: dict[str, CodeTally], theirs: dict[str, CodeTally]) -> None:
    for code, tally in theirs.items():
        own = mine.setdefault(code, CodeTally(tally.code, tally.outcome, shown=[]))
        own.count += tally.count
        own.squares += tally.squares
        own.products += tally.products
        own.shown.extend(tally.shown[: SHOWN_PER_CODE - len(own.shown)])
