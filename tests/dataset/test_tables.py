from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lockedroom.dataset.load import first_refused_by, read_examples
from lockedroom.errors import BadInput, MissingExtra
from lockedroom.records import Example
from lockedroom.scorer.final_int import accepts

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
IDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1)


def rows_of(path: Path, **kwargs: Any) -> list[Example]:
    return [example for batch in read_examples(path, **kwargs) for example in batch]


def refusal(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        rows_of(path, first_refused=first_refused_by(accepts), scorer_name="final-int")
    return str(caught.value)


def write_csv(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def test_csv_is_read_with_text_answers_and_json_metadata(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    write_csv(
        path,
        [
            ["prompt", "metadata", "expected_answer", "id"],
            ['two\nlines, "quoted"', '{"k":[1]}', "12", "a"],
            ["q", "", "-3", "b"],
        ],
    )
    assert rows_of(path) == [
        Example(id="a", prompt='two\nlines, "quoted"', expected_answer="12", metadata={"k": [1]}),
        Example(id="b", prompt="q", expected_answer="-3"),
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(IDS, TEXT, TEXT), min_size=1, max_size=5, unique_by=lambda cells: cells[0]))
def test_any_text_goes_through_csv(tmp_path: Path, rows: list[tuple[str, str, str]]) -> None:
    path = tmp_path / "d.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([("id", "prompt", "expected_answer"), *rows])
    assert [(r.id, r.prompt, r.expected_answer) for r in rows_of(path)] == rows


def test_many_csv_rows_and_a_long_field_are_read_and_the_limit_of_others_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    before = csv.field_size_limit()
    rows = [(f"id-{i}", "p", "1") for i in range(5000)]
    write_csv(path, [("id", "prompt", "expected_answer"), *rows, ("long", "x" * 300_000, "1")])
    read = rows_of(path)
    assert (len(read), len(read[-1].prompt), csv.field_size_limit()) == (5001, 300_000, before)


HEADER = b"id,prompt,expected_answer\n"
COLUMNS = "the columns are id, prompt, expected_answer and, optionally, metadata"
BAD_CSV: dict[str, tuple[bytes, str]] = {
    "only a header": (HEADER, ": holds no examples; give a file with at least one"),
    "unknown column": (b"id,prompt,answer\na,p,1\n", f':1: unknown column "answer"; {COLUMNS}'),
    "semicolons": (b"id;prompt;a\nx;p;1\n", f':1: unknown column "id;prompt;a"; {COLUMNS}, separated by commas'),
    "column twice": (b"id,id,prompt,expected_answer\n", ":1: the column id stands twice; keep one"),
    "missing column": (b"id,prompt\na,p\n", f":1: missing column expected_answer; {COLUMNS}"),
    "ragged row": (
        HEADER + b'a,"p\nq",1\nb,p\n',
        ":4: 2 fields where the header has 3; quote fields that hold commas or line ends",
    ),
    "blank line": (HEADER + b"\na,p,1\n", ":2: the line is blank; remove it"),
    "unclosed quote": (
        HEADER + b'a,p,1\nb,"p,1\nc,p,1\n',
        ":3: not CSV: unexpected end of data; put quotes around the field and double the quotes inside it",
    ),
    "bad quoting": (
        HEADER + b'a,"p"q,1\n',
        ":2: not CSV: ',' expected after '\"'; put quotes around the field and double the quotes inside it",
    ),
    "carriage return": (
        HEADER + b"a,p\rq,1\n",
        ":2: not CSV: a carriage return outside quotes; put quotes around the field and double the quotes inside it",
    ),
    "BOM": (
        b"\xef\xbb\xbf" + HEADER,
        ":1: the file starts with a byte-order mark (BOM); save it as UTF-8 without one",
    ),
    "not UTF-8": (HEADER + b"a,\xff,1\n", ":2: byte 3 is not UTF-8 (0xff); save the file as UTF-8"),
    "NUL": (HEADER + b"a,\0,1\n", ":2: holds a NUL byte at column 3; remove it"),
    "empty id": (
        HEADER + b",p,1\n",
        ":2: id: expected at least one character, got an empty string; give every example its own id",
    ),
    "repeated id": (
        HEADER + b'a,"p\nq",1\nb,p,1\na,p,1\n',
        ':5: id: "a" appears twice, first on line 2; give every example its own id',
    ),
    "refused answer, then a ragged row": (
        HEADER + b"a,p,1\nb,p,x\nc\n",
        ':3: expected_answer: the scorer final-int cannot judge "x"; correct it, or name a scorer that can',
    ),
    "metadata is a list": (
        b"id,prompt,expected_answer,metadata\na,p,1,[]\n",
        ":2: metadata: expected an object, got a list; write a JSON object, or leave the cell empty",
    ),
    "metadata nested too deeply": (
        b'id,prompt,expected_answer,metadata\na,p,1,"{""k"":' + b"[" * 9000 + b'"\n',
        ":2: metadata: nested too deeply; flatten it",
    ),
}


@pytest.mark.parametrize("kind", BAD_CSV)
def test_bad_csv_is_named_by_file_line_and_field(tmp_path: Path, kind: str) -> None:
    content, message = BAD_CSV[kind]
    path = tmp_path / "d.csv"
    path.write_bytes(content)
    assert refusal(path) == f"{path}{message}"


def write_parquet(path: Path, **columns: Any) -> None:
    pq.write_table(pa.table({"id": ["a", "b"], "prompt": ["p", "q"], "expected_answer": [1, 2], **columns}), path)


@pytest.mark.parametrize(
    "answers",
    [[1, 2], ["1", "2"], [None, 1], [True, False], [0.5, 1.0], [{"k": 1}, {"k": 2}], [[1], [2, 3]]],
)
def test_parquet_is_read_with_answers_of_each_kind(tmp_path: Path, answers: list[Any]) -> None:
    path = tmp_path / "d.parquet"
    write_parquet(path, expected_answer=answers, metadata=[{"k": "v"}, None])
    assert [(r.id, r.prompt, r.expected_answer, r.metadata) for r in rows_of(path)] == [
        ("a", "p", answers[0], {"k": "v"}),
        ("b", "q", answers[1], None),
    ]


def test_large_strings_and_a_column_of_nulls_are_read_from_parquet(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    write_parquet(path, prompt=pa.array(["p", "q"], pa.large_string()), metadata=pa.nulls(2))
    assert [r.metadata for r in rows_of(path)] == [None, None]


@pytest.mark.parametrize(
    "stored",
    [pa.dictionary(pa.int32(), pa.string()), pa.string_view(), pa.dictionary(pa.int8(), pa.large_string())],
    ids=str,
)
def test_strings_are_read_however_parquet_stores_them(stored: Any, tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    write_parquet(path, prompt=pa.array(["p", "q"]).cast(stored), expected_answer=pa.array(["2", "3"]).cast(stored))
    assert [(r.prompt, r.expected_answer) for r in rows_of(path)] == [("p", "2"), ("q", "3")]


def test_a_long_parquet_file_names_the_row_of_a_repeated_id(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    ids = [f"id-{i}" for i in range(1, 5001)]
    pq.write_table(pa.table({"id": [*ids, "id-7"], "prompt": ["p"] * 5001, "expected_answer": [1] * 5001}), path)
    assert refusal(path) == f'{path}: row 5001: id: "id-7" appears twice, first on row 7; give every example its own id'


BAD_PARQUET: dict[str, tuple[dict[str, Any], str]] = {
    "decimal": (
        {"expected_answer": [Decimal("1.5"), Decimal(2)]},
        ": the column expected_answer has type decimal128(2, 1); write it as int64, string or a struct",
    ),
    "number as id": ({"id": [1, 2]}, ": the column id has type int64; write it as string"),
    "numbers in a dictionary": (
        {"id": pa.array([1, 2]).dictionary_encode()},
        ": the column id has type int64; write it as string",
    ),
    "text as metadata": (
        {"metadata": ["x", "y"]},
        ": the column metadata has type string; write it as a struct",
    ),
    "unknown column": ({"x": [1, 2]}, f': unknown column "x"; {COLUMNS}'),
    "null prompt": ({"prompt": ["p", None]}, ": row 2: prompt: expected a string, got null"),
    "NUL": ({"prompt": ["p", "\0"]}, r': row 2: prompt: holds a NUL character: "\u0000"; remove it'),
    "NaN": (
        {"expected_answer": [1.5, float("nan")]},
        ": row 1: expected_answer: the scorer final-int cannot judge 1.5; correct it, or name a scorer that can",
    ),
    "bytes in a struct": (
        {"metadata": [{"k": b"x"}, None]},
        ": row 1: Object of type bytes is not JSON serializable; write only values that JSON has",
    ),
    "not UTF-8": (
        {"prompt": pa.array([b"p", b"\xff"]).view(pa.string())},
        ": row 2: holds text that is not UTF-8; write the file again",
    ),
}


@pytest.mark.parametrize("kind", BAD_PARQUET)
def test_bad_parquet_is_named_by_file_row_and_field(tmp_path: Path, kind: str) -> None:
    columns, message = BAD_PARQUET[kind]
    path = tmp_path / "d.parquet"
    write_parquet(path, **columns)
    assert refusal(path) == f"{path}{message}"


def test_nan_in_parquet_is_refused_because_json_has_none(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    write_parquet(path, expected_answer=[1.5, float("nan")])
    with pytest.raises(BadInput) as caught:
        rows_of(path)
    assert str(caught.value).startswith(f"{path}: row 2: Out of range float values are not JSON compliant")


def test_a_corrupt_parquet_file_has_one_message(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    path.write_bytes(b"PAR1 this is not a Parquet file PAR1")
    message = refusal(path)
    assert message.startswith(f"{path}: not a Parquet file that can be read: ")
    assert message.endswith("; write the file again")


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra) as caught:
        rows_of(tmp_path / "d.parquet")
    assert str(caught.value) == (
        f"{tmp_path / 'd.parquet'}: reading Parquet needs an optional dependency; "
        "install it with: pip install 'lockedroom[parquet]'"
    )


def test_a_split_that_was_not_saved_is_missing_and_no_unknown_format(tmp_path: Path) -> None:
    path = tmp_path / "saved" / "dev"
    assert refusal(path) == f"{path}: no such file or folder; check the path"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("id,prompt,expected_answer\r\na,b,1\r\n".encode("utf-16"), "the file is UTF-16; save it as UTF-8"),
        (b"\x1f\x8b\x08rest", r"the file is compressed \(gzip\); unpack it"),
        (b",id,prompt,expected_answer\n0,a,b,1\n", "a column without a name is an index: write the table without one"),
    ],
)
def test_a_table_that_another_program_saved_is_named_for_what_it_is(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)

    with pytest.raises(BadInput, match=says):
        rows_of(path)
