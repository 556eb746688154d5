"""What a scorer compares a text with: words that no constant of its source shows, because it joins, formats or decodes them.

`Overheard` is a text that remembers what it was searched for; it hands the same ears on to what is made of it. The verdict on
it is thrown away: only what was heard counts.
"""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any, Self

LONGEST, MOST = 200, 200
_heard: dict[str, None] = {}


class Overheard(str):
    """A string that notes every text it is compared with, searched for, or cut at."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        note(other)
        return str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        note(other)
        return str.__ne__(self, other)

    def __contains__(self, other: Any) -> bool:
        note(other)
        return str.__contains__(self, other)

    def __getitem__(self, key: Any) -> Any:
        return Overheard(str.__getitem__(self, key))


def note(what: object) -> None:
    """Keep a text, or the texts of a tuple, that may be written again."""
    for one in what if isinstance(what, tuple) else (what,):
        if (
            isinstance(one, str)
            and 0 < len(one) <= LONGEST
            and len(_heard) < MOST
            and not re.search("[\ud800-\udfff]", one)
        ):
            _heard[str.__str__(one)] = None


def _with_ears(name: str) -> Callable[..., Any]:
    plain = getattr(str, name)

    def method(self: Overheard, *arguments: Any, **named: Any) -> Any:
        for argument in (*arguments, *named.values()):
            note(argument)
        made = plain(self, *arguments, **named)
        if isinstance(made, str):
            return Overheard(made)
        if isinstance(made, (list, tuple)):
            return type(made)(Overheard(one) for one in made)
        return made

    return method


for _name in (
    "startswith", "endswith", "find", "rfind", "index", "rindex", "count", "split", "rsplit", "splitlines", "partition", "rpartition",
    "replace", "removeprefix", "removesuffix", "strip", "lstrip", "rstrip", "lower", "upper", "casefold", "title", "swapcase",
    "capitalize", "translate",
):  # fmt: skip
    setattr(Overheard, _name, _with_ears(_name))


class Listening:
    """A context manager that collects texts and, as `[pattern, flags]`, the regular expressions that were matched."""

    def __init__(self) -> None:
        self.patterns: dict[tuple[str, int], None] = {}

    def __enter__(self) -> Self:
        _heard.clear()
        sys.setprofile(self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _hear(self, _frame: types.FrameType, event: str, argument: Any) -> None:
        owner = getattr(argument, "__self__", None) if event == "c_call" else None
        if isinstance(owner, re.Pattern) and isinstance(owner.pattern, str) and len(owner.pattern) <= LONGEST:
            self.patterns[owner.pattern, owner.flags] = None

    def told(self) -> dict[str, list[Any]]:
        """Return what was heard, as JSON holds it."""
        return {"texts": list(_heard), "patterns": [list(one) for one in _writable(self.patterns)][:MOST]}


def _writable(patterns: Iterable[tuple[str, int]]) -> Iterable[tuple[str, int]]:
    return (one for one in patterns if one[0].isascii() or not re.search("[\ud800-\udfff]", one[0]))
