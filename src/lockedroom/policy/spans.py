"""Which part of a text each token adds, for any tokenizer that can decode."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def spell(decode: Callable[[Sequence[int]], str], ids: Sequence[int]) -> list[tuple[str, int, int]]:
    """Return (piece, start, end) of each token in the text that all of them spell; the pieces join to that text.

    A character whose bytes are shared by several tokens belongs to the last of them. Special tokens spell nothing, and
    neither does a first space that the tokenizer drops.
    """
    whole = decode(ids)
    pieces, done = [], 0
    for n in range(1, len(ids) + 1):
        text = decode(ids[:n])
        end = len(whole) if n == len(ids) else max(done, len(text.rstrip("\ufffd")))
        pieces.append((whole[done:end], done, end))
        done = end
    return pieces
