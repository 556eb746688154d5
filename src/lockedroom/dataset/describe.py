"""What a dataset file holds, in a few numbers, and the hash that names it."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import accumulate
from pathlib import Path

import msgspec

from lockedroom.dataset.load import FirstRefused, canonical_line, read_examples

_KINDS = {int: "integer", str: "string", float: "number", bool: "boolean", type(None): "null", list: "list"}


class PromptLengths(msgspec.Struct, frozen=True):
    """In characters. The median of an even number of prompts is the lower of the middle two."""

    min: int
    median: int
    max: int


class DatasetSummary(msgspec.Struct, frozen=True):
    """`answers` counts the expected answers by JSON kind; `sha256` is of the canonical examples, as in a room."""

    path: str
    examples: int
    answers: dict[str, int]
    prompt_characters: PromptLengths
    sha256: str


def describe(path: Path, first_refused: FirstRefused | None = None, *, scorer_name: str = "") -> DatasetSummary:
    """Validate a whole file and summarise it; raises what `read_examples` raises."""
    kinds: Counter[type] = Counter()
    lengths: Counter[int] = Counter()
    digest = hashlib.sha256()
    for batch in read_examples(path, first_refused, scorer_name=scorer_name):
        kinds.update([type(example.expected_answer) for example in batch])
        lengths.update([len(example.prompt) for example in batch])
        digest.update(canonical_line(batch))
    return DatasetSummary(
        path=str(path),
        examples=kinds.total(),
        answers={_KINDS.get(kind, "object"): count for kind, count in kinds.most_common()},
        prompt_characters=PromptLengths(min(lengths), _lower_median(lengths), max(lengths)),
        sha256=digest.hexdigest(),
    )


def _lower_median(lengths: Counter[int]) -> int:
    middle = (lengths.total() + 1) // 2
    ordered = sorted(lengths)
    passed = accumulate(lengths[length] for length in ordered)
    return next(length for length, count in zip(ordered, passed, strict=True) if count >= middle)
