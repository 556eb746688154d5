"""A golden text as something else wrote it: what a scorer that unescapes, decodes or unpacks its input takes for the text."""

from __future__ import annotations

import base64
import codecs
import json
import unicodedata
from collections.abc import Callable, Iterator

_Encode = Callable[[str], str]


def _each(write: Callable[[str], str]) -> _Encode:
    return lambda text: "".join(map(write, text))


def _named(character: str) -> str:
    return f"\\N{{{unicodedata.name(character, 'SPACE')}}}"


_CHARACTER_BY_CHARACTER: dict[str, _Encode] = {
    "HTML entity": _each(lambda c: f"&#{ord(c)};"),
    "HTML entity, hexadecimal": _each(lambda c: f"&#x{ord(c):x};"),
    "HTML entity twice": _each(lambda c: f"&amp;#{ord(c)};"),
    "percent escape": _each(lambda c: "".join(f"%{byte:02X}" for byte in c.encode("utf-8", "surrogatepass"))),
    "percent escape twice": _each(lambda c: "".join(f"%25{byte:02X}" for byte in c.encode("utf-8", "surrogatepass"))),
    "backslash escape, u": _each(lambda c: f"\\u{ord(c):04x}"),
    "backslash escape, x": _each(lambda c: f"\\x{ord(c):02x}"),
    "backslash escape, octal": _each(lambda c: f"\\{ord(c):03o}"),
    "backslash escape, name": _each(_named),
    "backslash before": _each(lambda c: f"\\{c}"),
    "quoted-printable": _each(lambda c: "".join(f"={byte:02X}" for byte in c.encode("utf-8", "surrogatepass"))),
}
_WHOLE: dict[str, _Encode] = {
    "base64": lambda text: base64.b64encode(text.encode("utf-8", "surrogatepass")).decode("ascii"),
    "hexadecimal bytes": lambda text: text.encode("utf-8", "surrogatepass").hex(),
    "rot13": lambda text: codecs.encode(text, "rot13"),
    "JSON string": json.dumps,
    "JSON list": lambda text: json.dumps([text]),
    "Python literal": repr,
    "Python bytes": lambda text: repr(text.encode("utf-8", "surrogatepass")),
    "backwards": lambda text: text[::-1],
    "UTF-16 taken for Latin-1": lambda text: text.encode("utf-16-le", "surrogatepass").decode("latin-1"),
}


def encoded(golden: str, before: str, answer: str, after: str) -> Iterator[tuple[str, str, str]]:
    """Yield (attack, text, what in it is encoded): the answer, the first character, and the whole text."""
    for name, encode in _CHARACTER_BY_CHARACTER.items():
        yield name, before + encode(answer) + after, encode(answer)
        yield name, encode(golden[:1]) + golden[1:], encode(golden[:1])
        yield name, encode(golden), encode(golden)
    for name, encode in _WHOLE.items():
        yield name, encode(golden), encode(golden)
        if answer:
            yield f"{name}, the answer alone", before + encode(answer) + after, encode(answer)
