"""Rejection sampling that really stops: every draw that was made, and the numbers that follow from them.

`attempts.jsonl` holds the draws of each example, 0, 1, 2, … up to the first that passed or the budget, judged;
`adaptive.json` is derived from it. `records.jsonl` holds the last draw of each example, which is the one kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from lockedroom.errors import BadInput
from lockedroom.jsonl import encode_lines, read_batches
from lockedroom.records import Example, Record, Score
from lockedroom.results.run_folder import EXAMPLES, RECORDS, indented_json
from lockedroom.results.selection.selectors import passed
from lockedroom.safeguards.manifest import Manifest
from lockedroom.scorer.builtin import BuiltinScorer
from lockedroom.stats.intervals import Interval
from lockedroom.stats.one_run import RunSums, estimate_run
from lockedroom.wording import counted

FORMAT = "lockedroom.adaptive/1"
ADAPTIVE_JSON, ATTEMPTS = "adaptive.json", "attempts.jsonl"
KIND = "adaptive"


class Adaptive(msgspec.Struct, frozen=True, kw_only=True):
    """What stopping at the first pass cost. `budget` is the most draws an example may have.

    `stopped_at[d]` examples passed at draw d (from 0); `unsolved` spent the whole budget. `saved` draws were never made, so
    never paid for. `draws` and `tokens` are totals; `tokens` is None where a completion has no token ids.
    """

    format: str
    examples: int
    budget: int
    draws: int
    saved: int
    failed: int
    draws_each: float
    draws_interval: Interval | None
    tokens: int | None
    tokens_per_solved: float | None
    solved: int
    unsolved: int
    stopped_at: list[int]


class AdaptiveSums:
    """One pass over the draws of examples; a class because a stream needs state."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.examples = self.draws = self.failed = self.unsolved = 0
        self.tokens: int | None = 0
        self.stopped_at = [0] * budget
        self.each = RunSums()

    def add(self, made: list[Record]) -> None:
        """Count one example's draws."""
        self.examples += 1
        self.draws += len(made)
        self.each.add_example([float(len(made))], 0)
        self.failed += sum(not isinstance(one.result, Score) for one in made)
        if passed(made[-1].result):
            self.stopped_at[len(made) - 1] += 1
        else:
            self.unsolved += 1
        for one in made:
            if one.completion is not None and self.tokens is not None:
                ids = one.completion.token_ids
                self.tokens = None if ids is None else self.tokens + len(ids)

    def finish(self, confidence: float) -> Adaptive:
        """Return the numbers; the interval of the mean number of draws is clustered by example."""
        solved = sum(self.stopped_at)
        found = estimate_run(self.each, confidence, reward_range=None)
        return Adaptive(
            format=FORMAT,
            examples=self.examples,
            budget=self.budget,
            draws=self.draws,
            saved=self.examples * self.budget - self.draws,
            failed=self.failed,
            draws_each=self.draws / self.examples,
            draws_interval=None if found is None else found.interval,
            tokens=self.tokens,
            tokens_per_solved=self.tokens / solved if self.tokens is not None and solved else None,
            solved=solved,
            unsolved=self.unsolved,
            stopped_at=self.stopped_at,
        )


def by_example(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Yield the draws of one example after the other."""
    for _, group in itertools.groupby(records, key=lambda one: one.id):
        yield list(group)


def read_attempts(run: Path, *, stop: int | None = None) -> Iterator[Record]:
    for batch in read_batches(run / ATTEMPTS, Record, stop=stop):
        if encode_lines(batch.rows) != batch.raw:
            raise BadInput(f"{ATTEMPTS}:{batch.first_line}: from here on, a line is not as lockedroom writes it")
        yield from batch.rows


def check_adaptive(run: Path, manifest: Manifest, scorer: BuiltinScorer | None) -> list[str]:
    """Return what does not hold of a run that stopped drawing at first passes; empty for a run of another kind."""
    if manifest.kind != KIND:
        return []
    missing = [name for name in (ATTEMPTS, ADAPTIVE_JSON) if name not in manifest.files]
    if missing:
        return [f"the manifest does not list {name}" for name in missing]
    saved = msgspec.json.decode((run / ADAPTIVE_JSON).read_bytes(), type=_Declared)
    if saved.budget != manifest.selection.get("n") or not saved.budget >= 1:
        return [f"{ADAPTIVE_JSON}: its budget is not the one that the manifest declares"]
    confidence = msgspec.json.decode((run / "summary.json").read_bytes(), type=_Confidence).confidence
    sums = AdaptiveSums(saved.budget)
    examples = (example for batch in read_batches(run / EXAMPLES, Example) for example in batch.rows)
    kept = (record for batch in read_batches(run / RECORDS, Record) for record in batch.rows)
    for made, example, record in itertools.zip_longest(by_example(read_attempts(run)), examples, kept):
        if made is None or example is None or record is None or made[0].id != example.id:
            return [f"{ATTEMPTS}: does not hold the draws of every example, in order"]
        trouble = _check_example(made, example, record, saved.budget, scorer)
        if trouble:
            return [f"{ATTEMPTS}: id {example.id!r}: {trouble}"]
        sums.add(made)
    if not sums.examples or indented_json(sums.finish(confidence)) != (run / ADAPTIVE_JSON).read_bytes():
        return [f"{ADAPTIVE_JSON}: its numbers are not those that {ATTEMPTS} gives"]
    return []


def _check_example(
    made: list[Record], example: Example, kept: Record, budget: int, scorer: BuiltinScorer | None
) -> str:
    if [one.draw for one in made] != list(range(len(made))) or len(made) > budget:
        return "its draws are not numbered from 0 without a gap, up to the budget"
    if any(passed(one.result) for one in made[:-1]) or (len(made) < budget and not passed(made[-1].result)):
        return "drawing did not stop at the first pass or at the budget"
    if kept != Record(example.id, 0, made[-1].completion, made[-1].result):
        return f"the last draw is not the one in {RECORDS}"
    for one in made:
        if (
            scorer is not None
            and one.completion is not None
            and scorer.score(example, one.completion.text) != one.result
        ):
            return f"draw {one.draw}: {scorer.spec.name} judges it otherwise"
    return ""


class _Declared(msgspec.Struct):
    budget: int


class _Confidence(msgspec.Struct):
    confidence: float


def render_adaptive(found: Adaptive, confidence: float) -> str:
    """Return what stopping at the first pass reached and cost, as text."""
    interval = found.draws_interval
    around = "" if interval is None else f"   {confidence:.0%} interval [{interval.low:.3f}, {interval.high:.3f}]"
    full = found.examples * found.budget
    lines = [
        f"solved       {found.solved:,} of {counted(found.examples, 'example')} ({found.solved / found.examples:.4f})",
        f"draws        {found.draws:,} of {full:,}: {found.saved:,} ({found.saved / full:.1%}) were never made",
        f"an example   {found.draws_each:.3f} draws{around}",
    ]
    if found.tokens is not None:
        each = "" if found.tokens_per_solved is None else f", {found.tokens_per_solved:.1f} a solved example"
        lines.append(f"tokens       {found.tokens:,}, {found.tokens / found.examples:.2f} an example{each}")
    if found.failed:
        lines.append(f"failures     {counted(found.failed, 'draw')} could not be judged: drawing went on after them")
    return "\n".join(lines) + "\n"
