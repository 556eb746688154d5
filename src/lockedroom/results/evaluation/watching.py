"""The pass rate of a run while it is being written, as a confidence sequence: look as often as you like.

It stands on the first draw of each example, because the draws of one example are not independent of one another.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import msgspec

from lockedroom.dataset.sealed import refuse_sealed
from lockedroom.errors import BadInput
from lockedroom.jsonl import BLOCK_BYTES, decode_line, open_for_reading
from lockedroom.records import Failure, Outcome, Score
from lockedroom.results.run_folder import CONFIG, RECORDS
from lockedroom.safeguards.manifest import NAME as MANIFEST
from lockedroom.stats.intervals import Interval
from lockedroom.stats.sequential import robbins_interval


class Seen(msgspec.Struct, frozen=True):
    """Counts so far: all attempts, and of the first draws how many were judged, passed, and could not be judged."""

    attempts: int
    scored: int
    passed: int
    failed: int

    @property
    def pass_rate(self) -> float | None:
        return self.passed / self.scored if self.scored else None


class _Line(msgspec.Struct, frozen=True, gc=False):
    """Enough of a record."""

    draw: int
    result: Score | Failure


class Stream:
    """The records of a run, read as they appear. It is a class because it remembers how far it has read."""

    def __init__(self, run: Path) -> None:
        self._path = run / RECORDS
        self._decoder = msgspec.json.Decoder(_Line)
        self._start_over()

    def read_new(self, at_most: int | None = None) -> Seen:
        """Count what was added since the last call (no more than about `at_most` bytes), and return all counts.

        A last line without its end is left for later. A file that became shorter (a resumed run cuts off an unfinished
        example) is counted anew. Raises BadInput, naming the line, when a line is not a record.
        """
        if not self._path.exists():
            return self.seen
        with open_for_reading(self._path) as file:
            if file.seek(0, 2) < self._offset:
                self._start_over()
            file.seek(self._offset)
            taken = 0
            while (at_most is None or taken < at_most) and (block := self._whole_lines(file.read(BLOCK_BYTES), file)):
                self._count(block)
                taken += len(block)
        return self.seen

    def _start_over(self) -> None:
        self._offset = self._lines = 0
        self.seen = Seen(0, 0, 0, 0)

    def _whole_lines(self, block: bytes, file: BinaryIO) -> bytes:
        """The block up to its last line end; a line longer than a block is read on to its end, if that is there."""
        while block and b"\n" not in block:
            more = file.read(BLOCK_BYTES)
            if not more:
                return b""
            block += more
        whole = block[: block.rfind(b"\n") + 1]
        file.seek(self._offset + len(whole))
        return whole

    def _count(self, block: bytes) -> None:
        attempts, scored, passed, failed = msgspec.structs.astuple(self.seen)
        for line in block.removesuffix(b"\n").split(b"\n"):
            self._lines += 1
            record = decode_line(self._path, self._lines, line, self._decoder, _Line)
            attempts += 1
            if record.draw == 0:
                is_score = isinstance(record.result, Score)
                scored += is_score
                failed += not is_score
                passed += isinstance(record.result, Score) and record.result.details.outcome is Outcome.CORRECT
        self._offset += len(block)
        self.seen = Seen(attempts, scored, passed, failed)


def watch_interval(seen: Seen, confidence: float) -> Interval:
    """The confidence sequence of the pass rate at this moment; valid at all moments at once. Raises BadInput."""
    return robbins_interval(seen.passed, seen.scored, confidence)


def is_finished(run: Path) -> bool:
    """Whether the run is closed by its manifest. Raises BadInput for a folder that is no run, Sealed for a holdout."""
    refuse_sealed(run)
    if (run / MANIFEST).is_file():
        return True
    if not (run / CONFIG).is_file():
        raise BadInput(f"{run}: not a run, finished or not (no {CONFIG}); give the folder of lockedroom evaluate --out")
    return False
