"""The characters that scorers are known to get wrong, as data. Names come from the Unicode database that Python has."""

from __future__ import annotations

import functools
import sys
import unicodedata

# Digits 0 to 9 in forms that `isdigit` or NFKC take for digits, and `int` does not.
SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹"
SUBSCRIPT = "₀₁₂₃₄₅₆₇₈₉"
CIRCLED = "⓪①②③④⑤⑥⑦⑧⑨"
PARENTHESISED = "0⑴⑵⑶⑷⑸⑹⑺⑻⑼"
NEGATIVE_CIRCLED = "⓿❶❷❸❹❺❻❼❽❾"
FULL_STOP = "🄀⒈⒉⒊⒋⒌⒍⒎⒏⒐"
HAN = "〇一二三四五六七八九"
DIGIT_FORMS = {
    "superscript digits": SUPERSCRIPT,
    "subscript digits": SUBSCRIPT,
    "circled digits": CIRCLED,
    "parenthesised digits": PARENTHESISED,
    "negative circled digits": NEGATIVE_CIRCLED,
    "digits with full stop": FULL_STOP,
    "Han digits": HAN,
}

MINUS_LOOK_ALIKES = "−‐‑‒–—―⁃﹣－➖᠆⸺⁻₋ー˗~"
# What `str.strip`, `str.split`, `\s` or a browser takes for a space, beyond the ASCII ones that are contested.
SPACES = (
    "\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000\x1c\x1d\x1e\x1f\x85"
)
LINE_BREAKS = "\v\f\r\x1c\x1d\x1e\x85\u2028\u2029"
INVISIBLE = (
    "\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f\u061c\u180e\u2061\u2062\u2063\u2064\ufe00\ufe0f\u115f\u3164\u2800"
    "\U000e0001\U000e0034\U000e007f\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u0301\u20e3"
)
CONTROLS = "\x00\x01\x03\x04\x07\x08\x1a\x1b\x7f"
SURROGATES = "\ud800\udbff\udc00\udcff\udfff"

# Letters that look like, or fold to, an ASCII letter.
LOOK_ALIKES = {
    "a": "аɑａ", "b": "Ьｂ", "c": "сｃ", "d": "ԁｄ", "e": "еｅ", "f": "ſｆ", "g": "ɡｇ", "h": "һｈ", "i": "іıİｉ", "k": "Kκｋ",
    "l": "Iӏｌ", "n": "ոｎ", "o": "оοｏ", "p": "рｐ", "r": "гｒ", "s": "ѕſｓ", "t": "тｔ", "u": "υｕ", "w": "ԝｗ",
    "x": "хｘ", "y": "уｙ", "A": "АΑＡ", "F": "ϜＦ", "I": "ІＩ", "N": "ΝＮ", "T": "ТＴ", ":": "：꞉∶ː", "#": "＃", "=": "＝",
    "{": "｛", "}": "｝", "\\": "＼", "*": "＊", "$": "＄", "<": "＜", ">": "＞",
}  # fmt: skip


@functools.cache
def decimal_scripts() -> dict[str, str]:
    """Return the ten digits of every script but ASCII that `str.isdecimal` and `int` take, by the name of its zero."""
    zeros = [chr(point) for point in range(0x80, sys.maxunicode + 1) if unicodedata.decimal(chr(point), None) == 0]
    return {unicodedata.name(zero).lower(): "".join(chr(ord(zero) + value) for value in range(10)) for zero in zeros}


def name_of(character: str) -> str:
    """Return `U+200B ZERO WIDTH SPACE`; controls and surrogates have no name of their own."""
    name = unicodedata.name(character, "")
    if not name:
        name = {"Cs": "LONE SURROGATE", "Cc": "CONTROL", "Co": "PRIVATE USE"}.get(unicodedata.category(character), "")
    return f"U+{ord(character):04X} {name}".rstrip()


def odd_characters(text: str) -> list[str]:
    """Return the different characters of a text that are not printable ASCII, in order."""
    return list(dict.fromkeys(c for c in text if not (c.isascii() and c.isprintable())))
