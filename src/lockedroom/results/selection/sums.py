"""Counting a selection in one pass over pools and picks; `selection` turns the sums into numbers.

Legend: N draws an example, n of them seen by the selector, c of N passed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from lockedroom.records import Outcome, Score
from lockedroom.results.selection.picking import Picks, Plan, Pool, first_of_groups, groups_of, vote_places
from lockedroom.results.selection.selectors import PROXY, VOTING, Parse, most_voted, passed
from lockedroom.stats.one_run import RunSums

# How many examples had so many right and so many judged groups, of how many: (right, judged, groups) -> examples.
Rates: TypeAlias = Counter[tuple[int, int, int]]


class Counts(msgspec.Struct):
    """What is summed up for one n."""

    accuracy: Rates
    ceiling: Rates
    majority: Rates
    told_rates: Rates
    told_graded: RunSums
    graded: bool = False
    groups: int = 0
    unjudged: int = 0
    stopped: int = 0
    tokens: int = 0
    tokens_stopped: int = 0

    def told(self) -> RunSums:
        """Return the rewards of what was picked: a proxy's, where one chose, else the measuring scorer's."""
        sums = as_sums(self.told_rates)
        sums.merge(self.told_graded)
        return sums


class _Seen(msgspec.Struct, frozen=True):
    """Of each draw: whether it was judged, whether it passed, what answer is parsed from it."""

    scored: bytes
    flags: bytes
    answers: Sequence[str | None]
    all_scored: bool


class SelectionSums:
    """One pass over pools and picks. It is a class because a stream needs state."""

    def __init__(self, plan: Plan, draws: int, parse: Parse) -> None:
        self.plan, self.draws, self._parse = plan, draws, parse
        self.counts = [Counts(Counter(), Counter(), Counter(), Counter(), RunSums()) for _ in plan.ns]
        self.ps: dict[str, tuple[int, int]] = {}  # (scored, passed) of each example
        self.told_passes: Counter[int] = Counter()  # how many of an example's draws the scorer that is followed passes
        self.examples = self.failed = self.texts = self.answers = self.unparsed = 0
        self.tokens_known = True
        self.proxy_failed = 0  # draws that the proxy could not judge
        self.confusion: Counter[tuple[bool, bool]] = Counter()  # (a proxy passed it, the measuring scorer passed it)
        self.rescued: list[str] = []
        self.lost: list[str] = []

    def add(self, pool: Pool, picks: Picks) -> None:
        """Count one example."""
        results = [record.result for record in pool.records]
        scored = bytes([isinstance(result, Score) for result in results])
        flags = bytes([isinstance(result, Score) and result.details.outcome is Outcome.CORRECT for result in results])
        told = flags
        if self.plan.selector.startswith(PROXY):
            told = bytes(passed(result) for result in pool.told)
            self.proxy_failed += sum(not isinstance(pool.told[i], Score) for i in pool.held)
            self.confusion.update((bool(t), bool(f)) for t, f, s in zip(told, flags, scored, strict=True) if s)
        self.told_passes[told.count(1)] += 1
        tokens = self._token_sums(pool)
        self.examples += 1
        self.failed += scored.count(0)
        self.ps[pool.example.id] = (scored.count(1), flags.count(1))
        answers = pool.answers(self._parse)
        self._count_diversity(pool, answers)
        for counts, n, row in zip(self.counts, self.plan.ns, picks.picks, strict=True):
            counts.groups = self.draws // n
            self._count_costs(counts, n, told, tokens)
            self._count_groups(counts, n, row, pool, _Seen(scored, flags, answers, 0 not in scored))
        self._note_change(pool, picks, flags, scored)

    def _count_costs(self, counts: Counts, n: int, told: bytes, tokens: list[int] | None) -> None:
        """Count draws and tokens until the first pass of each group, or all n."""
        if n == 1:
            counts.stopped += self.draws
            counts.tokens += 0 if tokens is None else tokens[-1]
            counts.tokens_stopped += 0 if tokens is None else tokens[-1]
            return
        starts = groups_of(self.draws, n)
        stops = [told.find(1, start, start + n) for start in starts]
        ends = [start + n if stop < 0 else stop + 1 for stop, start in zip(stops, starts, strict=True)]
        counts.stopped += sum(ends) - sum(starts)
        if tokens is not None:
            counts.tokens += tokens[len(starts) * n]
            counts.tokens_stopped += sum(tokens[end] - tokens[start] for start, end in zip(starts, ends, strict=True))

    def _count_groups(self, counts: Counts, n: int, row: Sequence[int], pool: Pool, seen: _Seen) -> None:
        rate = _rate(row, seen)
        counts.accuracy[rate] += 1
        counts.unjudged += rate[2] - rate[1]
        rewards = [result.reward for i in row if isinstance(result := pool.told[i], Score)]
        ones = rewards.count(1.0)
        if ones + rewards.count(0.0) == len(rewards):
            counts.told_rates[ones, len(rewards), len(row)] += 1
        else:
            counts.told_graded.add_example(rewards, len(row) - len(rewards))
            counts.graded = True
        if n == 1:
            counts.ceiling[rate] += 1
            counts.majority[rate] += 1
            return
        starts = groups_of(self.draws, n)
        judged = starts if seen.all_scored else [s for s in starts if seen.scored.find(1, s, s + n) >= 0]
        right = sum(seen.flags.find(1, start, start + n) >= 0 for start in judged)
        counts.ceiling[right, len(judged), len(starts)] += 1
        voted = row
        if self.plan.selector != VOTING[0] and n == 2:
            voted = first_of_groups(vote_places(seen.answers, pool), n)
        elif self.plan.selector != VOTING[0]:
            shown = [pool.shown(start, start + n) for start in starts]
            voted = [
                most_voted(seen.answers, pool.order, here) if here else s for here, s in zip(shown, starts, strict=True)
            ]
        counts.majority[_rate(voted, seen)] += 1

    def _token_sums(self, pool: Pool) -> list[int] | None:
        """Return running totals of tokens over the draws, or None from the first completion without token ids on."""
        if not self.tokens_known:
            return None
        sums = [0]
        for record in pool.records:
            if record.completion is not None and record.completion.token_ids is None:
                self.tokens_known = False
                return None
            sums.append(sums[-1] + (0 if record.completion is None else len(record.completion.token_ids or ())))
        return sums

    def _count_diversity(self, pool: Pool, answers: Sequence[str | None]) -> None:
        self.texts += len({one.text for one in pool.completions()})
        self.answers += len(set(answers) - {None})
        self.unparsed += answers.count(None)

    def _note_change(self, pool: Pool, picks: Picks, flags: bytes, scored: bytes) -> None:
        """Compare the pick from the first group of the last n with the first draw; both have to be judged."""
        chosen = picks.picks[-1][0]
        if scored[0] and scored[chosen] and flags[0] != flags[chosen]:
            (self.rescued if flags[chosen] else self.lost).append(pool.example.id)


def as_sums(rates: Rates) -> RunSums:
    """Return the rates of groups as the sums of a run: one example each, its groups being its draws."""
    sums = RunSums()
    for (right, judged, groups), times in rates.items():
        sums.add_example([1.0] * right + [0.0] * (judged - right), failures=groups - judged, times=times)
    return sums


def _rate(row: Sequence[int], seen: _Seen) -> tuple[int, int, int]:
    judged = len(row) if seen.all_scored else sum(map(seen.scored.__getitem__, row))
    return sum(map(seen.flags.__getitem__, row)), judged, len(row)
