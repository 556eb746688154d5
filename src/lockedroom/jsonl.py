"""JSON Lines in and out: typed, streaming, and exact about the first bad line.

The fast path hands 256 kB blocks to msgspec. A block that does not decode as one object a line is read again line by
line, which either succeeds (lone surrogate escapes and integers of more than 4,300 digits are valid JSON that msgspec
refuses) or names the file, the line and the field.
"""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Generic, NoReturn, TypeVar

import msgspec

from lockedroom.errors import BadInput

T = TypeVar("T")

BLOCK_BYTES = 64 * 1024
# Python refuses to convert longer decimal strings to int, because the conversion is quadratic.
LONGEST_INT_DIGITS = 4300

_AT_FIELD = re.compile(r"^(?P<what>.*?)(?: - at `\$(?:\[\d+\])?\.?(?P<field>.*)`)?$", re.DOTALL)
_encoder = msgspec.json.Encoder()


class Batch(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """Rows of consecutive lines: `rows[i]` stands on line `first_line + i`, and `raw` is their bytes."""

    rows: list[T]
    first_line: int
    raw: bytes


def read_batches(
    path: Path, row_type: type[T], *, start: int = 0, stop: int | None = None, first_line: int = 1
) -> Iterator[Batch[T]]:
    """Yield the rows of a JSON Lines file in order, about 256 kB at a time.

    `start` and `stop` are byte offsets of line starts (`stop` None reads to the end).
    Raises BadInput, naming file, line and field, at the first line that is not one object of `row_type`.
    """
    decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(row_type)
    line = first_line
    with open_for_reading(path) as file:
        file.seek(start)
        for raw in _whole_lines(file, None if stop is None else stop - start):
            rows = _decode_block(decoder, raw)
            if rows is None:
                rows = [decode_line(path, line + i, text, decoder, row_type) for i, text in enumerate(_split(raw))]
            yield Batch(rows, line, raw)
            line += len(rows)


def line_offsets(path: Path, lines: Sequence[int]) -> list[int]:
    """Return the byte offset at which each line starts (counted from 0, ascending); past the end, the file's size."""
    offsets: list[int] = []
    seen = offset = 0
    wanted = iter(lines)
    line = next(wanted, None)
    with open_for_reading(path) as file:
        while line is not None:
            if line == seen:
                offsets.append(offset)
                line = next(wanted, None)
                continue
            block = file.read(BLOCK_BYTES)
            if not block:
                break
            within = block.count(b"\n")
            if seen + within < line:
                seen, offset = seen + within, offset + len(block)
                continue
            skipped = len(b"\n".join(block.split(b"\n", line - seen)[: line - seen])) + 1
            file.seek(offset + skipped)
            seen, offset = line, offset + skipped
    return offsets + [offset] * (len(lines) - len(offsets))


def encode_lines(rows: Sequence[Any]) -> bytes:
    """Encode one JSON object a line. A lone surrogate is written as its escape, so nothing a policy wrote is lost."""
    try:
        return _encoder.encode_lines(rows)
    except UnicodeEncodeError:
        return b"".join(_encode_line(row) for row in rows)


def open_for_reading(path: Path) -> BinaryIO:
    """Open a file for reading bytes; a missing file, a folder or a pipe is BadInput, not an OSError."""
    try:
        if stat.S_ISFIFO(path.stat().st_mode):
            raise BadInput(f"{path}: this is a pipe, which can be read only once; save it as a file first")
        return open(path, "rb")
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise BadInput(f"{path}: this is a folder, a file is needed") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None


def _whole_lines(file: BinaryIO, remaining: int | None) -> Iterator[bytes]:
    """Yield blocks that end at a line end (the last one may lack its newline)."""
    pending: list[bytes] = []
    while chunk := file.read(BLOCK_BYTES if remaining is None else min(BLOCK_BYTES, remaining)):
        if remaining is not None:
            remaining -= len(chunk)
        cut = chunk.rfind(b"\n") + 1
        if cut == 0:
            pending.append(chunk)
            continue
        yield b"".join((*pending, chunk[:cut]))
        pending = [chunk[cut:]] if cut < len(chunk) else []
    if pending:
        yield b"".join(pending)


def _decode_block(decoder: msgspec.json.Decoder[T], raw: bytes) -> list[T] | None:
    """Decode a block, or return None when it has to be read line by line."""
    try:
        rows: list[T] = decoder.decode_lines(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # ValidationError is a DecodeError
        return None
    lines = _split(raw)
    # As many objects as lines is not enough: two objects on one line make up for a blank line, or for an object that
    # spans two. Then some line does not start with a brace, and sorts before or after all that do.
    return rows if len(rows) == len(lines) and min(lines) >= b"{" and max(lines) < b"|" else None


def _split(raw: bytes) -> list[bytes]:
    lines = raw.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines


def decode_line(path: Path, line: int, raw: bytes, decoder: msgspec.json.Decoder[T], row_type: type[T]) -> T:
    """Decode one line, or raise BadInput with its file, line, field and what was found."""
    where = f"{path}:{line}"
    if not raw.strip():
        raise BadInput(f"{where}: the line is blank; remove it")
    if line == 1 and raw.startswith(b"\xef\xbb\xbf"):
        raise BadInput(f"{where}: the file starts with a byte-order mark (BOM); save it as UTF-8 without one")
    if b"\0" in raw:
        raise BadInput(f"{where}: holds a NUL byte at column {raw.index(bytes(1)) + 1}; remove it")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{where}: byte {error.start + 1} is not UTF-8 (0x{raw[error.start]:02x}); save the file as UTF-8"
        ) from None
    try:
        return decoder.decode(raw)
    except RecursionError:
        raise BadInput(f"{where}: the JSON is nested too deeply to be read; flatten it") from None
    except msgspec.DecodeError:
        pass  # the standard library's reader words the trouble better, and reads two things that msgspec refuses
    try:
        value = json.loads(text, parse_int=_parse_int, parse_float=_parse_float, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or "Unterminated" in error.msg:
            raise BadInput(
                f"{where}: the line is cut short at column {len(text) + 1} (the JSON object does not end); "
                "restore the file or remove the line"
            ) from None
        raise BadInput(f"{where}: not JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where}: {error or 'nested too deeply'}") from None
    try:
        return msgspec.convert(value, row_type)
    except msgspec.ValidationError as error:
        raise BadInput(f"{where}: {reword(str(error))}") from None


def reword(message: str) -> str:
    """Put a msgspec validation message as `field: what was found; what to do`, in words a person uses."""
    found = _AT_FIELD.match(message)
    if found is None:  # the pattern matches every string
        return message
    what, field = found["what"], found["field"]
    for start, stands_for, what_to_do in (
        ("Object contains unknown field ", "unknown field", "remove it or correct its name"),
        ("Object missing required field ", "missing field", "add it"),
    ):
        if what.startswith(start):
            name = what.removeprefix(start).strip("`")
            return f"{f'{field}.' if field else ''}{name}: {stands_for}; {what_to_do}"
    kinds = re.fullmatch(r"Expected `(.*)`, got `(.*)`", what)
    if kinds is not None:
        wanted = " or ".join(map(_in_words, kinds[1].split(" | ")))
        what = f"expected {wanted}, got {_in_words(kinds[2])}"
    return f"{field}: {what}" if field else what


def _in_words(kind: str) -> str:
    words = {"str": "a string", "int": "an integer", "float": "a number", "bool": "true or false", "array": "a list"}
    return words.get(kind, "an object" if kind == "object" else kind)


def _parse_int(digits: str) -> int | str:
    return int(digits) if len(digits) <= LONGEST_INT_DIGITS else digits


def _parse_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:40]} is out of range")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; write a number or null")


def _encode_line(row: Any) -> bytes:
    try:
        return _encoder.encode_lines([row])
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(row), separators=(",", ":")).encode() + b"\n"
