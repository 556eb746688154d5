"""The folder of a finished audit: findings as golden rows, the summary for programs and people, the manifest last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.errors import BadInput
from lockedroom.jsonl import encode_lines
from lockedroom.results.run_folder import SUMMARY_JSON, SUMMARY_MD, write_atomically, writing
from lockedroom.safeguards import manifest as manifests
from lockedroom.safeguards.environment import GitState, Hardware

FORMAT = "lockedroom.audit/1"
FINDINGS = "findings.jsonl"


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


def write_audit(path: Path, findings: list[Any], summary: Any, text: str, manifest: Mapping[str, Any]) -> AuditManifest:
    """Write the folder. `manifest` holds every field but `format` and `files`. Raises BadInput and CannotWrite."""
    refuse_existing(path)
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    contents = {
        FINDINGS: encode_lines(findings),
        SUMMARY_JSON: _indented(summary),
        SUMMARY_MD: text.encode("utf-8", "backslashreplace"),
    }
    for name, content in contents.items():
        write_atomically(path / name, content)
    files = {name: manifests.measure_file(path / name) for name in sorted(contents)}
    made = AuditManifest(format=FORMAT, files=files, **manifest)
    encoded = _indented(made)
    sums = {name: entry.sha256 for name, entry in files.items()} | {manifests.NAME: hashlib.sha256(encoded).hexdigest()}
    write_atomically(
        path / manifests.SUMS_NAME, "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()
    )
    write_atomically(path / manifests.NAME, encoded)
    return made


def _indented(value: object) -> bytes:
    """Attacks hold lone surrogates, which the standard library writes as their escapes and msgspec refuses."""
    return json.dumps(msgspec.to_builtins(value), indent=2).encode() + b"\n"
