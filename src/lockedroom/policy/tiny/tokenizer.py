"""A small byte-pair-encoding tokenizer: printable ASCII and newline, digits and signs always apart.

Ids: 0 is the end token (it also starts every prompt, as in GPT-2, and has no text of its own), then one id a character of
the alphabet, then one id a merge. Every piece is the concatenation of its characters, so decoding is plain joining and
any string over the alphabet can be encoded; usually in several ways, of which `encode` returns the canonical one.

Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units".
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from lockedroom.errors import BadInput
from lockedroom.records import Token

END = 0
ALPHABET = "\n" + "".join(map(chr, range(0x20, 0x7F)))

# A merge never crosses a chunk border, so numbers are read digit by digit and the sign is its own decision.
_CHUNKS = re.compile(r"[0-9+\-\n]|[^0-9+\-\n]+")


class TokenizerFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is stored of a tokenizer: its characters, and its merges in the order in which they apply."""

    alphabet: str
    merges: tuple[tuple[str, str], ...]


class Tokenizer:
    """Encodes and decodes; `pieces[id]` is the text of a token (empty for the end token)."""

    def __init__(self, file: TokenizerFile) -> None:
        self.file = file
        self.pieces: tuple[str, ...] = ("", *file.alphabet, *(a + b for a, b in file.merges))
        self.id_of = {piece: i for i, piece in enumerate(self.pieces) if i != END}
        self._rank = {pair: i for i, pair in enumerate(file.merges)}
        self._chunk_ids: dict[str, tuple[int, ...]] = {}
        if len(self.id_of) != len(self.pieces) - 1:
            raise BadInput("tokenizer: two tokens have the same piece; train it again")

    @property
    def vocabulary(self) -> int:
        return len(self.pieces)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the canonical token ids of a text. Raises BadInput naming the first character it does not know."""
        ids: list[int] = []
        for chunk in _CHUNKS.findall(text):
            known = self._chunk_ids.get(chunk)
            if known is None:
                self._check_characters(text)
                known = tuple(self.id_of[piece] for piece in apply_merges(chunk, self._rank))
                if len(self._chunk_ids) < 100_000:
                    self._chunk_ids[chunk] = known
            ids.extend(known)
        return tuple(ids)

    def tokens(self, text: str) -> list[Token]:
        """Return the canonical tokens of a text with the span that each covers."""
        tokens: list[Token] = []
        start = 0
        for token_id in self.encode(text):
            piece = self.pieces[token_id]
            tokens.append(Token(token_id, piece, start, start + len(piece)))
            start += len(piece)
        return tokens

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids; the end token adds nothing."""
        pieces = self.pieces
        return "".join([pieces[i] for i in ids])

    def _check_characters(self, text: str) -> None:
        for position, character in enumerate(text):
            if character not in self.id_of:
                raise BadInput(
                    f"unknown character {character!r} (U+{ord(character):04X}) at position {position}; this policy's "
                    "tokenizer knows printable ASCII and newline only"
                )


def apply_merges(chunk: str, rank: dict[tuple[str, str], int]) -> list[str]:
    """Split a chunk into characters and merge neighbours, the earliest merge first, leftmost first."""
    pieces = list(chunk)
    while len(pieces) > 1:
        best = min(itertools.pairwise(pieces), key=lambda pair: rank.get(pair, len(rank)))
        if best not in rank:
            break
        pieces = _merged(pieces, best)
    return pieces


def train_tokenizer(corpus: Iterable[str], merges: int, alphabet: str = ALPHABET) -> TokenizerFile:
    """Learn merges from a corpus: the most frequent pair first, ties broken by the pair itself, so order is irrelevant."""
    counts: Counter[str] = Counter()
    for text in corpus:
        counts.update(_CHUNKS.findall(text))
    chunks = {chunk: list(chunk) for chunk in counts}
    learned: list[tuple[str, str]] = []
    while len(learned) < merges:
        pairs: Counter[tuple[str, str]] = Counter()
        for chunk, pieces in chunks.items():
            for pair in itertools.pairwise(pieces):
                pairs[pair] += counts[chunk]
        made = {a + b for a, b in learned}
        candidates = [(-count, pair) for pair, count in pairs.items() if pair[0] + pair[1] not in made]
        if not candidates:
            break
        best = min(candidates)[1]
        learned.append(best)
        chunks = {chunk: _merged(pieces, best) for chunk, pieces in chunks.items()}
    return TokenizerFile(alphabet, tuple(learned))


def _merged(pieces: Sequence[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    i = 0
    while i < len(pieces):
        if i + 1 < len(pieces) and pieces[i] == pair[0] and pieces[i + 1] == pair[1]:
            out.append(pieces[i] + pieces[i + 1])
            i += 2
        else:
            out.append(pieces[i])
            i += 1
    return out
