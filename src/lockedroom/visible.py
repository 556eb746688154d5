"""Hostile text made safe and readable for a terminal.

A completion may hold terminal escapes, bidirectional overrides, zero-width characters or lone surrogates. Everything
that is not plainly printable is shown as what it is, so that nothing moves the cursor and nothing hides.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container

from lockedroom.wording import counted

_NAMED = {"\n": "⏎", "\t": "⇥", "\r": "␍", "\0": "␀", "\x1b": "␛", "\x7f": "␡"}
# The signs that stand for something else are shown by code point themselves, so that no two texts look alike.
SIGNS = frozenset((*_NAMED.values(), "⟨"))
# Letters and symbols by category that have no ink: Hangul fillers, the blank Braille pattern, the null notehead.
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0\U0001d159")
# Letters, marks that combine are shown by code point, numbers, punctuation, symbols; of the separators only the space.
_SAFE_CATEGORIES = frozenset(
    ("Lu", "Ll", "Lt", "Lm", "Lo", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So")
)


def visible(text: str, limit: int | None = None, *, kept: Container[str] = ()) -> str:
    """Return `text` on one line, every control, format, surrogate or odd space character shown by name or ⟨U+XXXX⟩.

    `limit` cuts after that many characters of the original and says how many are left out. `kept`: characters that stay
    (`SIGNS` in a text whose parts were made visible before: it is not done twice).
    """
    shown = text if limit is None or len(text) <= limit else text[:limit]
    if shown.isascii() and shown.isprintable():
        out = shown
    else:
        out = "".join(one if one in kept else _visible_character(one) for one in shown)
    return out if len(shown) == len(text) else f"{out} … (+{counted(len(text) - len(shown), 'character')})"


def display_width(text: str) -> int:
    """Return how many columns of a terminal the text takes: two for a CJK character or an emoji, none for a combining mark."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def padded(text: str, width: int, fill: str = " ", *, right: bool = False) -> str:
    """Return the text filled up to `width` columns of a terminal, set right if asked; a longer one as it is."""
    missing = fill * (width - display_width(text))
    return missing + text if right else text + missing


def ascii_json(encoded: bytes) -> str:
    """Return JSON with everything outside printable ASCII escaped: the same values, and nothing a terminal obeys."""
    return re.sub(r"[^ -~\n]", _json_escape, encoded.decode())


def _json_escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _visible_character(character: str) -> str:
    if character == " " or (character.isascii() and character.isprintable()):
        return character
    if character in _NAMED:
        return _NAMED[character]
    if unicodedata.category(character) in _SAFE_CATEGORIES and character not in SIGNS | _BLANK:
        return character
    return f"⟨U+{ord(character):04X}⟩"
