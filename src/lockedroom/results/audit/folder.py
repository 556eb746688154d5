"""The folder of a finished audit: findings as golden rows, the summary for programs and people, the manifest last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.jsonl import encode_lines
from lockedroom.results.plain_folder import (
    check_hashes,
    indented,
    measure_files,
    read_plain_manifest,
    seal,
    write_files,
)
from lockedroom.results.run_folder import SUMMARY_JSON, SUMMARY_MD
from lockedroom.safeguards import manifest as manifests
from lockedroom.safeguards.environment import GitState, Hardware

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


def contents_of(findings: Sequence[Any], summary: Any, text: str) -> dict[str, bytes]:
    """Return the files that every audit folder has, by name."""
    return {
        FINDINGS: encode_lines(findings),
        SUMMARY_JSON: indented(summary),
        SUMMARY_MD: text.encode("utf-8", "backslashreplace"),
    }


def write_audit(path: Path, contents: Mapping[str, bytes], manifest: Mapping[str, Any]) -> AuditManifest:
    """Write the folder. `manifest` holds every field but `format` and `files`. Raises BadInput and CannotWrite."""
    write_files(path, contents)
    made = AuditManifest(format=FORMAT, files=measure_files(path, list(contents)), **manifest)
    seal(path, made)
    return made


def read_audit_manifest(path: Path) -> AuditManifest:
    """Return the manifest of an audit folder. Raises BadInput where there is none, Tampered where it does not decode."""
    return read_plain_manifest(path, AuditManifest, "an audit")


def check_audit_hashes(path: Path, manifest: AuditManifest) -> list[str]:
    """Return what does not hold of the hashes of an audit folder."""
    return check_hashes(path, manifest, (FINDINGS, SUMMARY_JSON, SUMMARY_MD))
