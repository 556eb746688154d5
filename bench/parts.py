"""What scoring recorded completions cannot leave out, part by part: `python bench/parts.py [EXAMPLES [long]]`.

Each part alone, in one process, the fastest of three rounds, start-up left out. Their sum against decoding is the least
that any order of these parts could cost, before a row is validated, joined, judged or counted.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import data
from measure import DATA

from lockedroom.dataset.load import canonical_line
from lockedroom.jsonl import encode_lines, read_batches
from lockedroom.policy.recorded import CompletionRow
from lockedroom.records import Completion, Example, Record
from lockedroom.scorer.final_int import score

ROUNDS = 3
RECORDS_A_BLOCK = 570  # what a 64 kB block of short examples holds


def main(examples: int, *, long: bool) -> None:
    files = data.long_recorded(examples) if long else data.recorded(examples)
    asked = [row for batch in read_batches(files[0], Example) for row in batch.rows]
    drawn = [row.completion for batch in read_batches(files[1], CompletionRow) for row in batch.rows]
    records = [Record(asked[i].id, 0, Completion(drawn[i]), score(asked[i], drawn[i])) for i in range(examples)]
    canonical = [canonical_line(part) for part in _cut(asked)]
    lines = [encode_lines(part) for part in _cut(records)]
    completions = [batch.raw for batch in read_batches(files[1], CompletionRow)]
    parts: dict[str, Callable[[], object]] = {
        "decode both files": lambda: [_decode(files[0], Example), _decode(files[1], CompletionRow)],
        "encode the examples canonically": lambda: [len(canonical_line(part)) for part in _cut(asked)],
        "encode the records": lambda: [len(encode_lines(part)) for part in _cut(records)],
        "sha256 of examples, completions, records": lambda: _hash(canonical, completions, lines),
        "write examples and records": lambda: _write(canonical, lines),
    }
    costs = {name: min(_seconds(part) for _ in range(ROUNDS)) for name, part in parts.items()}
    for name, seconds in {**costs, "sum": sum(costs.values())}.items():
        print(
            f"{name:42} {seconds / examples * 1e9:6.0f} ns a record  {seconds / costs['decode both files']:5.2f}× decoding"
        )


def _decode(path: Path, row_type: type[Any]) -> int:
    return sum(len(batch.rows) for batch in read_batches(path, row_type))


def _cut(rows: list[Any]) -> Iterator[list[Any]]:
    return (rows[i : i + RECORDS_A_BLOCK] for i in range(0, len(rows), RECORDS_A_BLOCK))


def _hash(*files: list[bytes]) -> None:
    for blocks in files:
        digest = hashlib.sha256()
        for block in blocks:
            digest.update(block)


def _write(*files: list[bytes]) -> None:
    for blocks in files:
        with open(DATA / "parts", "wb", buffering=0) as file:
            for block in blocks:
                file.write(block)
    (DATA / "parts").unlink()


def _seconds(part: Callable[[], object]) -> float:
    began = time.process_time()
    part()
    return time.process_time() - began


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 300_000, long="long" in sys.argv)
