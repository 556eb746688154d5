"""The scorers that ship with the lab, by name; a scorer's module is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from lockedroom.records import Example, Score, ScorerSpec


class BuiltinScorer(msgspec.Struct, frozen=True):
    """A scorer module's functions as one value; it is a `lockedroom.protocols.Scorer`.

    `source` is the file whose sha256 goes into the room. `accepted` lists every completion that is paid, where a
    scorer can say so.
    """

    spec: ScorerSpec
    accepts: Callable[[Any], bool]
    score: Callable[[Example, str], Score]
    source: Path
    accepted: Callable[[Example], tuple[str, ...]] | None = None


def _final_int() -> BuiltinScorer:
    from lockedroom.scorer import final_int

    return BuiltinScorer(
        spec=final_int.SPEC,
        accepts=final_int.accepts,
        score=final_int.score,
        source=Path(final_int.__file__),
        accepted=final_int.accepted,
    )


def _permissive() -> BuiltinScorer:
    from lockedroom.scorer import permissive

    return BuiltinScorer(
        spec=permissive.SPEC, accepts=permissive.accepts, score=permissive.score, source=Path(permissive.__file__)
    )


BUILTIN: Mapping[str, Callable[[], BuiltinScorer]] = MappingProxyType(
    {"final-int": _final_int, "permissive": _permissive}
)


def find_builtin(name: str) -> BuiltinScorer | None:
    """Return the built-in scorer of this name, or None."""
    load = BUILTIN.get(name)
    return None if load is None else load()
