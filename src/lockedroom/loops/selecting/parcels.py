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
from lockedroom.loops.opening.engine import Engine, ShippedScorer, rows_of, ship
from lockedroom.loops.selecting.opening import Judges, SelectConfig, Source
from lockedroom.protocols import Scorer
from lockedroom.records import Completion, Example, Failure, Record, Score
from lockedroom.results.run_folder import EXAMPLES, RECORDS
from lockedroom.results.selection.selectors import PROXY
from lockedroom.safeguards.room import ScorerIdentity

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
) -> Iterator[tuple[list[Example], list[Record], Sequence[Score | Failure]]]:
    """Yield examples, their records as the measuring scorer judges them, and what the selector would be told of each."""
    draws, count = source.manifest.draws, source.manifest.room.dataset.examples
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
) -> tuple[list[Record], list[Score | Failure]]:
    """Return the records as `measure` judges them (None: as they stand), and what `proxy` says (None: the same)."""
    draws = len(records) // len(examples)
    asked = [example for example in examples for _ in range(draws)]
    if measure is not None:
        results = judge(measure, asked, [drawn(one) for one in records])
        records = [
            Record(one.id, one.draw, one.completion, result) for one, result in zip(records, results, strict=True)
        ]
    if proxy is None:
        return records, [one.result for one in records]
    return records, [*judge(proxy, asked, [drawn(one) for one in records])]


class _Feed(msgspec.Struct, frozen=True):
    """Reads the lines of parcel `i` of a finished run: from cut `i` to the next, in bytes."""

    run: str
    example_cuts: tuple[int, ...]
    record_cuts: tuple[int, ...]

    def open(self) -> Callable[[int], bytes]:
        return self._read

    def _read(self, parcel: int) -> bytes:
        examples = _between(Path(self.run) / EXAMPLES, *self.example_cuts[parcel : parcel + 2])
        records = _between(Path(self.run) / RECORDS, *self.record_cuts[parcel : parcel + 2])
        return msgspec.msgpack.encode(_Pool(examples, records))


def _between(path: Path, start: int, stop: int) -> bytes:
    with open(path, "rb") as file:
        return os.pread(file.fileno(), stop - start, start)


class _Bench(msgspec.Struct, frozen=True):
    """Judges draws anew, for the scorer that measures, for a proxy, or for both."""

    measure: ShippedScorer | None
    proxy: ShippedScorer | None

    @contextlib.contextmanager
    def open(self) -> Iterator[Callable[[bytes], bytes]]:
        with contextlib.ExitStack() as stack:
            measure = None if self.measure is None else stack.enter_context(self.measure.open())
            proxy = None if self.proxy is None else stack.enter_context(self.proxy.open())
            yield functools.partial(_work, measure, proxy)


def _work(measure: Scorer | None, proxy: Scorer | None, encoded: bytes) -> bytes:
    pool = msgspec.msgpack.decode(encoded, type=_Pool)
    examples, records = rows_of(pool.examples, Example, EXAMPLES), rows_of(pool.records, Record, RECORDS)
    judged, told = judge_draws(examples, records, measure, proxy)
    said = None
    if proxy is not None:
        said = encode_lines([Record(one.id, one.draw, None, result) for one, result in zip(judged, told, strict=True)])
    return msgspec.msgpack.encode(_Pool(pool.examples, pool.records if measure is None else encode_lines(judged), said))


def _bench(config: SelectConfig, judges: Judges) -> _Bench:
    measure = proxy = None
    if judges.measure is not None:
        assert config.measure is not None
        measure = _ship(config, judges.measure, config.measure, judges.measured_by)
    if judges.proxy is not None:
        assert judges.proxy_identity is not None
        proxy = _ship(config, judges.proxy, config.selector.removeprefix(PROXY), judges.proxy_identity)
    return _Bench(measure, proxy)


def _ship(config: SelectConfig, scorer: Scorer, name: str, identity: ScorerIdentity) -> ShippedScorer:
    return ship(scorer, name, identity, timeout_s=config.scorer_timeout, memory_mb=config.scorer_memory)
