"""The manifest: what a finished run is, and the sha256 of every file in it. Written last, so its presence means done."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path
from typing import Any

import msgspec

from lockedroom._version import __version__
from lockedroom.dataset.sealed import refuse_sealed
from lockedroom.errors import BadInput, Tampered
from lockedroom.jsonl import BLOCK_BYTES, open_for_reading
from lockedroom.records import PolicySpec, ScorerSpec
from lockedroom.safeguards.environment import GitState, Hardware, read_git_state, read_hardware
from lockedroom.safeguards.room import Room

NAME = "manifest.json"
SUMS_NAME = "SHA256SUMS"
FORMAT = "lockedroom.run/1"
FORMAT_FAMILY = "lockedroom.run/"


class FileEntry(msgspec.Struct, frozen=True):
    sha256: str
    bytes: int
    lines: int


class Timing(msgspec.Struct, frozen=True):
    """Of the process that finished the run; `attempts` counts what it judged itself (a resumed run: the rest)."""

    started: str
    seconds: float
    cpu_seconds: float
    attempts: int


class Origin(msgspec.Struct, frozen=True):
    """The run whose completions were judged again: its id, and the sha256 of its manifest."""

    run_id: str
    manifest_sha256: str


class Inputs(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was read, and how a completions file fits the dataset: how much was missing or not used, and the first of it."""

    dataset: str
    completions: str | None = None
    completions_sha256: str | None = None
    missing_completions: int = 0
    missing_first: tuple[str, ...] = ()
    extra_ids: int = 0
    extra_first: tuple[str, ...] = ()
    rescored_from: Origin | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`selection` is the selection compute: how many draws, and by which selector (none in Loop A)."""

    format: str
    run_id: str
    kind: str
    room: Room
    policy: PolicySpec
    scorer: ScorerSpec
    selection: dict[str, Any]
    draws: int
    seed: int
    command: list[str]
    inputs: Inputs
    versions: dict[str, str]
    git: GitState | None
    hardware: Hardware
    threads: int
    timing: Timing
    files: dict[str, FileEntry]


def made_here() -> dict[str, Any]:
    """Return the fields of a new manifest that say which run it is and where it was made."""
    return {
        "format": FORMAT,
        "run_id": os.urandom(8).hex(),
        "versions": {"lockedroom": __version__, "python": platform.python_version(), "msgspec": msgspec.__version__},
        "git": read_git_state(Path.cwd()),
        "hardware": read_hardware(),
    }


def measure_file(path: Path) -> FileEntry:
    """Return the sha256, size and number of newlines of a file, reading it in blocks."""
    digest, size, lines = hashlib.sha256(), 0, 0
    with open_for_reading(path) as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            size += len(block)
            lines += block.count(b"\n")
    return FileEntry(digest.hexdigest(), size, lines)


def encode_manifest(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def checksum_lines(manifest: Manifest) -> bytes:
    """Return the text of SHA256SUMS: every file and the manifest itself, for `sha256sum -c`."""
    sums = {name: entry.sha256 for name, entry in manifest.files.items()}
    sums[NAME] = hashlib.sha256(encode_manifest(manifest)).hexdigest()
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()


def read_manifest(run: Path) -> Manifest:
    """Return the manifest of a finished run.

    Raises BadInput when there is none or its format is newer than this version reads; Tampered when it does not decode;
    Sealed when it is a sealed holdout.
    """
    refuse_sealed(run)
    if not run.is_dir():
        raise BadInput(f"{run}: no such run folder")
    path = run / NAME
    if not path.is_file():
        raise BadInput(
            f"{run}: not a finished run (no {NAME}); if it was interrupted, continue it with the same command and --resume, or "
            "make it again where that command has no --resume"
        )
    raw = path.read_bytes()
    try:
        declared = msgspec.json.decode(raw, type=_FormatOnly).format
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Tampered(f"{path}: not a manifest: {error}") from None
    if declared != FORMAT:
        known = declared.startswith(FORMAT_FAMILY)
        raise BadInput(
            f"{path}: format {declared!r}; this version reads {FORMAT!r}"
            + ("; upgrade lockedroom to read this run" if known else "; this is not a run of lockedroom")
        )
    try:
        return msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Tampered(f"{path}: not a valid manifest: {error}") from None


class _FormatOnly(msgspec.Struct):
    format: str
