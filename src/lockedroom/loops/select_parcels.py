"""Loop B on an engine: a parcel holds the lines of some examples and of their draws, its answer what the scorers say of them.

Picking and counting stay where the run is written: they are cheap beside judging.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from lockedroom.jsonl import encode_lines, line_offsets
from lockedroom.loops.attempt import judge
from lockedroom.loops.engine import Engine, ShippedScorer, rows_of, ship
from lockedroom.loops.select_opening import Judges, SelectConfig, Source
from lockedroom.protocols import Scorer
from lockedroom.records import Completion, Example, Failure, Record, Score
from lockedroom.results.picking import Result
from lockedroom.results.run_folder import EXAMPLES, RECORDS
from lockedroom.results.selectors import PROXY

# Attempts in a parcel, and how many parcels there should be for each worker if the run is small.
LONGEST_PARCEL = 8192
PARCELS_A_WORKER = 8


class _Pool(msgspec.Struct, frozen=True, array_like=True):
    """Lines of examples, lines of their draws as records, and (in answers) what a proxy says, also as lines of records."""

    examples: bytes
    records: bytes
    told: bytes | None = None


def judged_on(
    engine: Engine, config: SelectConfig, source: Source, judges: Judges
) -> Iterator[tuple[list[Example], list[Record], Sequence[Result]]]:
    """Yield examples, their records as the measuring scorer judges them, and what the selector would be told of each."""
    draws, count = source.manifest.draws, source.manifest.room.dataset.count
    size = max(1, min(LONGEST_PARCEL // draws, -(-count // (engine.workers * PARCELS_A_WORKER))))
    cuts = [*range(0, count, size), count]
    feed = _Feed(
        str(source.path.absolute()),
        tuple(line_offsets(source.path / EXAMPLES, cuts)),
        tuple(line_offsets(source.path / RECORDS, [cut * draws for cut in cuts])),
    )
    for answer in engine.map(feed, _bench(config, judges), len(cuts) - 1):
        done = msgspec.msgpack.decode(answer, type=_Pool)
        records = rows_of(done.records, Record, RECORDS)
        told = records if done.told is None else rows_of(done.told, Record, RECORDS)
        yield rows_of(done.examples, Example, EXAMPLES), records, [one.result for one in told]


def drawn(record: Record) -> Completion | Failure:
    """Return what a record's attempt drew."""
    if record.completion is not None:
        return record.completion
    assert isinstance(record.result, Failure)  # verified: a score has a completion
    return record.result


def judge_draws(
    examples: Sequence[Example], records: list[Record], measure: Scorer | None, proxy: Scorer | None
) -> tuple[list[Record], list[Result]]:
    """Return the records as `measure` judges them (None: as they stand), and what `proxy` says (None: the same)."""
    draws = len(records) // len(examples)
    asked = [example for example in examples for _ in range(draws)]
    if measure is not None:
        results = judge(measure, asked, [drawn(one) for one in records])
        records = [Record(one.id, one.draw, one.completion, result) for one, result in zip(records, results, strict=True)]
    if proxy is None:
        return records, [one.result for one in records]
    return records, [*judge(proxy, asked, [drawn(one) for one in records])]
