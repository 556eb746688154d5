"""The scorers that ship with the lab, by name; a scorer's module is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from lockedroom.records import Example, Score, ScorerSpec
from lockedroom.scorer.judgeable import first_refused


class BuiltinScorer(msgspec.Struct, frozen=True):
    """A scorer module's functions as one value; it is a `lockedroom.protocols.Scorer`.

    `first_refused` gives the position of the first answer that `accepts` does not accept, or None. `source` is the file
    whose sha256 goes into the room. Where a scorer can say so, `accepted` lists every completion
    that is paid, and `viable` tells whether a prefix can still become a completion that is not malformed.
    """

    spec: ScorerSpec
    accepts: Callable[[Any], bool]
    first_refused: Callable[[Sequence[Any]], int | None]
    score: Callable[[Example, str], Score]
    source: Path
    accepted: Callable[[Example], tuple[str, ...]] | None = None
    viable: Callable[[str], bool] | None = None


def _final_int() -> BuiltinScorer:
    from lockedroom.scorer import final_int

    return BuiltinScorer(
        spec=final_int.SPEC,
        accepts=final_int.accepts,
        first_refused=first_refused,
        score=final_int.score,
        source=Path(final_int.__file__),
        accepted=final_int.accepted,
        viable=final_int.viable,
    )


def _permissive() -> BuiltinScorer:
    from lockedroom.scorer import permissive

    return BuiltinScorer(
        spec=permissive.SPEC,
        accepts=permissive.accepts,
        first_refused=first_refused,
        score=permissive.score,
        source=Path(permissive.__file__),
    )


BUILTIN: Mapping[str, Callable[[], BuiltinScorer]] = MappingProxyType(
    {"final-int": _final_int, "permissive": _permissive}
)


def find_builtin(name: str) -> BuiltinScorer | None:
    """Return the built-in scorer of this name, or None."""
    load = BUILTIN.get(name)
    return None if load is None else load()
