"""A learning run being written: its records and metrics grow, its checkpoint says how far they count."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lockedroom.dataset.load import canonical_line
from lockedroom.errors import BadInput
from lockedroom.jsonl import BLOCK_BYTES, encode_lines
from lockedroom.records import Example, Record
from lockedroom.results.checkpoint import CHECKPOINT, FORMAT, Checkpoint, read_checkpoint, write_checkpoint
from lockedroom.results.learning import (
    EVALUATION_RECORDS,
    EVALUATIONS,
    STEPS,
    TIMING,
    Evaluation,
    StepMetrics,
    StepTiming,
)
from lockedroom.results.run_folder import RECORDS, GrowingFile, RunFolder
from lockedroom.safeguards import manifest as manifests

if TYPE_CHECKING:
    from torch import Tensor

GROWING = (STEPS, EVALUATIONS, EVALUATION_RECORDS, TIMING)


class LearningFolder:
    """A run folder whose records are those of training. `step` is where an interrupted run goes on, else 0."""

    def __init__(self, path: Path, config: bytes, train: Sequence[Example], *, group: int, resume: bool) -> None:
        self.run = RunFolder(path, config, draws=group, resume=resume)
        self.path = path
        self.tensors: dict[str, Tensor] = {}
        self.ema, self.updates, self.step = 0.0, 0, 0
        try:
            self.run.examples.append(canonical_line(train), len(train))
            found = read_checkpoint(path)
            lengths = {} if found is None else found[0].lengths
            self.run.records.abandon()  # what stands behind the checkpoint is made again
            self.run.records = _grown(path / RECORDS, lengths.get(RECORDS, (0, 0)))
            self.files = {name: _grown(path / name, lengths.get(name, (0, 0))) for name in GROWING}
            if found is not None:
                header, self.tensors = found
                self.ema, self.updates, self.step = header.ema, header.updates, header.step
        except BaseException:
            self.run.abandon(remove=False)
            raise

    def add_step(self, metrics: StepMetrics, records: Sequence[Record], timing: StepTiming) -> None:
        self.run.records.append(encode_lines(records), len(records))
        self.files[STEPS].append(encode_lines([metrics]), 1)
        self.files[TIMING].append(encode_lines([timing]), 1)

    def add_evaluation(self, evaluation: Evaluation, records: Sequence[Record]) -> None:
        self.files[EVALUATION_RECORDS].append(encode_lines(records), len(records))
        self.files[EVALUATIONS].append(encode_lines([evaluation]), 1)

    def checkpoint(self, step: int, tensors: dict[str, Tensor], *, ema: float, updates: int) -> None:
        """Keep everything up to, and without, this step."""
        growing = {RECORDS: self.run.records, **self.files}
        lengths = {name: (file.bytes, file.lines) for name, file in growing.items()}
        write_checkpoint(self.path, tensors, Checkpoint(FORMAT, step, updates, ema, lengths, ""))

    def close_files(self) -> dict[str, manifests.FileEntry]:
        """Close the files of metrics and drop the checkpoint, which the finished run does not need."""
        entries = {name: file.close() for name, file in self.files.items()}
        (self.path / CHECKPOINT).unlink(missing_ok=True)
        return entries

    def abandon(self, *, remove: bool) -> None:
        """Stop writing; `remove` deletes what was written, if this process began it."""
        for file in self.files.values():
            file.abandon()
        if remove and self.run.fresh:
            for name in (*GROWING, CHECKPOINT):
                with contextlib.suppress(OSError):
                    (self.path / name).unlink(missing_ok=True)
            for child in self.path.iterdir():
                if child.is_dir():
                    shutil.rmtree(child, ignore_errors=True)
        self.run.abandon(remove=remove)


def _grown(path: Path, length: tuple[int, int]) -> GrowingFile:
    """Open a growing file at what its checkpoint counted, and hash that part again."""
    size, lines = length
    found = path.stat().st_size if path.exists() else 0
    if found < size:
        raise BadInput(
            f"{path}: holds {found:,} bytes, the checkpoint counts {size:,}: the file was cut short after it was written; "
            "restore it, or start a new run in another folder"
        )
    file = GrowingFile(path, size)
    left = size
    with open(path, "rb") as old:
        while left:
            block = old.read(min(BLOCK_BYTES, left))
            left -= len(block)
            file.append(block, 0)
    file.lines = lines
    return file
