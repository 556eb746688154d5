"""Counting a selection in one pass over pools and picks; `selection` turns the sums into numbers.

Legend: N draws an example, n of them seen by the selector, c of N passed.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import TypeAlias

import msgspec

from lockedroom.records import Outcome, Score
from lockedroom.results.selection.picking import Picks, Plan, Pool, Tiers, groups_of, vote_places
from lockedroom.results.selection.selectors import PROXY, VOTING, Parse, most_voted, passed
from lockedroom.stats.one_run import RunSums
from lockedroom.stats.subsets import Rate, ranked_rate, tiered_rate

# How many examples had so many right and so many judged groups (or subsets), of how many: (right, judged, all) -> examples.
Rates: TypeAlias = Counter[Rate]
MOST_REMEMBERED = 100_000
MOST_SUBSETS = 70  # up to which votes are held in every subset: those of 4 of 8 draws


class Counts(msgspec.Struct):
    """What is summed up for one n. `picked` counts groups, one pick each; the others subsets, where they can be averaged over."""

    picked: Rates
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


class _Verdicts(msgspec.Struct, frozen=True):
    """Of each draw, 0 or 1: whether it passed (or was paid), and whether it was judged; no `judged` stands for all of them."""

    right: bytes
    judged: bytes


# The verdicts in the order of a rank, the best first; or how many draws, right ones and judged ones each tier holds.
_Layers: TypeAlias = _Verdicts | tuple[tuple[int, int, int], ...]


class _Seen(msgspec.Struct, frozen=True):
    """An example: its draws, their verdicts, what answer is parsed from each, and how its selector ranks them, if it does.

    told: what the selector was told, as verdicts of 0 and 1, None where rewards are graded.
    """

    pool: Pool
    verdicts: _Verdicts
    told: _Verdicts | None
    answers: Sequence[str | None]
    tiers: Tiers | None
    layers: _Layers | None
    told_layers: _Layers | None


def _seen(pool: Pool, verdicts: _Verdicts, answers: Sequence[str | None], tiers: Tiers | None) -> _Seen:
    rewards = [one.reward if isinstance(one, Score) else None for one in pool.told]
    told = None
    missing = rewards.count(None)
    if rewards.count(1.0) + rewards.count(0.0) + missing == len(rewards):
        judged = bytes([reward is not None for reward in rewards]) if missing else b""
        told = _Verdicts(bytes([reward == 1.0 for reward in rewards]), judged)
        told = verdicts if told == verdicts else told
    layers = None if tiers is None else _layers(tiers, verdicts)
    told_layers = layers if told is verdicts or told is None or tiers is None else _layers(tiers, told)
    return _Seen(pool, verdicts, told, answers, tiers, layers, told_layers)


class SelectionSums:
    """One pass over pools and picks. It is a class because a stream needs state."""

    def __init__(self, plan: Plan, draws: int, parse: Parse) -> None:
        self.plan, self.draws, self._parse = plan, draws, parse
        self.counts = [Counts(Counter(), Counter(), Counter(), Counter(), Counter(), RunSums()) for _ in plan.ns]
        self.ps: dict[str, tuple[int, int]] = {}  # (scored, passed) of each example
        self.told_passes: Counter[int] = Counter()  # how many of an example's draws the scorer that is followed passes
        self.examples = self.failed = self.texts = self.answers = self.unparsed = 0
        self.tokens_known = True
        self.proxy_failed = 0  # draws that the proxy could not judge
        self.confusion: Counter[tuple[bool, bool]] = Counter()  # (a proxy passed it, the measuring scorer passed it)
        self.rescued: list[str] = []
        self.lost: list[str] = []
        self._votes: dict[tuple[bytes, bytes, bytes, int], Rate] = {}

    def add(self, pool: Pool, picks: Picks, tiers: Tiers | None = None) -> None:
        """Count one example. tiers: the draws as its selector ranks them, if it does; its accuracy is then over all subsets."""
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
        seen = _seen(pool, _Verdicts(flags, b"" if 0 not in scored else scored), answers, tiers)
        for counts, n, row in zip(self.counts, self.plan.ns, picks.picks, strict=True):
            counts.groups = self.draws // n
            self._count_costs(counts, n, told, tokens)
            self._count_told(counts, n, row, seen, self._count_accuracy(counts, n, row, seen))
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

    def _count_accuracy(self, counts: Counts, n: int, row: Sequence[int], seen: _Seen) -> Rate:
        picked = _rate(row, seen.verdicts)
        counts.picked[picked] += 1
        counts.unjudged += int(picked[2] - picked[1])
        voting = self.plan.selector == VOTING[0]
        votes = picked if n == 1 or (voting and n == self.draws) else self._vote_rate(n, seen)
        accuracy = picked
        if n not in (1, self.draws):  # else every subset is a group
            accuracy = votes if voting else picked if seen.layers is None else _over(seen.layers, n)
        counts.accuracy[accuracy] += 1
        counts.majority[votes] += 1
        passed, judged = seen.verdicts.right.count(1), (seen.verdicts.judged or b"\1" * self.draws).count(1)
        layers = ((passed, passed, passed), (judged - passed, 0, judged - passed), (self.draws - judged, 0, 0))
        counts.ceiling[tiered_rate(layers, n)] += 1
        return accuracy

    def _count_told(self, counts: Counts, n: int, row: Sequence[int], seen: _Seen, accuracy: Rate) -> None:
        subsets = n not in (1, self.draws)
        if seen.told is seen.verdicts:
            counts.told_rates[accuracy] += 1
        elif seen.told is not None:
            layers = seen.told_layers if subsets else None
            counts.told_rates[_rate(row, seen.told) if layers is None else _over(layers, n)] += 1
        else:
            counts.graded = True
            rewards = [one.reward if isinstance(one, Score) else None for one in seen.pool.told]
            tiers = seen.tiers if subsets else None
            mean = _mean_over([(i,) for i in row], 1, rewards) if tiers is None else _mean_over(tiers, n, rewards)
            counts.told_graded.add_example([] if mean is None else [mean], int(mean is None))

    def _vote_rate(self, n: int, seen: _Seen) -> Rate:
        """Return the rate of a majority vote: over all subsets where a vote is a rank or subsets are few, else over groups."""
        pool = seen.pool
        if n == 2:  # a vote of two is won by the one that parses, then by the tie-break
            return _over(_in_order(vote_places(seen.answers, pool), seen.verdicts), n)
        if n < self.draws and math.comb(self.draws, n) <= MOST_SUBSETS and len(pool.held) == self.draws:
            return self._votes_of_subsets(n, seen)
        starts = groups_of(self.draws, n)
        shown = [pool.shown(start, start + n) for start in starts]
        voted = [
            most_voted(seen.answers, pool.order, here) if here else start
            for here, start in zip(shown, starts, strict=True)
        ]
        return _rate(voted, seen.verdicts)

    def _votes_of_subsets(self, n: int, seen: _Seen) -> Rate:
        """Hold the vote in every subset; examples whose draws vote alike, in the order of the tie-break, are counted once."""
        ranked = sorted(range(self.draws), key=seen.pool.order.__getitem__)
        names: dict[str | None, int] = {None: 0}
        ballots = bytes(names.setdefault(seen.answers[i], len(names)) for i in ranked)
        verdicts = _Verdicts(_of(seen.verdicts.right, ranked), _of(seen.verdicts.judged, ranked))
        key = (verdicts.right, verdicts.judged, ballots, n)
        found = self._votes.get(key)
        if found is None:
            answers = [str(ballot) if ballot else None for ballot in ballots]
            places = range(self.draws)
            chosen = [most_voted(answers, places, here) for here in itertools.combinations(places, n)]
            found = _rate(chosen, verdicts)
            if len(self._votes) < MOST_REMEMBERED:
                self._votes[key] = found
        return found

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
    """Return rates as the sums of a run, with one value of each example."""
    sums = RunSums()
    for (right, judged, _), times in rates.items():
        values = [float(Fraction(right) / Fraction(judged))] if judged else []
        sums.add_example(values, failures=int(not judged), times=times)
    return sums


def group_sums(rates: Rates) -> RunSums:
    """Return the rates of groups as the sums of a run: one example each, its groups being its draws."""
    sums = RunSums()
    for (right, judged, groups), times in rates.items():
        values = [1.0] * int(right) + [0.0] * int(judged - right)
        sums.add_example(values, failures=groups - len(values), times=times)
    return sums


def share_right(rates: Rates, examples: int, *, unjudged: bool) -> float:
    """Return the mean share of right picks, those that could not be judged counted as right or not; of all examples."""
    shares = (Fraction(right + (every - judged if unjudged else 0), every) * times
              for (right, judged, every), times in rates.items())  # fmt: skip
    return float(sum(shares, Fraction(0)) / examples)


def _rate(row: Sequence[int], verdicts: _Verdicts) -> Rate:
    judged = sum(map(verdicts.judged.__getitem__, row)) if verdicts.judged else len(row)
    return sum(map(verdicts.right.__getitem__, row)), judged, len(row)


def _layers(tiers: Tiers, verdicts: _Verdicts) -> _Layers:
    right, judged = verdicts.right, verdicts.judged
    if len(tiers) == len(right) and all(len(tier) == 1 for tier in tiers):
        order = [i for (i,) in tiers]
        return _Verdicts(_of(right, order), _of(judged, order))
    return tuple(
        (len(tier), sum(map(right.__getitem__, tier)), sum(map(judged.__getitem__, tier)) if judged else len(tier))
        for tier in tiers
    )


def _in_order(places: Sequence[int], verdicts: _Verdicts) -> _Verdicts:
    order = sorted(range(len(places)), key=places.__getitem__)
    return _Verdicts(_of(verdicts.right, order), _of(verdicts.judged, order))


def _over(layers: _Layers, n: int) -> Rate:
    """Return the rate over all subsets."""
    return ranked_rate(layers.right, layers.judged, n) if isinstance(layers, _Verdicts) else tiered_rate(layers, n)


def _of(bits: bytes, order: Sequence[int]) -> bytes:
    return bytes(map(bits.__getitem__, order)) if bits else bits


def _mean_over(tiers: Tiers, n: int, rewards: Sequence[float | None]) -> float | None:
    """Return the mean reward of the pick over all subsets in which it was judged; None where it never was."""
    left = len(rewards)
    total, weights = [], []
    for tier in tiers:
        if not tier:
            continue
        share = Fraction(math.comb(left, n) - math.comb(left - len(tier), n), len(tier))
        left -= len(tier)
        judged = [reward for i in tier if (reward := rewards[i]) is not None]
        weights.append(share * len(judged))
        total.append(share * sum(map(Fraction, judged), Fraction(0)))
    weight = sum(weights, Fraction(0))
    return float(sum(total, Fraction(0)) / weight) if weight else None
