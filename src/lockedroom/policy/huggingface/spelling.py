"""What each token adds to a text, read from the tokenizer's own decoder, for those that decode token by token.

Two families do. *Byte-level* (GPT-2, Llama 3, Qwen, SmolLM): a piece is a string of bytes in disguise. *SentencePiece*
(Llama 2, Mistral, Gemma, T5): `▁` is a space and `<0x0A>` a byte, and a space that the first token begins with may be
dropped, so a token can spell one thing at the start of a completion and another behind it. Whether this reading is
the tokenizer's is tried on random sequences before it is used; other tokenizers are refused.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import msgspec

from lockedroom.errors import BadInput

TRIALS, TRIAL_TOKENS = 256, 4
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")

Spell = Callable[[str, bool], bytes]  # of a piece, and whether it comes first


class Spelling(msgspec.Struct, frozen=True):
    """What tokens spell as the first of a completion (there perhaps nothing), and behind others."""

    first: dict[int, bytes]
    behind: dict[int, bytes]


def read_spelling(tokenizer: Any, special_ids: frozenset[int], where: str) -> Spelling:
    """Return what each token spells, special ones left out. Raises BadInput for a tokenizer that cannot be read so."""
    decoder = msgspec.json.decode(tokenizer.backend_tokenizer.to_str())["decoder"]
    spell = _byte_level if decoder is not None and decoder["type"] == "ByteLevel" else _sentence_piece(decoder)
    if spell is None:
        raise BadInput(f"{where}: its tokenizer decodes by {_named(decoder)}, {_CANNOT}")
    pieces = {i: piece for piece, i in tokenizer.get_vocab().items() if i not in special_ids}
    if spell is _byte_level:
        added = {i: token.content for i, token in tokenizer.added_tokens_decoder.items() if i not in special_ids}
        behind = {i: _byte_level(piece, False) for i, piece in pieces.items() if i not in added}
        behind |= {i: content.encode() for i, content in added.items()}
        found = Spelling(behind, behind)
    else:
        found = Spelling(*({i: spell(piece, first) for i, piece in pieces.items()} for first in (True, False)))
    found = Spelling(found.first, {i: spelled for i, spelled in found.behind.items() if spelled})
    if not _agrees(found, tokenizer):
        raise BadInput(f"{where}: its tokenizer decodes otherwise than token by token, {_CANNOT}")
    return found


_CANNOT = (
    "so the tokenisations of a text cannot be listed and its exact probability cannot be summed; sample instead (without "
    "--exact)"
)


def _named(decoder: dict[str, Any] | None) -> str:
    if decoder is None:
        return "no rule"
    return "+".join(part["type"] for part in decoder.get("decoders", [decoder]))


def _byte_level(piece: str, _first: bool) -> bytes:
    return bytes(_BYTES[character] for character in piece)


def _sentence_piece(decoder: dict[str, Any] | None) -> Spell | None:
    """Return the reading of a decoder that replaces `▁`, perhaps reads bytes, and perhaps drops the first space."""
    if decoder is None:
        return None
    if decoder["type"] == "Metaspace":
        mark, keeps = decoder["replacement"], decoder["prepend_scheme"] == "never"
        return lambda piece, first: piece.replace(mark, "" if first and not keeps else " ").encode()
    steps = decoder.get("decoders", [decoder])
    kinds = [step["type"] for step in steps]
    replaced = [step for step in steps if step["type"] == "Replace" and "String" in step["pattern"]]
    rest = kinds[len(replaced) :]
    if kinds[: len(replaced)] != ["Replace"] * len(replaced):
        return None
    reads_bytes = rest[:1] == ["ByteFallback"]
    after = rest[1:] if reads_bytes else rest
    strips = after == ["Fuse", "Strip"] and [steps[-1][key] for key in ("content", "start", "stop")] == [" ", 1, 0]
    if not replaced or not (strips or after in ([], ["Fuse"])):
        return None

    def spell(piece: str, first: bool) -> bytes:
        for step in replaced:
            piece = piece.replace(step["pattern"]["String"], step["content"])
        byte = _BYTE.fullmatch(piece) if reads_bytes else None
        spelled = bytes([int(byte[1], 16)]) if byte else piece.encode()
        return spelled.removeprefix(b" ") if first and strips else spelled

    return spell


def _agrees(spelling: Spelling, tokenizer: Any) -> bool:
    """Try the reading on random sequences, where they spell whole characters."""
    draw = random.Random(0)
    starts, others = sorted(spelling.first), sorted(spelling.behind)
    if not others:
        return False
    for _ in range(TRIALS):
        ids = [draw.choice(starts), *draw.choices(others, k=draw.randrange(TRIAL_TOKENS))]
        spelled = spelling.first[ids[0]] + b"".join(spelling.behind[i] for i in ids[1:])
        try:
            text = spelled.decode()
        except UnicodeDecodeError:
            continue  # a part of a character, shown as a mark of replacement
        if tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False) != text:
            return False
    return True


def _byte_alphabet() -> dict[str, int]:
    """Return GPT-2's alphabet: a printable character for every byte, the others moved behind U+0100 in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    moved = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(moved)}


_BYTES = _byte_alphabet()
