"""The room: what must be equal for two runs to be comparable, each part as something a stranger can recompute."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.jsonl import encode_lines, read_batches
from lockedroom.records import Example


class DatasetIdentity(msgspec.Struct, frozen=True):
    """`sha256` is that of the canonical examples, which every run keeps as `examples.jsonl`."""

    sha256: str
    split: str
    examples: int


class ScorerIdentity(msgspec.Struct, frozen=True):
    """`source_sha256` hashes the scorer's source file; `fingerprint` its verdicts on the fixed battery.

    Either may be `unavailable`, which equals nothing.
    """

    name: str
    version: int
    source_sha256: str
    fingerprint: str


def prompts_sha256(examples: Path) -> str:
    """Return the sha256 of the prompts as the lab rendered them: each as a JSON string in UTF-8, ended by a newline.

    The lab renders a prompt as it stands in `examples.jsonl`; in Python, with every line of it as `row`:
    `json.dumps(row["prompt"], ensure_ascii=False) + "\\n"`.
    """
    digest = hashlib.sha256()
    for batch in read_batches(examples, Example):
        digest.update(encode_lines([row.prompt for row in batch.rows]))
    return digest.hexdigest()


class Room(msgspec.Struct, frozen=True):
    """Dataset split, prompts as rendered, scorer, sampling. `undeclared` equals nothing."""

    dataset: DatasetIdentity
    prompts: dict[str, Any]
    scorer: ScorerIdentity
    sampling: dict[str, Any]
