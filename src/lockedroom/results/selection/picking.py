"""From the draws of one example to the completions that a selector picks, for several numbers of draws at once.

With N draws and a selector that sees n of them, the draws make ⌊N/n⌋ groups: the first n, the next n, and so on. Each group
is a fresh trial of "draw n, choose one", and nothing is chosen after the fact. Draws left over at the end are in no group of
that n. Of a selector that ranks draws more is known: what it takes from *every* n of them (`tiers_of`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from lockedroom.errors import BadInput
from lockedroom.protocols import BatchSelector, JudgedSelector, Selector
from lockedroom.records import Completion, Example, Failure, Record, Score
from lockedroom.results.selection.selectors import (
    BY_LOGPROB,
    First,
    MajorityVote,
    Parse,
    Random,
    RejectionSampling,
    TieRule,
    Ties,
    Valued,
    most_voted,
    passed,
    ranks_within,
)
from lockedroom.stats.intervals import Interval
from lockedroom.stats.pass_at_k import UnequalDraws
from lockedroom.visible import visible
from lockedroom.wording import counted

AnySelector: TypeAlias = Selector | JudgedSelector | BatchSelector
Tiers: TypeAlias = Sequence[Sequence[int]]


class AuditedErrors(msgspec.Struct, frozen=True):
    """A verifier's error rates as an audit counted them, with their Clopper-Pearson intervals; `audit` is its manifest's sha256."""

    audit: str
    false_positive_rate: float
    false_positive_interval: Interval
    false_negative_rate: float
    false_negative_interval: Interval


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What decides the numbers of a selection. `ns` ascends; the run's own records are those at the last.

    `parse` names the built-in scorer that reads answers; `verifier_errors` are (false positive, false negative) rates, given
    by a person, `verifier_audit` those that an audit counted.
    """

    selector: str
    ns: tuple[int, ...]
    parse: str
    seed: int = 0
    beta: float = 0.1
    confidence: float = 0.95
    unequal: UnequalDraws = "refuse"
    resamples: int = 2000
    verifier_errors: tuple[float, float] | None = None
    verifier_audit: AuditedErrors | None = None
    tie_break: TieRule = "logprob"

    @property
    def ties(self) -> Ties:
        return Ties(self.tie_break, self.seed)


class Asked(msgspec.Struct, frozen=True, gc=False):
    """All that a selector may know of an example; its expected answer is not here."""

    id: str
    prompt: str


class Pool(msgspec.Struct, frozen=True):
    """The draws of one example. `told` is what a judged selector is told: the records' results, or a proxy's.

    `held` are the draws that have a completion, and `order` is each one's place in the tie-break among them.
    """

    example: Example
    records: Sequence[Record]
    told: Sequence[Score | Failure]
    held: Sequence[int]
    order: Sequence[int]

    def completions(self) -> list[Completion]:
        """Return the completions of the draws that have one."""
        return [record.completion for record in self.records if record.completion is not None]

    def answers(self, parse: Parse) -> list[str | None]:
        """Return what is parsed from each draw; None also where there is no completion."""
        texts = [None if record.completion is None else record.completion.text for record in self.records]
        parsed: dict[str | None, str | None] = {text: None if text is None else parse(text) for text in set(texts)}
        return [parsed[text] for text in texts]

    def shown(self, start: int, stop: int) -> Sequence[int]:
        """Return the draws of a group that have a completion."""
        if len(self.held) == len(self.records):
            return range(start, stop)
        return [i for i in self.held if start <= i < stop]


def make_pool(
    example: Example, records: Sequence[Record], told: Sequence[Score | Failure], ties: Ties = BY_LOGPROB
) -> Pool:
    """Return the pool of an example's draws with their tie-break order."""
    held = [i for i, record in enumerate(records) if record.completion is not None]
    completions = [record.completion for record in records if record.completion is not None]
    order = [0] * len(records)
    for i, place in zip(held, ties.places(example.id, completions), strict=True):
        order[i] = place
    return Pool(example, records, told, held, order)


class Picks(msgspec.Struct, frozen=True):
    """A line of `choices.jsonl`: for each n of the plan, the draw picked from each group."""

    id: str
    picks: list[list[int]]


def groups_of(draws: int, n: int) -> range:
    """Return where each group of n draws begins."""
    return range(0, draws - n + 1, n)


def tiers_of(selector: AnySelector | None, pool: Pool, places: Sequence[int] | None) -> Tiers | None:
    """Return the draws that are alike to a selector, the best first: of any n draws it takes one of the best tier there.

    None for a selector of which that cannot be said. places: from `places_of`. Draws without a completion come last.
    """
    if places is not None:
        return [(i,) for i in sorted(range(len(places)), key=places.__getitem__)]
    missing = [] if len(pool.held) == len(pool.records) else [i for i in range(len(pool.records)) if i not in pool.held]
    kind: type[object] = type(selector)
    if kind in (First, Random):
        return [pool.held, missing]
    if kind is RejectionSampling:
        passing = [i for i in pool.held if passed(pool.told[i])]
        return [passing, [i for i in pool.held if i not in passing], missing]
    return None


