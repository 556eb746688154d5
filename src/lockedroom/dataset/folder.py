"""A folder of splits and the note of how they were made, written all or nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import msgspec

from lockedroom._version import __version__
from lockedroom.dataset.load import canonical_line
from lockedroom.errors import BadInput, CannotWrite
from lockedroom.records import Example

WRITTEN_TOGETHER = 4096
NOTE = "dataset.toml"


class WrittenSplit(msgspec.Struct, frozen=True):
    """A split's file, its number of examples, and the sha256 of the file, which is that of its canonical examples."""

    path: Path
    examples: int
    sha256: str


def write_splits(
    folder: Path, splits: Mapping[str, Iterable[Example]], generator: str, settings: Mapping[str, str | int | bool]
) -> list[WrittenSplit]:
    """Write a JSON Lines file for each split, and `dataset.toml`, which says how they were made.

    All or nothing: the folder appears when everything is on disk. Raises BadInput when it exists and is not empty.
    """
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise BadInput(f"{folder}: exists already and is not an empty folder; name another one")
    growing = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        growing.mkdir(parents=True)
        written = [_write_split(growing / f"{split}.jsonl", examples) for split, examples in splits.items()]
        _write(growing / NOTE, iter([_note(generator, settings, written).encode()]))
        growing.rename(folder)
    except OSError as error:
        raise CannotWrite(f"{folder}: cannot be written: {error.strerror}; nothing was written") from None
    finally:
        shutil.rmtree(growing, ignore_errors=True)
    return [msgspec.structs.replace(file, path=folder / file.path.name) for file in written]


def _write_split(path: Path, examples: Iterable[Example]) -> WrittenSplit:
    count = 0
    waiting = iter(examples)

    def batches() -> Iterator[bytes]:
        nonlocal count
        while batch := list(islice(waiting, WRITTEN_TOGETHER)):
            count += len(batch)
            yield canonical_line(batch)

    digest = _write(path, batches())
    return WrittenSplit(path, count, digest)


def _write(path: Path, pieces: Iterator[bytes]) -> str:
    """Write a file, wait until it is on disk, and return its sha256."""
    digest = hashlib.sha256()
    with open(path, "xb") as file:
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _note(generator: str, settings: Mapping[str, str | int | bool], written: list[WrittenSplit]) -> str:
    lines = [
        "# How this folder was made. The same values give the same bytes.",
        "format = 1",
        f"generator = {_toml(generator)}",
        f"made_by = {_toml(f'lockedroom {__version__}')}",
        "",
        f"[{generator}]",
        *(f"{name} = {_toml(value)}" for name, value in settings.items()),
    ]
    for file in written:
        lines += ["", f'[files."{file.path.name}"]', f"examples = {file.examples}", f"sha256 = {_toml(file.sha256)}"]
    return "\n".join(lines) + "\n"


def _toml(value: str | int | bool) -> str:
    # A JSON string is a TOML string, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
