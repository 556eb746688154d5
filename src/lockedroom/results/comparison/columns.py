"""A verified run's verdicts as arrays, and the few records that are shown. Read in one pass, completions not kept.

Legend: E examples, in the dataset's order; K draws an example.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from lockedroom.errors import Tampered
from lockedroom.jsonl import decode_line, line_offsets, open_for_reading, read_batches
from lockedroom.records import Outcome, Record, Score
from lockedroom.results.run_folder import RECORDS
from lockedroom.safeguards.manifest import Manifest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")

FAILURE = "failure"


class Columns(msgspec.Struct, frozen=True):
    """`scored`, `passed`, `rewards` and `codes` are E×K; `rewards` and `passed` mean something only where `scored`.

    `codes` are positions in `code_names`, whose entries are (code, outcome), the outcome of a failure being "failure".
    """

    ids: list[str]
    draws: int
    scored: NDArray[np.bool_]
    passed: NDArray[np.bool_]
    rewards: NDArray[np.float64]
    codes: NDArray[np.int32]
    code_names: list[tuple[str, str]]

    def values(self, metric: str) -> NDArray[np.float64]:
        """E×K values of `pass` (1.0 for the outcome correct) or `reward`."""
        return self.passed.astype(float) if metric == "pass" else self.rewards

    def means(self, metric: str) -> NDArray[np.float64]:
        """The mean over the scored draws of each example; 0 where there is none (such an example has to be left out)."""
        import numpy as np

        sums: NDArray[np.float64] = np.where(self.scored, self.values(metric), 0.0).sum(axis=1)
        means: NDArray[np.float64] = sums / np.maximum(self.scored.sum(axis=1), 1)
        return means

    def names(self) -> list[str]:
        """Return one name per code; a code that came with several outcomes is told apart by them."""
        words = [code for code, _ in self.code_names]
        return [code if words.count(code) == 1 else f"{code} ({outcome})" for code, outcome in self.code_names]


def read_columns(run: Path, manifest: Manifest) -> Columns:
    """Read the records of a verified run. Raises Tampered when they are not the bytes that the manifest names."""
    import numpy as np

    ids: list[str] = []
    rewards, codes, kinds = array("d"), array("i"), array("b")  # kinds: 0 failure, 1 scored, 2 passed
    numbers: dict[tuple[str, str], int] = {}
    digest = hashlib.sha256()
    for batch in read_batches(run / RECORDS, Record):
        digest.update(batch.raw)
        for record in batch.rows:
            result = record.result
            if record.draw == 0:
                ids.append(record.id)
            if type(result) is Score:
                outcome = result.details.outcome
                key = (result.details.code, outcome.value)
                rewards.append(result.reward)
                kinds.append(2 if outcome is Outcome.CORRECT else 1)
            else:
                key = (result.code.value, FAILURE)  # type: ignore[union-attr]  # the other half of the union, by type
                rewards.append(0.0)
                kinds.append(0)
            codes.append(numbers.setdefault(key, len(numbers)))
    if digest.hexdigest() != manifest.files[RECORDS].sha256:
        raise Tampered(f"{run / RECORDS}: changed while it was being read; verify the run again")
    shape = (-1, manifest.draws)
    kinds_EK = np.frombuffer(kinds, dtype=np.int8).reshape(shape)
    return Columns(
        ids=ids,
        draws=manifest.draws,
        scored=kinds_EK > 0,
        passed=kinds_EK > 1,
        rewards=np.frombuffer(rewards, dtype=np.float64).reshape(shape),
        codes=np.frombuffer(codes, dtype=np.int32).reshape(shape),
        code_names=list(numbers),
    )


def read_rows_at(path: Path, lines: Sequence[int], row_type: type[T]) -> dict[int, T]:
    """Return the rows of some lines of a JSON Lines file, counted from 0, without decoding the others."""
    wanted = sorted(set(lines))
    decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(row_type)
    rows = {}
    with open_for_reading(path) as file:
        for line, offset in zip(wanted, line_offsets(path, wanted), strict=True):
            file.seek(offset)
            rows[line] = decode_line(path, line + 1, file.readline().rstrip(b"\n"), decoder, row_type)
    return rows
