"""Expected answers that are lists or objects: how a text may spell them, and the texts that say something else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

_COMPACT, _SPACED = (",", ":"), (", ", ": ")


def spellings(answer: Any) -> tuple[str, ...]:
    """Return how a text may spell an answer that is no integer: as Python writes it, as JSON, as compact JSON."""
    if isinstance(answer, str):
        return (answer,)
    return tuple(dict.fromkeys((repr(answer), *(_json(answer, separators) for separators in (_SPACED, _COMPACT)))))


def other_structures(answer: Any, spelled: str) -> Iterator[tuple[str, str]]:
    """Yield (attack, text) for answers near this one, written as `spelled` writes it."""
    if isinstance(answer, list):
        others = _other_lists(answer)
    elif isinstance(answer, dict):
        others = _other_objects(answer)
    else:
        return
    seen = {_json(answer, _COMPACT)}
    for attack, other in others:
        told = _json(other, _COMPACT)
        if told not in seen:
            seen.add(told)
            separators = next((one for one in (_SPACED, _COMPACT) if spelled == _json(answer, one)), None)
            yield attack, repr(other) if separators is None else _json(other, separators)


def _other_lists(answer: list[Any]) -> Iterator[tuple[str, Any]]:
    yield "in reverse order", answer[::-1]
    yield "in another order", answer[1:] + answer[:1]
    yield "without its first item", answer[1:]
    yield "without its last item", answer[:-1]
    yield "one item repeated", answer + answer[-1:]
    yield "with another item", [*answer, 987]
    yield "with another item before", [987, *answer]
    yield "another last item", [*answer[:-1], 987]
    yield "in a list", [answer]
    yield "items as text", [item if isinstance(item, str) else _json(item, _SPACED) for item in answer]
    yield "empty", []
    yield "null", None
    if len(answer) == 1:
        yield "its item alone", answer[0]


def _other_objects(answer: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key in list(answer)[:5]:
        yield "without a key", {name: value for name, value in answer.items() if name != key}
        yield "another value", {**answer, key: 987}
        yield "value as text", {**answer, key: _json(answer[key], _SPACED)}
        yield (
            "a key in another case",
            {name.swapcase() if name == key else name: value for name, value in answer.items()},
        )
    yield "with another key", {**answer, "another": 987}
    yield "in a list", [answer]
    yield "values alone", list(answer.values())
    yield "empty", {}


def _json(value: Any, separators: tuple[str, str]) -> str:
    return json.dumps(value, separators=separators, ensure_ascii=False)
