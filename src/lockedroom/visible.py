"""Hostile text made safe and readable for a terminal.

A completion may hold terminal escapes, bidirectional overrides, zero-width characters or lone surrogates. Everything
that is not plainly printable is shown as what it is, so that nothing moves the cursor and nothing hides.
"""

from __future__ import annotations

import unicodedata

_NAMED = {"\n": "⏎", "\t": "⇥", "\r": "␍", "\0": "␀", "\x1b": "␛", "\x7f": "␡"}
# Letters, marks that combine are shown by code point, numbers, punctuation, symbols; of the separators only the space.
_SAFE_CATEGORIES = frozenset(
    ("Lu", "Ll", "Lt", "Lm", "Lo", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So")
)


def visible(text: str, limit: int | None = None) -> str:
    """Return `text` on one line, every control, format, surrogate or odd space character shown by name or ⟨U+XXXX⟩.

    `limit` cuts after that many characters of the original and says how many are left out.
    """
    shown = text if limit is None or len(text) <= limit else text[:limit]
    out = shown if shown.isascii() and shown.isprintable() else "".join(map(_visible_character, shown))
    return out if len(shown) == len(text) else f"{out} … (+{len(text) - len(shown):,} characters)"


def _visible_character(character: str) -> str:
    if character == " " or (character.isascii() and character.isprintable()):
        return character
    if character in _NAMED:
        return _NAMED[character]
    if unicodedata.category(character) in _SAFE_CATEGORIES:
        return character
    return f"⟨U+{ord(character):04X}⟩"
