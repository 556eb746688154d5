"""Writing a run folder: streamed, resumable after a kill at any byte, closed by its manifest.

While a run is being written its folder holds `config.toml`, a growing `examples.jsonl` and a growing `records.jsonl`,
and no manifest. Both growing files are only ever appended to, so after a kill they hold a valid beginning, perhaps with
a torn last line, which `--resume` cuts off.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from lockedroom.errors import BadInput, CannotWrite
from lockedroom.jsonl import BLOCK_BYTES, read_batches
from lockedroom.policy.backend import ASKING
from lockedroom.records import Record
from lockedroom.safeguards import manifest as manifests
from lockedroom.wording import counted

EXAMPLES, RECORDS, CONFIG = "examples.jsonl", "records.jsonl", "config.toml"
SUMMARY_JSON, SUMMARY_MD = "summary.json", "summary.md"
PIECES = "pieces"  # the folder of what workers are writing, while they do
RECEIPTS = "receipts.jsonl"  # what a server was paid for, until it stands in the records


def indented_json(value: object) -> bytes:
    """Return a derived file's content: JSON that a person can read, ended by a newline."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


class GrowingFile:
    """An append-only file, hashed as it grows.

    Opened on an existing beginning, `replay` must first be given the same bytes again before anything new is appended.
    """

    def __init__(self, path: Path, keep: int) -> None:
        self.path = path
        self.digest = hashlib.sha256()
        self.bytes = self.lines = 0
        self._file: BinaryIO = open(path, "r+b" if path.exists() else "w+b")  # noqa: SIM115  (closed by close or abandon)
        self._kept = keep
        self._file.truncate(keep)

    def append(self, block: bytes, lines: int) -> None:
        """Add a block of so many whole lines; the part of it that an interrupted run has written already is compared instead."""
        old = min(max(self._kept - self.bytes, 0), len(block))
        if old and self._file.read(old) != block[:old]:
            raise BadInput(
                f"{self.path}: the input has changed since this run began (near byte {self.bytes:,}); "
                "restore the input, or start a new run in another folder"
            )
        with writing(self.path):
            if old < len(block):
                self._file.write(block[old:])
                self._file.flush()
        self.digest.update(block)
        self.bytes += len(block)
        self.lines += lines

    def synced(self) -> manifests.FileEntry:
        """Bring everything appended so far to the disk, and return what it is."""
        with writing(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
        return manifests.FileEntry(self.digest.hexdigest(), self.bytes, self.lines)

    def close(self) -> manifests.FileEntry:
        if self.bytes < self._kept:
            raise BadInput(
                f"{self.path}: the input has become shorter since this run began ({counted(self.bytes, 'byte')} of "
                f"{self._kept:,}); restore the input, or start a new run in another folder"
            )
        entry = self.synced()
        with writing(self.path):
            self._file.close()
        return entry

    def abandon(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


class RunFolder:
    """A run being written. `recorded` is the number of attempts that an interrupted run finished."""

    def __init__(self, path: Path, config: bytes, *, draws: int, resume: bool) -> None:
        self.path = path
        self._made = not path.exists()
        self._lock = _open_folder(path, resume=resume)
        try:
            self.fresh = not (path / CONFIG).is_file()
            if self.fresh:
                write_atomically(path / CONFIG, config)
            else:
                _refuse_other_config(path / CONFIG, config)
            self._old_bytes, self.recorded = _whole_examples(path / RECORDS, draws)
            with writing(path):
                self.records = GrowingFile(path / RECORDS, self._old_bytes)
                self.examples = GrowingFile(path / EXAMPLES, whole_bytes(path / EXAMPLES))
        except BaseException:
            self._unlock()
            raise

    def old_records(self) -> Iterator[Record]:
        """Yield the records of the interrupted run, in order."""
        for batch in read_batches(self.path / RECORDS, Record, stop=self._old_bytes):
            yield from batch.rows

    def finish(self, derived: Mapping[str, bytes]) -> dict[str, manifests.FileEntry]:
        """Close the growing files, write the derived ones (name -> content), and return the entry of every file."""
        entries = {RECORDS: self.records.close(), EXAMPLES: self.examples.close()}
        for name, content in derived.items():
            write_atomically(self.path / name, content)
        for name in (CONFIG, *derived):
            entries[name] = manifests.measure_file(self.path / name)
        return dict(sorted(entries.items()))

    def seal(self, manifest: manifests.Manifest) -> None:
        """Write SHA256SUMS, then the manifest: from here on the folder is a run."""
        write_atomically(self.path / manifests.SUMS_NAME, manifests.checksum_lines(manifest))
        write_atomically(self.path / manifests.NAME, manifests.encode_manifest(manifest))
        self._unlock()

    def holds_attempts(self) -> bool:
        """Say whether anything was judged, now or before the interruption."""
        begun = any((self.path / PIECES).glob("*")) or (self.path / RECEIPTS).exists()
        return self._old_bytes + self.records.bytes > 0 or begun

    def abandon(self, *, remove: bool) -> None:
        """Stop writing. `remove` deletes what this process wrote, if it is not continuing another's work."""
        self.records.abandon()
        self.examples.abandon()
        if remove and self.fresh:
            shutil.rmtree(self.path / PIECES, ignore_errors=True)
            for name in (RECORDS, EXAMPLES, SUMMARY_JSON, SUMMARY_MD, CONFIG):
                (self.path / name).unlink(missing_ok=True)
            if self._made:
                with contextlib.suppress(OSError):
                    self.path.rmdir()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is either absent (or old) or whole: temporary file, fsync, rename, fsync of the folder."""
    temporary = path.with_name(f".{path.name}.writing")
    with writing(path):
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        _sync(path.parent)


def sync_to_disk(path: Path) -> None:
    """Bring a file, or a folder with everything in it, to the disk: after this a power cut does not undo it."""
    for inside in path.rglob("*") if path.is_dir() else ():
        _sync(inside)
    for written in (path, path.parent):
        _sync(written)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_new(path: Path) -> None:
    """Raise BadInput where a new run cannot be written: before anything is spent on one."""
    if path.exists() and not path.is_dir():
        raise BadInput(f"{path}: exists and is not a folder; choose another --out")
    if (path / manifests.NAME).exists():
        raise BadInput(f"{path}: a finished run is here already, and runs are never written into; choose another --out")
    if path.exists() and _occupied(path):
        unfinished = (path / CONFIG).is_file()
        advice = (
            "continue it with --resume if evaluate, select or learn began it, or choose another --out"
            if unfinished
            else "choose another --out"
        )
        what = "an unfinished run is here already" if unfinished else "the folder is not empty and is not a run"
        raise BadInput(f"{path}: {what}; {advice}")


def _open_folder(path: Path, *, resume: bool) -> int:
    """Make the folder, or take up an unfinished one; return a descriptor that holds its lock."""
    if not resume or (path / manifests.NAME).exists() or (path.exists() and not path.is_dir()):
        require_new(path)
    if resume and not (path / CONFIG).is_file():
        raise BadInput(f"{path}: nothing to resume here; run without --resume")
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise BadInput(f"{path}: another process is writing this run; wait for it, or choose another --out") from None
    if (path / manifests.NAME).exists():  # by a process that held the lock until now
        os.close(lock)
        raise BadInput(f"{path}: another process has just finished a run here; choose another --out")
    return lock


def _occupied(path: Path) -> bool:
    """Say whether a folder holds anything but what a kill in the very first moment leaves behind."""
    return any(child.name != f".{CONFIG}.writing" for child in path.iterdir())


def _refuse_other_config(path: Path, config: bytes) -> None:
    import tomllib

    try:
        old, new = tomllib.loads(path.read_text("utf-8")), tomllib.loads(config.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not TOML: {error}; start a new run in another folder") from None
    for config_of in (old, new):  # a server may be asked more slowly, or more patiently, than when the run began
        config_of["backend"] = {key: value for key, value in config_of.get("backend", {}).items() if key not in ASKING}
    differing = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    if differing:
        lines = "; ".join(f"{key}: was {_said(old, key)}, now {_said(new, key)}" for key in differing)
        raise BadInput(f"{path}: the run was begun with another configuration ({lines}); resume it as it was begun")


def _said(settings: Mapping[str, Any], key: str) -> str:
    """What is left out of a configuration is the default."""
    return repr(settings[key]) if key in settings else "the default"


def whole_bytes(path: Path) -> int:
    """Return how many bytes of an interrupted file are whole lines."""
    if not path.exists():
        return 0
    size = path.stat().st_size
    with open(path, "rb") as file:
        while size:
            start = max(0, size - BLOCK_BYTES)
            file.seek(start)
            cut = file.read(size - start).rfind(b"\n")
            if cut >= 0:
                return start + cut + 1
            size = start
    return 0


def _whole_examples(path: Path, draws: int) -> tuple[int, int]:
    """Return the bytes and the number of records of an interrupted file that make up whole examples."""
    if not path.exists():
        return 0, 0
    ends: list[int] = []  # ends of the last few whole lines, enough to step back over a partial example
    lines = offset = 0
    with open(path, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                lines += 1
                offset += len(line)
                ends = [*ends[-draws:], offset]
    surplus = lines % draws
    if lines == surplus:
        return 0, 0
    return (ends[-1 - surplus] if surplus else offset), lines - surplus


def default_folder(*names: str) -> Path:
    """Return a new folder under runs/, called after files, runs or policies, and the time."""
    called = "-".join(re.sub(r"\.(jsonl|csv|parquet)$", "", Path(name).name)[:60] for name in names if name)
    return Path("runs") / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', called)}-{time.strftime('%Y%m%d-%H%M%S')}"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn trouble with the disk into one message; what was written before stays."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "free some space" if full else "choose another --out"
        trouble = CannotWrite(f"{path}: cannot be written: {error.strerror}; {advice}")
        trouble.full = str(path) if full else None
        raise trouble from None
