"""Splits that must not share an example: what is learnt on one may not be measured on another."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import msgspec

from lockedroom.dataset.load import content_key, read_examples
from lockedroom.dataset.tables import shown
from lockedroom.errors import BadInput
from lockedroom.records import Example
from lockedroom.wording import counted

# A chain of numbers and operators, matched whole, so that 3+4 is not taken out of 2*3+4.
_CHAIN = re.compile(r"[0-9]+(?:\s*[-+*/×^]\s*[0-9]+)+")
_TWO_OPERANDS = re.compile(r"([0-9]+)(\s*[+*×]\s*)([0-9]+)")


class _Overlap(msgspec.Struct, frozen=True):
    """The first example of a file that an earlier file holds as well."""

    path: Path
    row: int
    example: Example


def check_disjoint(paths: Sequence[Path]) -> None:
    """Return when no two files share an example.

    Two examples are shared when prompt and expected answer are equal, also after the operands of a sum or product in
    the prompt were swapped, or when they have one id. Raises BadInput naming both files and lines and what is shared.
    Memory: about 170 bytes a row.
    """
    seen: set[bytes] = set()
    for index, path in enumerate(paths):
        overlap = None
        count = 0
        own: set[bytes] = set()
        for row, example in _numbered(path):
            keys = _keys(example)
            own.update(keys)
            if not seen.isdisjoint(keys):
                overlap = overlap or _Overlap(path, row, example)
                count += 1
        if overlap is not None:
            raise BadInput(_message(overlap, count, paths[:index]))
        seen |= own


def commuted(prompt: str) -> str:
    """Sort the operands of each sum or product of two numbers: `Compute 4+3` becomes `Compute 3+4`."""
    return _CHAIN.sub(_sorted_operands, prompt)


def _sorted_operands(chain: re.Match[str]) -> str:
    pair = _TWO_OPERANDS.fullmatch(chain[0])
    if pair is None:
        return chain[0]
    first, operator, second = pair.groups()
    # By length, then by digits: the order of the numbers, with no conversion that long ones would make slow.
    return operator.join(sorted((first, second), key=lambda digits: (len(digits), digits)))


def _numbered(path: Path) -> Iterator[tuple[int, Example]]:
    return enumerate(chain.from_iterable(read_examples(path)), 1)


def _keys(example: Example) -> tuple[bytes, bytes]:
    """Return what two examples may not have in common: content, and id."""
    normalised = msgspec.structs.replace(example, prompt=commuted(example.prompt))
    return content_key(normalised), hashlib.blake2b(example.id.encode(), digest_size=16, person=b"id").digest()


def _message(overlap: _Overlap, count: int, earlier: Sequence[Path]) -> str:
    content, identity = _keys(overlap.example)
    path, row, example = next(
        (path, row, example)
        for path in earlier
        for row, example in _numbered(path)
        if content == _keys(example)[0] or identity == _keys(example)[1]
    )
    more = f" ({counted(count, 'such example')} in {overlap.path})" if count > 1 else ""
    where = f"{_where(overlap.path, overlap.row)} and {_where(path, row)}"
    return (
        f"{where} {_what_is_shared(overlap.example, example)}{more}; "
        "remove it from one of the two files, or make splits that do not overlap"
    )


def _where(path: Path, row: int) -> str:
    return f"{path}:{row}" if path.suffix.lower() == ".jsonl" else f"{path}: row {row}"


def _what_is_shared(one: Example, other: Example) -> str:
    if _keys(one)[0] != _keys(other)[0]:
        return f"have one id, {shown(one.id)}, and different content"
    if one.prompt == other.prompt:
        return f"hold the same example, {shown(one.prompt)} with the answer {shown(one.expected_answer)}"
    return f"hold the same example but for the order of its operands, {shown(one.prompt)} and {shown(other.prompt)}"
