"""Datasets in: JSON Lines, CSV or Parquet to validated examples, streamed, exact about the first bad row.

A batch is first tested as a whole, with checks that cost nanoseconds a row. Only a batch that looks suspicious is read
row by row, which either clears it or names the first bad row in file order. A reader that meets a row it cannot decode
hands over the good rows before it, then raises, so that an earlier trouble of another kind still wins.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile
from operator import lt
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.dataset.sealed import refuse_sealed
from lockedroom.dataset.tables import FIELDS, Part, csv_parts, parquet_parts, saved_parts, shown
from lockedroom.errors import BadInput
from lockedroom.jsonl import decode_line, open_for_reading, read_batches
from lockedroom.records import Example

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_encoder = msgspec.json.Encoder(order="deterministic")

FirstRefused = Callable[[Sequence[Any]], int | None]


def read_examples(
    path: Path, first_refused: FirstRefused | None = None, *, scorer_name: str = ""
) -> Iterator[list[Example]]:
    """Yield the examples of a `.jsonl`, `.csv` or `.parquet` file, or of a folder that `datasets` saved, in batches.

    `first_refused(answers)` gives the index of the first expected answer that the scorer cannot judge, or None.
    Raises BadInput, naming file, line and field, at the first bad row (the rows of earlier batches were yielded), and
    MissingExtra for Parquet without pyarrow, and Sealed for a sealed holdout. Memory: constant while ids ascend;
    otherwise about 80 bytes a row.
    """
    refuse_sealed(path)
    reader = saved_parts if path.is_dir() else _READERS.get(path.suffix.lower())
    if reader is None and not path.exists():
        raise BadInput(f"{path}: no such file or folder; check the path")
    if reader is None:
        raise BadInput(
            f"{path}: the format is told by the suffix, and {path.suffix or 'none'!r} is not one of "
            f"{', '.join(_READERS)}; convert or rename the file"
        )
    return _checked(path, reader, first_refused, scorer_name)


def first_refused_by(accepts: Callable[[Any], bool]) -> FirstRefused:
    """Turn a scorer's `accepts` into what `read_examples` asks for."""
    return lambda answers: next((i for i, answer in enumerate(answers) if not accepts(answer)), None)


def canonical_line(examples: Sequence[Example]) -> bytes:
    """Return the bytes that a room hashes: one JSON object a line, each line ended by a newline.

    They equal `json.dumps(row, ensure_ascii=False, separators=(",", ":"))` in UTF-8, where `row` holds `id`, `prompt`,
    `expected_answer` and, unless it is null or absent, `metadata`, in this order; keys of nested objects are sorted.
    """
    if not _plain(examples) and any(map(_holds_float, examples)):
        # msgspec writes 0.00001 where Python writes 1e-05; Python's form is the one a stranger can recompute.
        return b"".join(map(_canonical_slowly, examples))
    return _encoder.encode_lines(examples)


def content_key(example: Example) -> bytes:
    """Identify what an example asks and expects, whatever its id: 16 bytes of BLAKE2b over prompt and answer.

    An integer and its decimal string are one answer.
    """
    answer = example.expected_answer
    content = (example.prompt, str(answer) if type(answer) is int else answer)
    return hashlib.blake2b(_encoder.encode(content), digest_size=16).digest()


class SeenIds:
    """The ids met so far: only the last one while they ascend, and from the first that does not, a hash of each.

    Ids that ascend cannot repeat. `earlier_ids` reads the ids of earlier parts again, should their hashes be needed
    after all. The memory never depends on how long the ids are.
    """

    def __init__(self, hash_of: Callable[[str], int] = hash) -> None:
        self._hash_of = hash_of
        self._last = ""
        self._hashes: set[int] | None = None

    def all_new(self, ids: Sequence[str], earlier_ids: Iterable[Iterable[str]]) -> bool:
        """Add the ids; False says that one may have been met before (or that two hashes collide)."""
        if self._hashes is None:
            if self._last < ids[0] and all(map(lt, ids, ids[1:])):
                self._last = ids[-1]
                return True
            self._hashes = set()
            for earlier in earlier_ids:
                self._hashes.update(map(self._hash_of, earlier))
        expected = len(self._hashes) + len(ids)
        self._hashes.update(map(self._hash_of, ids))
        return len(self._hashes) == expected


def _checked(
    path: Path, reader: Callable[[Path], Iterator[Part]], first_refused: FirstRefused | None, scorer_name: str
) -> Iterator[list[Example]]:
    seen = SeenIds()
    count = 0
    for part in reader(path):
        ids = [row.id for row in part.rows]
        troubles = [] if _looks_clean(part, ids) else [_row_trouble(part)]
        # A generator that is not asked reads nothing.
        if not seen.all_new(ids, ([row.id for row in earlier.rows] for earlier in _parts_before(path, reader, part))):
            troubles.append(_repeated_id(_parts_before(path, reader, part), part))
        if first_refused is not None:
            troubles.append(_refused_answer(part, first_refused, scorer_name))
        found = [trouble for trouble in troubles if trouble is not None]
        if found:
            index, message = min(found, key=lambda trouble: trouble[0])
            raise BadInput(f"{part.where(path, index)}: {message}")
        count += len(part.rows)
        yield part.rows
    if count == 0:
        raise BadInput(f"{path}: holds no examples; give a file with at least one")


