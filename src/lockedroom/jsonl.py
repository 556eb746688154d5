"""JSON Lines in and out: typed, streaming, and exact about the first bad line.

The fast path hands 64 kB blocks to msgspec. A block that does not decode as one object a line is read again line by
line, which either succeeds (lone surrogate escapes and integers of more than 4,300 digits are valid JSON that msgspec
refuses) or names the file, the line and the field.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Generic, NoReturn, TypeVar

import msgspec

from lockedroom.errors import BadInput

T = TypeVar("T")

BLOCK_BYTES = 64 * 1024
# From so many bytes a line, looking at one line end after the other is quicker than searching a block for a text.
LONG_LINE = 400
# What a file that is no text begins with, and what to do with it.
_OTHER_KINDS = {
    b"\x1f\x8b": "is compressed (gzip); unpack it",
    b"BZh": "is compressed (bzip2); unpack it",
    b"\xfd7zXZ": "is compressed (xz); unpack it",
    b"\x28\xb5\x2f\xfd": "is compressed (zstd); unpack it",
    b"PK\x03\x04": "is a zip archive; unpack it",
    b"PAR1": "is a Parquet file; check what it should be, and its suffix",
    b"\xff\xfe": "is UTF-16; save it as UTF-8",
    b"\xfe\xff": "is UTF-16; save it as UTF-8",
}
# Python refuses to convert longer decimal strings to int, because the conversion is quadratic.
LONGEST_INT_DIGITS = 4300

_AT_FIELD = r"(?s)^(?P<what>.*?)(?: - at `\$(?:\[\d+\])?\.?(?P<field>.*)`)?$"  # compiled when a line is bad
_encoder = msgspec.json.Encoder()


class Batch(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """Rows of consecutive lines: `rows[i]` stands on line `first_line + i`, and `raw` is their bytes."""

    rows: list[T]
    first_line: int
    raw: bytes


def read_batches(
    path: Path, row_type: type[T], *, start: int = 0, stop: int | None = None, first_line: int = 1
) -> Iterator[Batch[T]]:
    """Yield the rows of a JSON Lines file in order, about 64 kB at a time.

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
    return rows if _stand_one_a_line(raw, len(rows)) else None


def _stand_one_a_line(raw: bytes, rows: int) -> bool:
    """Say whether each of so many objects has a line of its own; where braces and line ends do not touch, say no.

    As many lines as objects is not enough: two objects on one line make up for one that spans two lines. But no JSON
    holds `}` and then `{`, so a line end between these two is a boundary, and there is one boundary less than objects.
    """
    find, at = raw.find, -1
    if rows and len(raw) > LONG_LINE * rows:
        for _ in range(rows - 1):
            at = find(b"\n", at + 1)
            if raw[at - 1 : at + 2] != b"}\n{" and raw[at - 2 : at + 2] != b"}\r\n{":
                return False
        return find(b"\n", at + 1) in (-1, len(raw) - 1)
    ends = raw.count(b"\n") - raw.endswith(b"\n")
    if ends != rows - 1:
        return False
    # A longer text is found sooner, and lines mostly end and begin alike.
    first, last = find(b"\n"), raw.rfind(b"\n", 0, len(raw) - 1)
    end = b"}\r\n" if raw[first - 1 : first] == b"\r" else b"}\n"
    both = (raw[:24], raw[last + 1 : last + 25])
    beginning = os.path.commonprefix(both) or b""  # noqa: RUF071  (of bytes, not of the parts of paths)
    if beginning.startswith(b"{") and raw.count(end + beginning) == ends:
        return True
    return raw.count(b"}\n{") + raw.count(b"}\r\n{") == ends


def _split(raw: bytes) -> list[bytes]:
    lines = raw.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines


def decode_line(path: Path, line: int, raw: bytes, decoder: msgspec.json.Decoder[T], row_type: type[T]) -> T:
    """Decode one line, or raise BadInput with its file, line, field and what was found."""
    where = f"{path}:{line}"
    if line == 1:
        refuse_other_kinds(path, raw)
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


def refuse_other_kinds(path: Path, start: bytes) -> None:
    """Raise BadInput, saying what the file is, for the first line of one that is compressed or in another encoding."""
    for magic, what in _OTHER_KINDS.items():
        if start.startswith(magic):
            raise BadInput(f"{path}: the file {what}")


def reword(message: str) -> str:
    """Put a msgspec validation message as `field: what was found; what to do`, in words a person uses."""
    found = re.match(_AT_FIELD, message)
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
