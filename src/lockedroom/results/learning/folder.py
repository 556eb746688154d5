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
from lockedroom.results.learning.checkpoint import CHECKPOINT, FORMAT, Checkpoint, read_checkpoint, write_checkpoint
from lockedroom.results.learning.metrics import (
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
from lockedroom.wording import counted

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
            entries = {} if found is None else found[0].files
            self.run.records.abandon()  # what stands behind the checkpoint is made again
            self.run.records = _grown(path / RECORDS, entries.get(RECORDS))
            self.files = {name: _grown(path / name, entries.get(name)) for name in GROWING}
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
        """Keep everything up to, and without, this step: on the disk first, then counted."""
        growing = {RECORDS: self.run.records, **self.files}
        files = {name: file.synced() for name, file in growing.items()}
        write_checkpoint(self.path, tensors, Checkpoint(FORMAT, step, updates, ema, files, ""))

    def close_files(self) -> dict[str, manifests.FileEntry]:
        """Close the files of metrics."""
        return {name: file.close() for name, file in self.files.items()}

    def seal(self, manifest: manifests.Manifest) -> None:
        """Make the folder a run, and drop the checkpoint, which until then is what a killed run goes on from."""
        self.run.seal(manifest)
        (self.path / CHECKPOINT).unlink(missing_ok=True)

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


def _grown(path: Path, entry: manifests.FileEntry | None) -> GrowingFile:
    """Open a growing file at what its checkpoint counted, and hash that part again."""
    size = 0 if entry is None else entry.bytes
    found = path.stat().st_size if path.exists() else 0
    if found < size:
        raise BadInput(
            f"{path}: holds {counted(found, 'byte')}, the checkpoint counts {size:,}: the file was cut short after it was written; "
            "restore it, or start a new run in another folder"
        )
    file = GrowingFile(path, size)
    left = size
    with open(path, "rb") as old:
        while left:
            block = old.read(min(BLOCK_BYTES, left))
            left -= len(block)
            file.append(block, 0)
    if entry is None:
        return file
    file.lines = entry.lines
    if file.digest.hexdigest() != entry.sha256:
        file.abandon()
        raise BadInput(
            f"{path}: was changed after it was written: it is not what the checkpoint counted; restore it, or start a new "
            "run in another folder"
        )
    return file