def _looks_clean(part: Part, ids: list[str]) -> bool:
    """Say whether no row of the part can be bad by itself; False is a suspicion, not a verdict."""
    if not all(ids) or not "".join(ids).isprintable():
        return False
    if part.raw is not None and b"\\" not in part.raw:
        # Without escapes there is no NUL and no lone surrogate; and if there are just as many quotes as three fields
        # need, no field stands twice (the JSON decoders keep the last of two and say nothing).
        strings = [type(row.expected_answer) for row in part.rows].count(str)
        if part.raw.count(b'"') == 10 * len(part.rows) + 2 * strings:
            return True
    try:
        encoded = _encoder.encode_lines(part.rows)
    except UnicodeEncodeError:  # a lone surrogate
        return False
    if b"\\u0000" in encoded:
        return False
    return part.raw is None or (part.raw.count(b'"') == encoded.count(b'"') and b"\\u0022" not in part.raw)


def _row_trouble(part: Part) -> tuple[int, str] | None:
    """Give the index of the first row that is bad by itself, and the message."""
    lines = [None] * len(part.rows) if part.raw is None else part.raw.removesuffix(b"\n").split(b"\n")
    for index, (row, line) in enumerate(zip(part.rows, lines, strict=True)):
        message = _text_trouble(row) or (line and _repeated_field(line))
        if message:
            return index, message
    return None


def _text_trouble(row: Example) -> str | None:
    if not row.id:
        return "id: expected at least one character, got an empty string; give every example its own id"
    for field in FIELDS:
        for text in _leaves(getattr(row, field)):
            if not isinstance(text, str):
                continue
            if not _encodes(text):
                return f"{field}: holds a lone surrogate, which is not a character: {shown(text)}; remove it"
            if "\0" in text and field != "metadata":
                return f"{field}: holds a NUL character: {shown(text)}; remove it"
    if _CONTROL.search(row.id):
        return f"id: holds a control character: {shown(row.id)}; use printable characters"
    return None


def _leaves(value: Any) -> list[Any]:
    """Return every key and every value that is not a container in a JSON value."""
    found = []
    waiting = [value]
    while waiting:  # no recursion, because a value may be nested as deeply as the decoder could go
        item = waiting.pop()
        if isinstance(item, dict):
            waiting.extend((*item, *item.values()))
        elif isinstance(item, list):
            waiting.extend(item)
        else:
            found.append(item)
    return found


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _repeated_field(line: bytes) -> str | None:
    repeated: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        repeated.extend(name for i, name in enumerate(names) if name in names[:i])

    json.loads(line, object_pairs_hook=note, parse_int=str)
    return f"the field {shown(repeated[0])} stands twice in one object; keep one" if repeated else None


def _parts_before(path: Path, reader: Callable[[Path], Iterator[Part]], part: Part) -> Iterator[Part]:
    """Read the file again, up to this part."""
    return takewhile(lambda earlier: earlier.lines[0] < part.lines[0], reader(path))


def _repeated_id(before: Iterator[Part], part: Part) -> tuple[int, str] | None:
    """Look for the ids themselves, because only hashes were kept; None when two hashes merely collided."""
    wanted = {row.id for row in part.rows}
    line_of: dict[str, int] = {}
    for earlier in before:
        for row, line in zip(earlier.rows, earlier.lines, strict=True):
            if row.id in wanted:
                line_of.setdefault(row.id, line)
    for index, row in enumerate(part.rows):
        if row.id in line_of:
            where = "row" if part.unit.endswith("row ") else "line"
            return index, (
                f"id: {shown(row.id)} appears twice, first on {where} {line_of[row.id]}; give every example its own id"
            )
        line_of[row.id] = part.lines[index]
    return None


def _refused_answer(part: Part, first_refused: FirstRefused, scorer_name: str) -> tuple[int, str] | None:
    index = first_refused([row.expected_answer for row in part.rows])
    if index is None:
        return None
    answer = shown(part.rows[index].expected_answer)
    scorer = f"the scorer {scorer_name}" if scorer_name else "the scorer"
    return index, f"expected_answer: {scorer} cannot judge {answer}; correct it, or name a scorer that can"


def _plain(examples: Sequence[Example]) -> bool:
    """Say whether no example can hold a float."""
    kinds = set(map(type, [example.expected_answer for example in examples]))
    return kinds <= {int, str, bool, type(None)} and [example.metadata for example in examples].count(None) == len(
        examples
    )


def _holds_float(example: Example) -> bool:
    return float in map(type, _leaves([example.expected_answer, example.metadata]))


def _canonical_slowly(example: Example) -> bytes:
    row = msgspec.to_builtins(example)
    ordered = {field: _sorted(row[field]) for field in FIELDS if field in row}
    return json.dumps(ordered, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _jsonl_parts(path: Path) -> Iterator[Part]:
    offset = 0
    line = 1
    batches = read_batches(path, Example)
    while True:
        try:
            batch = next(batches, None)
        except BadInput:
            part = _rows_before_trouble(path, offset, line)
            if part.rows:
                yield part
            raise
        if batch is None:
            return
        yield Part(batch.rows, range(line, line + len(batch.rows)), batch.raw)
        offset += len(batch.raw)
        line += len(batch.rows)


def _rows_before_trouble(path: Path, offset: int, first_line: int) -> Part:
    """Read the rows from a byte offset on, up to the one that does not decode."""
    decoder = msgspec.json.Decoder(Example)
    rows: list[Example] = []
    raw: list[bytes] = []
    with open_for_reading(path) as file:
        file.seek(offset)
        while True:
            text = file.readline()
            line = first_line + len(rows)
            try:
                rows.append(decode_line(path, line, text.removesuffix(b"\n"), decoder, Example))
            except BadInput:
                return Part(rows, range(first_line, line), b"".join(raw))
            raw.append(text)


_READERS: dict[str, Callable[[Path], Iterator[Part]]] = {
    ".jsonl": _jsonl_parts,
    ".csv": csv_parts,
    ".parquet": parquet_parts,
}
