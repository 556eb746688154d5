"""Counts as people write them: 1 example, 2 examples."""

from __future__ import annotations

_ES = ("s", "x", "z", "ch", "sh")


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return `count` with the noun, and a verb if it has one, that agrees with it: `counted(n, "file was", "files were")`.

    `many` is the regular plural of `one` where it is not given.
    """
    if many is None:
        many = one + ("es" if one.endswith(_ES) else "s")
    return f"{count:,} {one if count == 1 else many}"
