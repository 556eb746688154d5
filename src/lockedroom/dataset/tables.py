"""Examples out of CSV and Parquet, as parts of consecutive rows.

A reader that meets a bad row hands over the good rows before it, then raises.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.errors import BadInput, MissingExtra
from lockedroom.jsonl import open_for_reading, refuse_other_kinds, reword
from lockedroom.records import Example
from lockedroom.wording import counted

TABLE_ROWS = 2048  # rows that are checked together
SHOWN_CHARACTERS = 60

REQUIRED = ("id", "prompt", "expected_answer")
FIELDS = (*REQUIRED, "metadata")

_metadata_decoder = msgspec.json.Decoder(dict[str, Any])


class Part(msgspec.Struct, frozen=True):
    """Rows to be checked together: `rows[i]` stands at `lines[i]`; `raw` is their JSON Lines bytes, if they had any."""

    rows: list[Example]
    lines: Sequence[int]
    raw: bytes | None
    unit: str = ":"

    def where(self, path: Path, index: int) -> str:
        return f"{path}{self.unit}{self.lines[index]}"


def shown(value: Any) -> str:
    """Show a JSON value in a message: ASCII only, control characters escaped, shortened."""
    text = json.dumps(value)
    return (
        text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}... ({counted(len(text), 'character')})"
    )


def _grouped(rows: Iterator[tuple[int, Example]], unit: str) -> Iterator[Part]:
    """Group rows into parts; when the next row is bad, the rows before it come first."""
    while True:
        group: list[Example] = []
        lines: list[int] = []
        try:
            for line, row in islice(rows, TABLE_ROWS):
                group.append(row)
                lines.append(line)
        except BadInput:
            if group:
                yield Part(group, lines, None, unit)
            raise
        if not group:
            return
        yield Part(group, lines, None, unit)


def csv_parts(path: Path) -> Iterator[Part]:
    """Read a CSV file with a header; every expected answer is text, and a metadata cell is a JSON object or empty."""
    return _grouped(_csv_rows(path), ":")


def parquet_parts(path: Path) -> Iterator[Part]:
    """Read a Parquet file, one record batch in memory at a time."""
    return _grouped(_parquet_rows(path), ": row ")


def saved_parts(path: Path) -> Iterator[Part]:
    """Read a folder that `datasets.Dataset.save_to_disk` wrote: Arrow files, named in order by its state.json."""
    return _grouped(_saved_rows(path), ": row ")


def _csv_rows(path: Path) -> Iterator[tuple[int, Example]]:
    header: list[str] = []
    with open_for_reading(path) as file:
        for line, cells in _csv_cells(path, file):
            where = f"{path}:{line}"
            if not cells:
                raise BadInput(f"{where}: the line is blank; remove it")
            if not header:
                _check_names(where, cells)
                header = cells
                continue
            if len(cells) != len(header):
                raise BadInput(
                    f"{where}: {counted(len(cells), 'field')} where the header has {len(header)}; "
                    "quote fields that hold commas or line ends"
                )
            values: dict[str, Any] = dict(zip(header, cells, strict=True))
            metadata = _metadata_of(where, values.pop("metadata", ""))
            yield line, Example(**values, metadata=metadata)


def _csv_cells(path: Path, file: Iterable[bytes]) -> Iterator[tuple[int, list[str]]]:
    """Yield each row's cells with the line the row starts on."""
    import csv

    reader = csv.reader(_csv_lines(path, file), strict=True)
    while True:
        line = reader.line_num + 1
        limit = csv.field_size_limit(sys.maxsize)  # process-wide, hence put back before anybody else's code runs
        try:
            cells = next(reader, None)
        except csv.Error as error:
            what = "a carriage return outside quotes" if "new-line" in str(error) else str(error)
            raise BadInput(
                f"{path}:{line}: not CSV: {what}; put quotes around the field and double the quotes inside it"
            ) from None
        finally:
            csv.field_size_limit(limit)
        if cells is None:
            return
        yield line, cells


def _csv_lines(path: Path, file: Iterable[bytes]) -> Iterator[str]:
    for line, raw in enumerate(file, 1):
        if line == 1:
            refuse_other_kinds(path, raw)
        if line == 1 and raw.startswith(b"\xef\xbb\xbf"):
            raise BadInput(f"{path}:1: the file starts with a byte-order mark (BOM); save it as UTF-8 without one")
        if b"\0" in raw:
            raise BadInput(f"{path}:{line}: holds a NUL byte at column {raw.index(bytes(1)) + 1}; remove it")
        try:
            yield raw.decode()
        except UnicodeDecodeError as error:
            raise BadInput(
                f"{path}:{line}: byte {error.start + 1} is not UTF-8 (0x{raw[error.start]:02x}); save the file as UTF-8"
            ) from None


def _check_names(where: str, names: Sequence[str]) -> None:
    """Refuse a table whose columns are not the fields of an example, each once."""
    allowed = f"the columns are {', '.join(REQUIRED)} and, optionally, metadata"
    for index, name in enumerate(names):
        if name not in FIELDS:
            hint = ", separated by commas" if any(mark in name for mark in ";\t|") else ""
            hint = "; a column without a name is an index: write the table without one" if not name else hint
            raise BadInput(f"{where}: unknown column {shown(name)}; {allowed}{hint}")
        if name in names[:index]:
            raise BadInput(f"{where}: the column {name} stands twice; keep one")
    for name in REQUIRED:
        if name not in names:
            raise BadInput(f"{where}: missing column {name}; {allowed}")


