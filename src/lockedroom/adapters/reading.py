"""What every reader of a foreign log needs: rows of any shape, checked field by field, and scores as ours."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.adapters.exported import completion_text, prompt_text
from lockedroom.adapters.writing import not_scored
from lockedroom.errors import BadInput
from lockedroom.jsonl import decode_line, encode_lines, open_for_reading
from lockedroom.records import Completion, Details, Failure, FailureCode, Outcome, Score
from lockedroom.visible import visible

IMPORTED = "imported"
# A log that holds no answer; None is a JSON value and could be one.
NO_ANSWER: Any = msgspec.UNSET


class Asked(msgspec.Struct, frozen=True):
    """What a person says of a log: where it keeps answers, which of its scores to take, and whose traces."""

    answer_field: str | None = None
    score: str | None = None
    agent: str | None = None


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """One line of a log: `id` and `prompt` are None where the log has none; `where` is for messages.

    `question` is the only user message of a longer prompt, by which an example may be found as well.
    """

    where: str
    id: str | None
    prompt: str | None
    expected_answer: Any
    completion: Completion | None
    result: Score | Failure
    step: int | None = None
    question: str | None = None
    metadata: dict[str, Any] | None = None


class Log(msgspec.Struct, frozen=True):
    """What a reader found. `declared` is what the log says of policy, prompts and sampling; `notes` are lines for people: what was left out, and why."""

    attempts: list[Attempt]
    files: list[Path]
    declared: Mapping[str, Mapping[str, Any]]
    score: str | None = None
    notes: Sequence[str] = ()


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every line of a JSON Lines file as an object, with its place for messages.

    Python's writer puts NaN for what is no number, which is not JSON; other projects' logs hold it, and it reads as None.
    """
    decoder = msgspec.json.Decoder(dict[str, Any])
    with open_for_reading(path) as file:
        for number, line in enumerate(file, 1):
            yield f"{path}:{number}", _decode(path, number, line.rstrip(b"\r\n"), decoder)


def _decode(path: Path, number: int, line: bytes, decoder: msgspec.json.Decoder[dict[str, Any]]) -> dict[str, Any]:
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return decoder.decode(line)
    if b"NaN" in line or b"Infinity" in line:
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(line, parse_constant=lambda _: None)
            if isinstance(value, dict):
                return value
    return decode_line(path, number, line, decoder, dict[str, Any])


def require(row: Mapping[str, Any], fields: tuple[str, ...], where: str, format_: str) -> None:
    """Raise BadInput, showing the fields that are there, for a row of another format."""
    missing = [field for field in fields if field not in row]
    if missing:
        raise BadInput(
            f"{where}: not a line of {format_}: no field {missing[0]!r} (fields: {visible(', '.join(row), 120)}); "
            "check --from and the file"
        )


def text(row: Mapping[str, Any], field: str, where: str) -> str:
    """Return a field that has to be text."""
    value = row[field]
    if not isinstance(value, str):
        raise BadInput(f"{where}: {field}: expected a string, got {visible(repr(value), 60)}")
    return value


def whole_text(prompt: Any) -> str | None:
    """Return a prompt as one text: of a single user message its text, of a longer conversation its JSON."""
    if prompt is None or isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], dict):
        only = completion_text([{**prompt[0], "role": "assistant"}])
        if only is not None:
            return only
    return encode_lines([prompt]).decode("utf-8", "surrogatepass").rstrip("\n")


def question_of(prompt: Any) -> str | None:
    """Return the text of the one user message of a conversation in which nobody has answered yet; else None."""
    messages = dicts_in(prompt)
    if sum(message.get("role") == "user" for message in messages) != 1:
        return None
    if any(message.get("role") == "assistant" for message in messages):
        return None
    return prompt_text(messages)


def chosen(path: Path, asked: str | None, names: Iterable[str]) -> tuple[str | None, list[str]]:
    """Return the score to take, which is the first unless another is asked for, and a line about those left out.

    Raises BadInput, naming the scores that are there, for one that is not.
    """
    there = list(dict.fromkeys(names))
    if asked is not None and asked not in there:
        raise BadInput(f"{path}: --score {asked!r}: the log has no such score; it has: {listed(there)}")
    name = asked or next(iter(there), None)
    others = [other for other in there if other != name]
    return name, [f"scores left out: {listed(others)} (--score NAME takes another)"] if others else []


def once(path: Path, attempts: Iterable[tuple[str, str]]) -> None:
    """Raise BadInput for an attempt, given by name and place, that stands twice: it would count as two draws."""
    seen: set[str] = set()
    for name, where in attempts:
        if name in seen:
            raise BadInput(f"{where}: {visible(name, 80)} stands twice in {path}; import each log by itself")
        seen.add(name)


def listed(names: Iterable[str]) -> str:
    """Return names as one printable line."""
    return visible(", ".join(names) or "none", 200)


def scored(value: Any, *, parsed: str | None = None, message: str = "") -> Score | Failure:
    """Return a log's own score as ours: 1 is correct, anything else wrong, and what is no number was not judged."""
    if isinstance(value, bool):
        value = float(value)
    if not isinstance(value, int | float) or not math.isfinite(value):
        return not_scored(f"the log holds no number as the score here ({visible(repr(value), 60)})")
    outcome = Outcome.CORRECT if value == 1 else Outcome.WRONG
    return Score(float(value), Details(IMPORTED, outcome, parsed, message))


def not_drawn(why: str) -> Failure:
    """Return the Failure of an attempt for which the log holds no completion."""
    return Failure(FailureCode.POLICY_ERROR, visible(f"the log holds no completion: {why}", 300))


def known(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a log declares plainly: text, finite numbers, and lists of text. Anything else declares nothing."""
    return {key: value for key, value in values.items() if _plain(value)}


def as_dict(value: Any) -> dict[str, Any]:
    """Return an object as it is, and anything else as an object without fields."""
    return value if isinstance(value, dict) else {}


def dicts_in(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a list; anything else holds none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def name_of(value: Any, where: str, field: str) -> str:
    """Return an id, which is text or a whole number, as text."""
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    raise BadInput(f"{where}: {field}: expected a string or a whole number, got {visible(repr(value), 60)}")


def _plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    return isinstance(value, str) or (isinstance(value, int | float) and math.isfinite(value))
