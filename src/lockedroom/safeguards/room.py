"""The room: what must be equal for two runs to be comparable, each part as something a stranger can recompute."""

from __future__ import annotations

from typing import Any

import msgspec


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


class Room(msgspec.Struct, frozen=True):
    """Dataset split, prompts as rendered, scorer, sampling. `undeclared` equals nothing."""

    dataset: DatasetIdentity
    prompts: dict[str, Any]
    scorer: ScorerIdentity
    sampling: dict[str, Any]
