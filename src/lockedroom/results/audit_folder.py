"""The folder of a finished audit: findings as golden rows, the summary for programs and people, the manifest last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.errors import BadInput, Tampered
from lockedroom.jsonl import encode_lines, open_for_reading
from lockedroom.results.run_folder import SUMMARY_JSON, SUMMARY_MD, write_atomically, writing
from lockedroom.safeguards import manifest as manifests
from lockedroom.safeguards.environment import GitState, Hardware
from lockedroom.visible import visible

FORMAT = "lockedroom.audit/1"
FINDINGS, BEHAVIOUR = "findings.jsonl", "behaviour.jsonl"


class AuditManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What was audited, with what, by which command; `inputs` maps every file that was read to its sha256."""

    format: str
    kind: str
    subject: dict[str, Any]
    config: dict[str, Any]
    inputs: dict[str, str]
    command: list[str]
    versions: dict[str, str]
    git: GitState | None
    hardware: Hardware
    started: str
    seconds: float
    files: dict[str, manifests.FileEntry]


def refuse_existing(path: Path) -> None:
    """Raise BadInput where something is already: an audit is one measurement, and never written into."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise BadInput(f"{path}: something is here already, and audits are never written into; choose another --out")


def contents_of(findings: Sequence[Any], summary: Any, text: str) -> dict[str, bytes]:
    """Return the files that every audit folder has, by name."""
    return {
        FINDINGS: encode_lines(findings),
        SUMMARY_JSON: indented(summary),
        SUMMARY_MD: text.encode("utf-8", "backslashreplace"),
    }


def write_audit(path: Path, contents: Mapping[str, bytes], manifest: Mapping[str, Any]) -> AuditManifest:
    """Write the folder. `manifest` holds every field but `format` and `files`. Raises BadInput and CannotWrite."""
    refuse_existing(path)
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_atomically(path / name, content)
    files = {name: manifests.measure_file(path / name) for name in sorted(contents)}
    made = AuditManifest(format=FORMAT, files=files, **manifest)
    write_atomically(path / manifests.SUMS_NAME, _sums(made))
    write_atomically(path / manifests.NAME, indented(made))
    return made


def read_audit_manifest(path: Path) -> AuditManifest:
    """Return the manifest of an audit folder. Raises BadInput where there is none, Tampered where it does not decode."""
    file = path / manifests.NAME
    with open_for_reading(file) as stream:
        raw = stream.read()
    try:
        return msgspec.convert(json.loads(raw), AuditManifest)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise Tampered(f"{file}: not the manifest of an audit: {visible(str(error), 200)}") from None


def check_hashes(path: Path, manifest: AuditManifest) -> list[str]:
    """Return what does not hold of the hashes of an audit folder: files, manifest, SHA256SUMS."""
    sums = path / manifests.SUMS_NAME
    trouble = []
    if (path / manifests.NAME).read_bytes() != indented(manifest):
        trouble.append(f"{manifests.NAME} is not as lockedroom writes it")
    if not sums.is_file() or sums.read_bytes() != _sums(manifest):
        trouble.append(f"{manifests.SUMS_NAME} is missing, or does not list the files and hashes of {manifests.NAME}")
    trouble += [
        f"the manifest does not list {name}"
        for name in (FINDINGS, SUMMARY_JSON, SUMMARY_MD)
        if name not in manifest.files
    ]
    for name, entry in manifest.files.items():
        if "/" in name or not (path / name).is_file():
            trouble.append(f"{visible(name, 60)} is missing")
        elif manifests.measure_file(path / name) != entry:
            trouble.append(f"{name} was changed: its sha256 is not the one in {manifests.NAME}")
    return trouble


def _sums(manifest: AuditManifest) -> bytes:
    sums = {name: entry.sha256 for name, entry in manifest.files.items()}
    sums[manifests.NAME] = hashlib.sha256(indented(manifest)).hexdigest()
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()


def indented(value: object) -> bytes:
    """Attacks hold lone surrogates, which the standard library writes as their escapes and msgspec refuses."""
    return json.dumps(msgspec.to_builtins(value), indent=2).encode() + b"\n"