def _metadata_of(where: str, cell: str) -> dict[str, Any] | None:
    if not cell:
        return None
    try:
        return _metadata_decoder.decode(cell)
    except msgspec.DecodeError as error:
        raise BadInput(
            f"{where}: metadata: {reword(str(error))}; write a JSON object, or leave the cell empty"
        ) from None
    except RecursionError:
        raise BadInput(f"{where}: metadata: nested too deeply; flatten it") from None


def _parquet_rows(path: Path) -> Iterator[tuple[int, Example]]:
    try:
        import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types
        import pyarrow.parquet as pq  # type: ignore[import-untyped]
    except ImportError:
        raise MissingExtra(f"{path}: reading Parquet", "parquet") from None
    row = 0
    with open_for_reading(path) as file:
        if not file.read(1):
            return
        try:
            table = pq.ParquetFile(file, page_checksum_verification=True)
            _check_names(str(path), table.schema_arrow.names)
            for field in table.schema_arrow:
                _check_type(path, field.name, field.type, pa.types)
            for batch in table.iter_batches(TABLE_ROWS):
                for values in _values(batch):
                    row += 1
                    yield row, _parquet_example(f"{path}: row {row}", values)
        except (pa.ArrowException, OSError) as error:
            first = str(error).splitlines()[0]
            raise BadInput(f"{path}: not a Parquet file that can be read: {first}; write the file again") from None


def _saved_rows(path: Path) -> Iterator[tuple[int, Example]]:
    files = _saved_files(path)
    try:
        import pyarrow as pa
    except ImportError:
        raise MissingExtra(f"{path}: reading a saved data set", "parquet") from None
    row = 0
    for file in files:
        try:
            with open_for_reading(file) as opened, pa.ipc.open_stream(opened) as reader:
                _check_names(str(file), reader.schema.names)
                for field in reader.schema:
                    _check_type(file, field.name, field.type, pa.types)
                for batch in reader:
                    for values in _values(batch):
                        row += 1
                        yield row, _parquet_example(f"{path}: row {row}", values)
        except (pa.ArrowException, OSError) as error:
            first = str(error).splitlines()[0]
            raise BadInput(f"{file}: not an Arrow file that can be read: {first}; save the data set again") from None


class _SavedFile(msgspec.Struct, frozen=True):
    filename: str


class _SavedState(msgspec.Struct, frozen=True):
    """The part of a saved data set's state.json that names its files."""

    files: list[_SavedFile] = msgspec.field(name="_data_files")


def _saved_files(path: Path) -> list[Path]:
    state = path / "state.json"
    if not state.is_file():
        splits = sorted(child.parent.name for child in path.glob("*/state.json"))
        if splits:
            raise BadInput(f"{path}: holds the splits {', '.join(splits)}; name one of them, as in {path / splits[0]}")
        tables = sorted(str(child) for kind in ("parquet", "jsonl", "csv") for child in path.rglob(f"*.{kind}"))
        name = f"; name one file, such as {tables[0]}" if tables else "; name a file, or save the data set again"
        raise BadInput(f"{path}: this is a folder, but not one that datasets.save_to_disk wrote (no state.json){name}")
    try:
        named = msgspec.json.decode(state.read_bytes(), type=_SavedState).files
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{state}: {reword(str(error))}; save the data set again") from None
    for file in named:
        if Path(file.filename).name != file.filename:
            raise BadInput(f"{state}: names {shown(file.filename)}, which is not a file of this folder; save it again")
    return [path / file.filename for file in named]


def _check_type(path: Path, name: str, kind: Any, types: Any) -> None:
    """Refuse a column whose type has no plain JSON form; `types` is `pyarrow.types`."""
    stored = kind.value_type if types.is_dictionary(kind) else kind  # a dictionary stores each value once
    if types.is_string(stored) or types.is_large_string(stored) or types.is_string_view(stored):
        allowed = name != "metadata"
    elif types.is_struct(kind):
        allowed = name in ("expected_answer", "metadata")
    else:
        plain = types.is_integer(kind) or types.is_boolean(kind) or types.is_floating(kind) or types.is_null(kind)
        allowed = name == "expected_answer" and (plain or types.is_list(kind))
        allowed = allowed or (name == "metadata" and types.is_null(kind))
    if not allowed:
        wanted = {"expected_answer": "int64, string or a struct", "metadata": "a struct"}.get(name, "string")
        raise BadInput(f"{path}: the column {name} has type {kind}; write it as {wanted}")


def _values(batch: Any) -> list[dict[str, Any] | None]:
    """Return the rows of a record batch as dicts; None for a row whose text is not UTF-8."""
    try:
        rows: list[dict[str, Any] | None] = batch.to_pylist()
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            return [None]
        rows = [row for index in range(batch.num_rows) for row in _values(batch.slice(index, 1))]
    return rows


def _parquet_example(where: str, values: dict[str, Any] | None) -> Example:
    if values is None:
        raise BadInput(f"{where}: holds text that is not UTF-8; write the file again")
    try:
        # Dates, decimals and the like may stand inside a struct, and floats may be NaN: none of them is JSON.
        json.dumps(values, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{where}: {error}; write only values that JSON has") from None
    try:
        return msgspec.convert(values, Example)
    except msgspec.ValidationError as error:
        raise BadInput(f"{where}: {reword(str(error))}") from None
