"""The files of a selection run: the pool it chose from, its choices, and how both are read back, example by example.

`pool.jsonl` holds every draw as records, judged by the measuring scorer; `choices.jsonl` the picks; `proxy.jsonl`, for a
proxy, what that scorer said (records without completions); `answers.jsonl` what a person's own scorer read from each draw,
where that decides votes. Draws made to confirm a choice stand in `confirm-pool.jsonl`
and so on. `records.jsonl` holds what was chosen, one record an example.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from lockedroom.errors import BadInput
from lockedroom.jsonl import read_batches
from lockedroom.records import Example, Record
from lockedroom.results.evaluation.exact import EXACT_JSONL, ExactExample
from lockedroom.results.run_folder import EXAMPLES
from lockedroom.results.selection.picking import Picks, Pool, make_pool
from lockedroom.results.selection.selectors import Ties

SELECTION_JSON, SELECTION_MD = "selection.json", "selection.md"
POOL, PROXY_RESULTS, CHOICES, ANSWERS = "pool.jsonl", "proxy.jsonl", "choices.jsonl", "answers.jsonl"
CONFIRM = "confirm-"


class Answers(msgspec.Struct, frozen=True):
    """A line of `answers.jsonl`: the answer read from each draw, null where there is none."""

    id: str
    answers: list[str | None]


def read_answers(run: Path, prefix: str = "") -> Iterator[Answers]:
    """Yield the lines of `answers.jsonl`, in order."""
    for batch in read_batches(run / f"{prefix}{ANSWERS}", Answers):
        yield from batch.rows


def read_pools(run: Path, draws: int, ties: Ties, *, prefix: str = "", proxy: bool) -> Iterator[Pool]:
    """Yield the pool of every example, in order. Raises BadInput at the first record that is not the one expected there."""
    records = _records(run / f"{prefix}{POOL}")
    told = _records(run / f"{prefix}{PROXY_RESULTS}") if proxy else iter(())
    for batch in read_batches(run / EXAMPLES, Example):
        for example in batch.rows:
            own = _take(records, example, draws, f"{prefix}{POOL}")
            results = [one.result for one in _take(told, example, draws, f"{prefix}{PROXY_RESULTS}")] if proxy else None
            yield make_pool(example, own, [record.result for record in own] if results is None else results, ties)
    for rest, name in ((records, POOL), (told, PROXY_RESULTS)):
        if next(rest, None) is not None:
            raise BadInput(f"{prefix}{name}: holds more records than examples × draws")


def read_choices(run: Path, prefix: str = "") -> Iterator[Picks]:
    """Yield the lines of `choices.jsonl`, in order."""
    for batch in read_batches(run / f"{prefix}{CHOICES}", Picks):
        yield from batch.rows


def read_exact(run: Path) -> Mapping[str, float]:
    """Return the exact pass probability of every example, from the copy that the run keeps."""
    return {row.id: row.accepted for batch in read_batches(run / EXACT_JSONL, ExactExample) for row in batch.rows}


def _records(path: Path) -> Iterator[Record]:
    for batch in read_batches(path, Record):
        yield from batch.rows


def _take(records: Iterator[Record], example: Example, draws: int, name: str) -> list[Record]:
    taken = list(itertools.islice(records, draws))
    if len(taken) != draws or any(one.id != example.id or one.draw != draw for draw, one in enumerate(taken)):
        raise BadInput(f"{name}: does not hold draws 0 to {draws - 1} of id {example.id!r} where they should stand")
    return taken