def pick(selector: AnySelector, pool: Pool, ns: Sequence[int], places: Sequence[int] | None = None) -> Picks:
    """Return the draw picked from every group. A draw without a completion is not shown to the selector.

    places: from `places_of`, where they are known already.

    Where a group holds no completion at all, its first draw stands for it, so that the failure is counted. Raises BadInput
    for what a person's own selector does wrong.
    """
    places = places_of(selector, pool) if places is None else places
    if places is not None:
        return Picks(pool.example.id, [first_of_groups(places, n) for n in ns])
    groups = [[pool.shown(start, start + n) for start in groups_of(len(pool.records), n)] for n in ns if n > 1]
    picked = iter(_pick_each(selector, pool, [here for row in groups for here in row if here]))
    rows = iter(groups)
    picks: list[list[int]] = []
    for n in ns:
        starts = groups_of(len(pool.records), n)
        if n == 1:
            picks.append(list(starts))
            continue
        picks.append([next(picked) if here else start for here, start in zip(next(rows), starts, strict=True)])
    return Picks(pool.example.id, picks)


def first_of_groups(places: Sequence[int], n: int) -> list[int]:
    """Return the draw with the least place in every group of n; no two places are alike."""
    if n == 1:
        return list(range(len(places)))
    if n == 2:  # by far the most groups
        return [i if one < other else i + 1 for i, one, other in zip(range(0, len(places) - 1, 2), places[::2], places[1::2], strict=False)]  # fmt: skip
    groups = ((start, places[start : start + n]) for start in groups_of(len(places), n))
    return [start + group.index(min(group)) for start, group in groups]


def vote_places(answers: Sequence[str | None], pool: Pool) -> list[int]:
    """Return places that decide every vote between two: what parses first, then by the tie-break, what is missing last."""
    draws = len(answers)
    places = [place if answer is not None else place + draws for answer, place in zip(answers, pool.order, strict=True)]
    return places if len(pool.held) == draws else _missing_last(places, pool)


def places_of(selector: AnySelector, pool: Pool) -> list[int] | None:
    """Return the place of every draw for a selector that has one order for all groups: values are taken once."""
    if not isinstance(selector, Valued):
        return None
    held, completions = pool.held, pool.completions()
    results = [pool.told[i] for i in held] if isinstance(selector, JudgedSelector) else ()
    values = selector.values(Asked(pool.example.id, pool.example.prompt), completions, results)
    ranked = ranks_within(values, [pool.order[i] for i in held])
    if len(held) == len(pool.records):
        return ranked
    places = [0] * len(pool.records)
    for i, place in zip(held, ranked, strict=True):
        places[i] = place
    return _missing_last(places, pool)


def _missing_last(places: list[int], pool: Pool) -> list[int]:
    held = set(pool.held)
    return [place if i in held else 2 * len(places) + i for i, place in enumerate(places)]


def _pick_each(selector: AnySelector, pool: Pool, groups: Sequence[Sequence[int]]) -> list[int]:
    """Return the draw picked from each group; answers are parsed once for all groups."""
    asked = Asked(pool.example.id, pool.example.prompt)
    if isinstance(selector, MajorityVote):
        answers = pool.answers(selector.parse)
        return [most_voted(answers, pool.order, here) for here in groups]
    if isinstance(selector, BatchSelector):
        chosen = selector.select_batch(asked, [_completions(pool, here) for here in groups])
    else:
        chosen = [_choose(selector, asked, pool, here) for here in groups]
    return [here[position] for here, position in zip(groups, chosen, strict=True)]


def _choose(selector: Selector | JudgedSelector, asked: Asked, pool: Pool, here: Sequence[int]) -> int:
    completions = _completions(pool, here)
    if isinstance(selector, JudgedSelector):
        chosen = selector.select_judged(asked, completions, [pool.told[i] for i in here])
    else:
        chosen = selector.select(asked, completions)
    if type(chosen) is not int or not 0 <= chosen < len(completions):
        raise BadInput(
            f"selector: returned {visible(repr(chosen), 60)} for id {visible(asked.id, 60)!r} with "
            f"{counted(len(completions), 'completion')}; it must return a position from 0 to one less than their number"
        )
    return chosen


def _completions(pool: Pool, here: Sequence[int]) -> list[Completion]:
    return [pool.records[i].completion for i in here]  # type: ignore[misc]  # only those held


def check_ns(ns: Sequence[int], draws: int) -> tuple[int, ...]:
    """Return the numbers of draws to choose from; none given stands for 1, 2, 4, … and all. Raises BadInput."""
    if not ns:
        powers = [1 << i for i in range(draws.bit_length()) if 1 << i < draws]
        return (*powers, draws)
    for n in ns:
        if not 1 <= n <= draws:
            raise BadInput(f"--n {n}: every example has {counted(draws, 'draw')}; ask for 1 to {draws}, or draw more")
    if list(ns) != sorted(set(ns)):
        raise BadInput(f"--n {','.join(map(str, ns))}: give ascending numbers, each once")
    return tuple(ns)
