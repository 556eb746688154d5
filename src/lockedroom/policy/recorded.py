"""A policy that was recorded earlier: completions from a file, found by example id.

Three shapes, recognised by the first line and then required of every line:
`{"id", "completion"}`, `{"id", "samples": [text or {"completion", "logprob", "ref_logprob", "finish_reason"}, …]}`, and
the `records.jsonl` of a run. While the file lists the same ids in the same order as the dataset it is read in lock step
and nothing is kept. At the first difference an index of line offsets is built (24 bytes a line).
"""

from __future__ import annotations

import hashlib
import itertools
import os
import weakref
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from lockedroom.errors import BadInput
from lockedroom.jsonl import decode_line, line_offsets, open_for_reading, read_batches
from lockedroom.policy.declared import Declared
from lockedroom.protocols import Prompt
from lockedroom.records import Completion, Failure, FailureCode, FinishReason, PolicySpec, Record, Sampling
from lockedroom.visible import visible
from lockedroom.wording import counted

Drawn: TypeAlias = Completion | Failure
MISSING = Failure(FailureCode.MISSING_COMPLETION, "the completions file holds none for this example and draw")


class Sample(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    completion: str
    logprob: float | None = None
    ref_logprob: float | None = None
    finish_reason: FinishReason | None = None


class CompletionRow(Sample, frozen=True, gc=False, forbid_unknown_fields=True, kw_only=True):
    id: str


class SamplesRow(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    id: str
    samples: list[str | Sample]


class RecordGroup(msgspec.Struct, frozen=True, gc=False):
    """The consecutive lines of a run's `records.jsonl` that belong to one example."""

    id: str
    records: list[Record]


class _SampleCount(msgspec.Struct, frozen=True, gc=False):
    """Enough of a line of samples to count them."""

    samples: list[Any]  # not Raw, which cannot hold the lone surrogate that a completion may hold


class _DrawNumber(msgspec.Struct, frozen=True, gc=False):
    """Enough of a record to tell which draw it is."""

    draw: int


class _AnyRow(msgspec.Struct, frozen=True, gc=False):
    """Enough of a line to tell which example it belongs to."""

    id: str


Row: TypeAlias = CompletionRow | SamplesRow | RecordGroup


class RecordedPolicy:
    """Completions from a file, in lock step with the dataset or by index.

    `start` is the byte offset of a line, one of `part_offsets`, for a worker that scores a part of the dataset.
    Raises BadInput for a file of no known shape.
    """

    def __init__(self, path: Path, declared: Declared, *, start: int = 0) -> None:
        self.path = path / "records.jsonl" if path.is_dir() else path
        self._row_type = recognise(self.path)
        self._declared = declared
        self._hash = hashlib.sha256()
        self._rows = self._read_rows(start)
        self._ahead: list[Row] = []
        self._taken = 0
        self._index: LineIndex | None = None
        self.spec = PolicySpec(str(declared.policy.get("model", self.path.name)), "recorded", dict(declared.policy))

    def complete(
        self,
        prompts: Sequence[Prompt],
        draws: range,
        sampling: Sampling,  # noqa: ARG002  (drawn already)
    ) -> Iterator[Drawn]:
        """Yield what was recorded for each prompt; what was not is a Failure(MISSING_COMPLETION)."""
        rows = self.rows_of([prompt.id for prompt in prompts])
        if draws == range(1) and self._row_type is CompletionRow:
            return iter([MISSING if row is None else _completion(row) for row in rows])  # type: ignore[arg-type]  # one row type a file
        full = [
            row.samples[: draws.stop] for row in rows if isinstance(row, SamplesRow) and len(row.samples) >= draws.stop
        ]
        if draws.start == 0 and len(full) == len(rows):
            return iter([Completion(s) if isinstance(s, str) else _completion(s) for samples in full for s in samples])
        return self._drawn_by(rows, draws)

    def _drawn_by(self, rows: Sequence[Row | None], draws: range) -> Iterator[Drawn]:
        for row in rows:
            drawn = self._drawn(row)
            for draw in draws:
                yield drawn.get(draw, MISSING)

    def rows_of(self, ids: list[str]) -> list[Row | None]:
        """Return the row of each id, or None; in lock step until the first difference, by index from there on."""
        if self._index is not None:
            return list(self._index.find(ids))
        while len(self._ahead) < len(ids) and (rows := next(self._rows, None)):
            self._ahead += rows
        here: list[Row | None] = [*self._ahead[: len(ids)]]
        same = len(here) if [row.id for row in self._ahead[: len(ids)]] == ids else _common_start(self._ahead, ids)
        self._taken += same
        del self._ahead[:same]
        if same == len(ids):
            return here
        self._index = LineIndex(self.path, self._row_type, claimed_groups=self._taken)
        return [*here[:same], *self._index.find(ids[same:])]

    def draws_recorded(self, enough: int | None = None) -> int:
        """Return the largest number of completions that an example has; from `enough` on, reading stops."""
        if self._row_type is CompletionRow:
            return 1
        most = 0
        for count in _counted(self.path, self._row_type):
            most = max(most, count)
            if enough is not None and most >= enough:
                break
        return most

    def leftovers(self) -> list[str]:
        """After the last example: return the ids in the file that no example asked for, in file order.

        Raises BadInput when records of one example do not stand together, so that some were not seen.
        """
        if self._index is None:
            if not self._ahead and next(self._rows, None) is None:
                return []
            self._index = LineIndex(self.path, self._row_type, claimed_groups=self._taken)
        return self._index.unclaimed()

    def part_offsets(self, examples: Sequence[int], draws: int) -> list[int]:
        """Return where a policy that begins at each of these examples should `start`, if file and dataset line up.

        In a file of records that is the last line before the example's own, so that a start in the middle of an
        example's records cannot be taken for its beginning.
        """
        if self._row_type is not Record:
            return line_offsets(self.path, examples)
        return line_offsets(self.path, [max(0, example * draws - 1) for example in examples])

    def beginning_at(self, start: int) -> RecordedPolicy:
        """Return a policy for the part of the dataset that begins there; an index that was needed once is kept."""
        return self if self._index is not None else RecordedPolicy(self.path, self._declared, start=start)

    def sha256(self) -> str:
        """Return the sha256 of the whole file (what lock step has not read yet is read now)."""
        if self._index is not None:
            return self._index.sha256
        for _ in self._rows:
            pass
        return self._hash.hexdigest()

    def _read_rows(self, start: int) -> Iterator[list[Row]]:
        batches = self._hashed(start)
        if self._row_type is not Record:
            return batches
        groups = _grouped(batches)
        return ([group] for group in (itertools.islice(groups, 1, None) if start else groups))

    def _drawn(self, row: Row | None) -> dict[int, Drawn]:
        """Return the completions of a row by draw number."""
        if row is None:
            return {}
        if isinstance(row, CompletionRow):
            return {0: _completion(row)}
        if isinstance(row, SamplesRow):
            return {i: Completion(s) if isinstance(s, str) else _completion(s) for i, s in enumerate(row.samples)}
        drawn: dict[int, Drawn] = {}
        for record in row.records:
            if record.draw in drawn:
                raise BadInput(
                    f"{self.path}: id {visible(record.id, 60)!r}, draw {record.draw}: recorded twice; "
                    "keep one line a draw"
                )
            drawn[record.draw] = _redrawn(record)
        return drawn

    def _hashed(self, start: int) -> Iterator[list[Any]]:
        for batch in read_batches(self.path, self._row_type, start=start):
            self._hash.update(batch.raw)
            yield batch.rows


class LineIndex:
    """Where the lines of each id stand: hashes of ids, sorted, with byte offsets. 24 bytes a line.

    Two ids may share a hash, so what a hash finds is always checked against the line itself.

    Raises BadInput when an id that may stand once stands on several lines.
    """

    def __init__(
        self, path: Path, row_type: type[Any], *, claimed_groups: int, hash_of: Callable[[str], int] = hash
    ) -> None:
        import numpy as np

        self._path, self._row_type, self._hash_of = path, row_type, hash_of
        self._decoder = msgspec.json.Decoder(row_type)
        hashes, offsets, self.sha256 = _scan(path, hash_of)
        self._offsets = np.frombuffer(offsets, dtype=np.int64)
        self._order = np.argsort(np.frombuffer(hashes, dtype=np.int64), kind="stable")
        self._sorted = np.frombuffer(hashes, dtype=np.int64)[self._order]
        self._claimed = np.zeros(len(hashes), dtype=bool)
        self._file = open_for_reading(path)
        weakref.finalize(self, self._file.close)
        self._claim_first(claimed_groups)
        if row_type is not Record:
            self._refuse_duplicates()

    def find(self, ids: Sequence[str]) -> Iterator[Row | None]:
        """Yield the row of each id, or None."""
        for example_id, lines in zip(ids, self._lines_of(ids), strict=True):
            self._claimed[lines] = True
            rows = [self._row_at(line) for line in lines]
            if not rows:
                yield None
            elif self._row_type is Record:
                yield RecordGroup(example_id, rows)
            else:
                yield rows[0]

    def unclaimed(self) -> list[str]:
        """Return the ids, each once, of the lines that were neither found nor used in lock step, in file order.

        Raises BadInput when such a line belongs to an example whose other records were used.
        """
        ids: dict[str, None] = {}
        for line in (~self._claimed).nonzero()[0].tolist():
            name = self._id_at(line)
            if name not in ids and self._claimed[next(self._lines_of([name]))].any():
                raise BadInput(
                    f"{self._path}:{line + 1}: id {visible(name, 60)!r} has other records that stand apart from this "
                    "one; keep all records of an id together"
                )
            ids[name] = None
        return list(ids)

    def _lines_of(self, ids: Sequence[str]) -> Iterator[list[int]]:
        import numpy as np

        wanted = np.fromiter(map(self._hash_of, ids), dtype=np.int64, count=len(ids))
        starts = np.searchsorted(self._sorted, wanted, side="left").tolist()
        stops = np.searchsorted(self._sorted, wanted, side="right").tolist()
        for example_id, start, stop in zip(ids, starts, stops, strict=True):
            yield [line for line in self._order[start:stop].tolist() if self._id_at(line) == example_id]

    def _claim_first(self, groups: int) -> None:
        """Mark the lines that lock step has used already."""
        line, seen, last = 0, 0, None
        while line < len(self._claimed):
            here = self._id_at(line) if self._row_type is Record else line
            if here != last:
                if seen == groups:
                    break
                seen, last = seen + 1, here
            self._claimed[line] = True
            line += 1

    def _refuse_duplicates(self) -> None:
        same = (self._sorted[1:] == self._sorted[:-1]).nonzero()[0]
        found: dict[str, list[int]] = {}
        for line in self._order[sorted({*same.tolist(), *(same + 1).tolist()})].tolist():
            found.setdefault(self._id_at(line), []).append(line + 1)
        lines_of = {name: lines for name, lines in found.items() if len(lines) > 1}
        if lines_of:
            shown = ", ".join(
                f"{visible(name, 60)!r} (lines {', '.join(map(str, sorted(lines)))})"
                for name, lines in sorted(lines_of.items(), key=lambda item: min(item[1]))[:5]
            )
            raise BadInput(
                f"{self._path}: {counted(len(lines_of), 'duplicate id')}: {shown}"
                f'{", …" if len(lines_of) > 5 else ""}; keep one line an id, or put several completions under "samples"'
            )

    def _raw_at(self, line: int) -> bytes:
        start = int(self._offsets[line])
        return os.pread(self._file.fileno(), int(self._offsets[line + 1]) - start, start)

    def _id_at(self, line: int) -> str:
        raw = self._raw_at(line)
        return decode_line(self._path, line + 1, raw, _ID_DECODER, _AnyRow).id

    def _row_at(self, line: int) -> Any:
        return decode_line(self._path, line + 1, self._raw_at(line), self._decoder, self._row_type)


_ID_DECODER = msgspec.json.Decoder(_AnyRow)


def recognise(path: Path) -> type[Any]:
    """Return the row type of a completions file, judged by its first line."""
    with open_for_reading(path) as file:
        first = file.readline()
    if not first:
        raise BadInput(f"{path}: the file is empty; it holds no completions")
    fields = decode_line(path, 1, first, msgspec.json.Decoder(dict[str, Any]), dict[str, Any])
    if "result" in fields and "draw" in fields:
        return Record
    if "samples" in fields:
        return SamplesRow
    if "completion" in fields:
        return CompletionRow
    raise BadInput(
        f"{path}:1: not a completions file (fields: {visible(', '.join(fields), 120)}); "
        'each line needs "id" and either "completion" or "samples", or is a line of a run\'s records.jsonl'
    )


def _common_start(rows: Sequence[Row], ids: Sequence[str]) -> int:
    """Return how many rows at the start are those of `ids`, in order."""
    pairs = enumerate(zip(rows, ids, strict=False))
    return next((i for i, (row, example_id) in pairs if row.id != example_id), min(len(rows), len(ids)))


def _completion(sample: Sample) -> Completion:
    return Completion(sample.completion, sample.logprob, sample.ref_logprob, sample.finish_reason)


def _redrawn(record: Record) -> Drawn:
    """A record's completion; or why there is none."""
    if record.completion is not None:
        return record.completion
    return record.result if isinstance(record.result, Failure) else MISSING


def _grouped(batches: Iterator[list[Record]]) -> Iterator[RecordGroup]:
    group: list[Record] = []
    for rows in batches:
        for record in rows:
            if group and record.id != group[0].id:
                yield RecordGroup(group[0].id, group)
                group = []
            group.append(record)
    if group:
        yield RecordGroup(group[0].id, group)


def _counted(path: Path, row_type: type[Any]) -> Iterator[int]:
    """Yield the largest number of completions that the lines of each block show an example to have."""
    if row_type is Record:
        yield from (max([row.draw for row in batch.rows]) + 1 for batch in read_batches(path, _DrawNumber))
    else:
        yield from (max([len(row.samples) for row in batch.rows]) for batch in read_batches(path, _SampleCount))


def _scan(path: Path, hash_of: Callable[[str], int]) -> tuple[array[int], array[int], str]:
    """Return the hash of every line's id, the offset of every line (and of the end), and the file's sha256."""
    hashes, offsets, digest = array("q"), array("q"), hashlib.sha256()
    offset = 0
    for batch in read_batches(path, _AnyRow):
        digest.update(batch.raw)
        hashes.extend([hash_of(row.id) for row in batch.rows])
        for line in _split_keeping(batch.raw):
            offsets.append(offset)
            offset += len(line)
    offsets.append(offset)
    return hashes, offsets, digest.hexdigest()


def _split_keeping(raw: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in raw.split(b"\n")]
    return lines[:-1] if lines[-1] == b"\n" else [*lines[:-1], lines[-1][:-1]]
