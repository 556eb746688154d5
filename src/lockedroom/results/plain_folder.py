"""Folders that are written once, whole: their files, SHA256SUMS, and a manifest last. Audits and the microscope use them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from lockedroom.errors import BadInput, Tampered
from lockedroom.jsonl import open_for_reading
from lockedroom.results.run_folder import write_atomically, writing
from lockedroom.safeguards import manifest as manifests
from lockedroom.visible import visible


class Sealed(Protocol):
    """A manifest: a struct that lists the files of its folder."""

    @property
    def files(self) -> dict[str, manifests.FileEntry]: ...


M = TypeVar("M", bound=msgspec.Struct)


def refuse_existing(path: Path) -> None:
    """Raise BadInput where something is already, before anything is spent: one measurement is never written into another."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise BadInput(f"{path}: something is here already, and is never written into; choose another --out")


def write_files(path: Path, contents: Mapping[str, bytes]) -> None:
    """Make the folder and write its files. Raises BadInput and CannotWrite."""
    refuse_existing(path)
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_atomically(path / name, content)


def measure_files(path: Path, names: Sequence[str]) -> dict[str, manifests.FileEntry]:
    return {name: manifests.measure_file(path / name) for name in sorted(names)}


def seal(path: Path, manifest: Sealed) -> None:
    """Write SHA256SUMS, then the manifest: from here on the folder is finished."""
    write_atomically(path / manifests.SUMS_NAME, _sums(manifest))
    write_atomically(path / manifests.NAME, indented(manifest))


def read_plain_manifest(path: Path, kind: type[M], what: str) -> M:
    """Return the manifest of a folder. Raises BadInput where there is none, Tampered where it does not decode."""
    file = path / manifests.NAME
    with open_for_reading(file) as stream:
        raw = stream.read()
    try:
        return msgspec.convert(json.loads(raw), kind)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise Tampered(f"{file}: not the manifest of {what}: {visible(str(error), 200)}") from None


def check_hashes(path: Path, manifest: Sealed, required: Sequence[str]) -> list[str]:
    """Return what does not hold of the hashes of a folder: files, manifest, SHA256SUMS."""
    sums = path / manifests.SUMS_NAME
    trouble = []
    if (path / manifests.NAME).read_bytes() != indented(manifest):
        trouble.append(f"{manifests.NAME} is not as lockedroom writes it")
    if not sums.is_file() or sums.read_bytes() != _sums(manifest):
        trouble.append(f"{manifests.SUMS_NAME} is missing, or does not list the files and hashes of {manifests.NAME}")
    trouble += [f"the manifest does not list {name}" for name in required if name not in manifest.files]
    for name, entry in manifest.files.items():
        if "/" in name or not (path / name).is_file():
            trouble.append(f"{visible(name, 60)} is missing")
        elif manifests.measure_file(path / name) != entry:
            trouble.append(f"{name} was changed: its sha256 is not the one in {manifests.NAME}")
    return trouble


def _sums(manifest: Sealed) -> bytes:
    sums = {name: entry.sha256 for name, entry in manifest.files.items()}
    sums[manifests.NAME] = hashlib.sha256(indented(manifest)).hexdigest()
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()


def indented(value: object) -> bytes:
    """Attacks hold lone surrogates, which the standard library writes as their escapes and msgspec refuses."""
    return json.dumps(msgspec.to_builtins(value), indent=2).encode() + b"\n"
