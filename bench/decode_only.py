"""The floor: decode a dataset and its completions into typed structs, block by block, and do nothing with them.

A program of its own that imports only msgspec: `python bench/decode_only.py KB DATASET COMPLETIONS`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import msgspec


class Example(msgspec.Struct, frozen=True, gc=False):
    id: str
    prompt: str
    expected_answer: int


class CompletionRow(msgspec.Struct, frozen=True, gc=False):
    id: str
    completion: str | None = None
    samples: list[str] | None = None


def blocks(path: str, size: int) -> Iterator[bytes]:
    """Yield blocks of whole lines."""
    with open(path, "rb") as file:
        while block := file.read(size):
            yield block + file.readline()


def main(kilobytes: str, dataset: str, completions: str) -> None:
    for path, row_type in ((dataset, Example), (completions, CompletionRow)):
        decoder = msgspec.json.Decoder(row_type)
        for block in blocks(path, int(kilobytes) * 1024):
            decoder.decode_lines(block)


if __name__ == "__main__":
    main(*sys.argv[1:])
