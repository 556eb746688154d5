"""Verifying a finished folder of any kind: one entry in KINDS for each `kind` that a manifest may name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec

from lockedroom.dataset.sealed import refuse_sealed
from lockedroom.errors import BadInput
from lockedroom.results.verify import verify
from lockedroom.safeguards import manifest as manifests
from lockedroom.visible import visible
from lockedroom.wording import counted


class Held(msgspec.Struct, frozen=True):
    """A folder that holds. `attempts` counts its rows, `rescored` those that were made again, `said` tells it in words."""

    path: str
    kind: str
    files: int
    attempts: int
    rescored: int
    not_checked: list[str]
    said: str


def verify_folder(path: Path) -> Held:
    """Verify a finished folder by the kind that its manifest names. Raises Tampered; BadInput for no kind of this version."""
    kind = read_kind(path)
    if kind not in KINDS:
        raise BadInput(f"{path}: is of kind {visible(kind, 40)!r}; this version verifies {', '.join(KINDS)}")
    return KINDS[kind](path)


def read_kind(path: Path) -> str:
    """Return the kind; a folder without a manifest that says it raises what reading a run raises."""
    refuse_sealed(path)
    try:
        return msgspec.json.decode((path / manifests.NAME).read_bytes(), type=_KindOnly).kind
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return manifests.read_manifest(path).kind


class _KindOnly(msgspec.Struct):
    kind: str


def _records(path: Path) -> Held:
    done = verify(path)
    return Held(
        done.path, done.manifest.kind, done.files, done.attempts, done.rescored, done.not_checked,
        f"the summary follows from {counted(done.attempts, 'record')}; {counted(done.rescored, 'verdict was made again and agrees', 'verdicts were made again and agree')}",
    )  # fmt: skip


def _audit(path: Path) -> Held:
    from lockedroom.results.audit.check import verify_audit  # the isolated worker, for those who verify audits

    done = verify_audit(path)
    return Held(
        str(path), "audit", done.files, done.findings, done.again, done.not_checked,
        f"the summary follows from {counted(done.findings, 'finding')}; {done.again:,} were replayed on the scorer and seen again",
    )  # fmt: skip


def _mined(path: Path) -> Held:
    from lockedroom.results.audit.check import verify_mined

    done = verify_mined(path)
    return Held(
        str(path), "mined", done.files, done.findings, done.again, done.not_checked,
        f"{done.again:,} of {counted(done.findings, 'find was', 'finds were')} made again from the run",
    )  # fmt: skip


def _learned(path: Path) -> Held:
    from lockedroom.results.learning.check import verify_learning

    done = verify_learning(path)
    return Held(
        str(path), "learn", done.files, done.attempts, done.rescored, done.not_checked,
        f"metrics follow from {counted(done.attempts, 'completion')}, {counted(done.rescored, 'verdict was made again and agrees', 'verdicts were made again and agree')}, and the "
        f"{counted(done.runs, 'run')} within hold",
    )  # fmt: skip


def _microscope(path: Path) -> Held:
    from lockedroom.results.microscope.check import verify_microscope

    done = verify_microscope(path)
    return Held(
        str(path), read_kind(path), done.files, done.rows, done.again, done.not_checked,
        f"the result follows from what the folder keeps; {done.again:,} of {counted(done.rows, 'row was made again and agrees', 'rows were made again and agree')}",
    )  # fmt: skip


# kind -> what verifies a folder of it, or raises Tampered
KINDS: Mapping[str, Callable[[Path], Held]] = MappingProxyType(
    {
        "evaluate": _records,
        "rescore": _records,
        "select": _records,
        "learn": _learned,
        "search": _records,
        "adaptive": _records,
        "audit": _audit,
        "mined": _mined,
        "bandit": _microscope,
        "frontier": _microscope,
        "goodhart": _microscope,
    }
)
