"""JSON Lines: the fast and the slow path agree, and the first bad line is named."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lockedroom.errors import BadInput
from lockedroom.jsonl import BLOCK_BYTES, decode_line, encode_lines, line_offsets, read_batches, reword
from lockedroom.records import Completion, Example, Outcome

IN_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


class Row(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    value: Any = None
    number: float | None = None


def _read(path: Path, row_type: type[Any] = Row) -> list[Any]:
    return [row for batch in read_batches(path, row_type) for row in batch.rows]


def _file(folder: Path, content: bytes) -> Path:
    path = folder / "rows.jsonl"
    path.write_bytes(content)
    return path


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@IN_FOLDER
@given(st.lists(st.tuples(st.text(), JSON), min_size=1, max_size=20))
def test_block_reading_and_line_reading_give_the_same_rows(tmp_path: Path, rows: list[tuple[str, Any]]) -> None:
    lines = [json.dumps({"id": name, "value": value}).encode() for name, value in rows]
    path = _file(tmp_path, b"\n".join(lines) + b"\n")
    decoder = msgspec.json.Decoder(Row)
    by_line = [decode_line(path, i + 1, line, decoder, Row) for i, line in enumerate(lines)]
    assert _read(path) == by_line == [Row(name, value) for name, value in rows]


ODD = st.sampled_from(
    [b"", b" ", b"\r", b"{}", b'{"id":"a"}', b'{"id":"a"}{"id":"b"}', b'{"id":\n"a"}', b'{"id":"a"', b"[1]", b"null",
     b'{"id":"a","x":1}', b'{"id":1}', b'\xef\xbb\xbf{"id":"a"}', b'{"id":"\x00"}', b'{"id":"\xff"}', b'{"id":"\\ud800"}',
     b'{"id":"a","number":1e999}', b'{"id":"a","value":NaN}', b'{"id":"a"} ', b' {"id":"a"}', b'{"id":"a"}\r',
     b'{"id":"a","value":{"b":"}\\n{"}}', b'{"id":"a","value":' + b"7" * 5000 + b"}", b'{"id":"a","value":', b'{"x":1}}',
     b'{"x":1}}{"id":"b"}', b'{"id":"' + b"c" * 900 + b'"}']
)  # fmt: skip


@IN_FOLDER
@given(st.lists(ODD, min_size=1, max_size=6), st.booleans())
def test_a_block_is_read_exactly_as_its_lines_are_one_by_one(tmp_path: Path, lines: list[bytes], ended: bool) -> None:
    content = b"\n".join(lines) + b"\n" * ended
    path = _file(tmp_path, content)
    decoder = msgspec.json.Decoder(Row)
    split = content.split(b"\n")[: None if content and not content.endswith(b"\n") else -1]
    expected: list[Row] | str
    try:
        expected = [decode_line(path, i + 1, line, decoder, Row) for i, line in enumerate(split)]
    except BadInput as error:
        expected = str(error)
    found: list[Row] | str
    try:
        found = _read(path)
    except BadInput as error:
        found = str(error)
    assert found == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"id":"a"}\n\n{"id":"b"}\n', ":2: the line is blank; remove it"),
        (b'{"id":"a"}\n\n{"id":"b"}{"id":"c"}\n', ":2: the line is blank"),
        (b'{"id":"a","value":\n{"x":1}}{"id":"b"}\n', ":1: the line is cut short"),
        (b'{"id":"a","value":\n{"id":"a"}}{"id":"b"}\n', ":1: the line is cut short"),
        (b'{"id":"a","value":[{}\n,{}]}{"id":"b"}\n', ":1: the line is cut short"),
        (b'{"id":"a","value":[\n{"id":"' + b"x" * 2000 + b'"}]}{"id":"b"}\n', ":1: the line is cut short"),
        (b'{"id":"' + b"x" * 2000 + b'","value":\n{}}{"id":"b"}\n', ":1: the line is cut short"),
        (b'{"id":"a"}\n{"id":"b', ":2: the line is cut short at column 9"),
        (b'{"id":"a"}\n{"id":"b"', ":2: the line is cut short"),
        (b'\xef\xbb\xbf{"id":"a"}\n', ":1: the file starts with a byte-order mark"),
        (b'{"id":"a\x00"}\n', ":1: holds a NUL byte at column 9"),
        (b'{"id":"\xe9"}\n', ":1: byte 8 is not UTF-8 (0xe9)"),
        (b'{"id":"a"} x\n', ":1: not JSON"),
        (b"{'id':'a'}\n", ":1: not JSON"),
        (b'["a"]\n', ":1: expected an object, got a list"),
        (b'{"id":7}\n', ":1: id: expected a string, got an integer"),
        (b'{"value":1}\n', ":1: id: missing field; add it"),
        (b'{"id":"a","colour":1}\n', ":1: colour: unknown field; remove it"),
        (b'{"id":"a","value":NaN}\n', ":1: NaN is not JSON"),
        (b'{"id":"a","number":1e999}\n', ":1: "),
        (b'{"id":"\\ud800","number":1e999}\n', ":1: the number 1e999 is out of range"),
        (b'{"id":"a","value":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", ":1: the JSON is nested too deeply"),
        (b'{"id":"\\ud800","number":"x"}\n', ":1: number: expected a number or null, got a string"),
    ],
)
def test_the_first_bad_line_is_named_with_what_was_found(tmp_path: Path, content: bytes, message: str) -> None:
    path = _file(tmp_path, content)
    with pytest.raises(BadInput) as caught:
        _read(path)
    assert str(caught.value).startswith(f"{path}{message}")


def test_windows_line_ends_and_a_missing_last_newline_are_fine(tmp_path: Path) -> None:
    assert _read(_file(tmp_path, b'{"id":"a"}\r\n{"id":"b"}')) == [Row("a"), Row("b")]


def test_a_line_of_ten_megabytes_is_one_row(tmp_path: Path) -> None:
    path = _file(tmp_path, b'{"id":"a"}\n{"id":"' + b"x" * 10_000_000 + b'"}\n{"id":"c"}\n')
    assert [len(row.id) for row in _read(path)] == [1, 10_000_000, 1]


@given(st.text(st.characters(codec=None, categories=None)))
def test_a_lone_surrogate_is_written_and_read_back(text: str) -> None:
    line = encode_lines([Completion(text)])
    assert line.count(b"\n") == 1
    assert decode_line(Path("x"), 1, line, msgspec.json.Decoder(Completion), Completion) == Completion(text)


def test_a_line_is_written_the_same_beside_a_surrogate(tmp_path: Path) -> None:
    plain, odd = Completion("é", -1e-05), Completion("\ud800")
    assert encode_lines([plain, odd]) == encode_lines([plain]) + encode_lines([odd])


@pytest.mark.parametrize("digits", [4300, 4301, 20_000])
def test_an_integer_of_any_length_keeps_its_digits(tmp_path: Path, digits: int) -> None:
    number = b"7" * digits
    (example,) = _read(_file(tmp_path, b'{"id":"a","prompt":"","expected_answer":' + number + b"}\n"), Example)
    answer = example.expected_answer
    assert (answer if isinstance(answer, str) else str(answer)) == number.decode()


@IN_FOLDER
@given(
    st.lists(st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"")), max_size=30),
    st.booleans(),
    st.lists(st.integers(0, 40), max_size=10).map(sorted),
)
def test_line_offsets_are_where_lines_start(tmp_path: Path, lines: list[bytes], ended: bool, wanted: list[int]) -> None:
    content = b"\n".join(lines) + b"\n" * ended
    starts = [0, *(i + 1 for i, byte in enumerate(content) if byte == 10)]
    expected = [starts[line] if line < len(starts) else len(content) for line in wanted]
    assert line_offsets(_file(tmp_path, content), wanted) == expected


def test_line_offsets_are_right_across_blocks(tmp_path: Path) -> None:
    lengths = [1, BLOCK_BYTES - 2, BLOCK_BYTES, 5, 3 * BLOCK_BYTES, 0, 7, BLOCK_BYTES - 1, 2]
    starts = [sum(length + 1 for length in lengths[:i]) for i in range(len(lengths) + 1)]
    path = _file(tmp_path, b"".join(b"x" * length + b"\n" for length in lengths))
    assert line_offsets(path, list(range(len(lengths) + 3))) == [*starts, starts[-1], starts[-1]]


@IN_FOLDER
@given(st.lists(st.integers(0, 12), min_size=2, max_size=2).map(sorted))
def test_a_part_of_a_file_is_read_by_its_offsets(tmp_path: Path, cut: list[int]) -> None:
    rows = [Row(str(i), "x" * (i * BLOCK_BYTES // 8)) for i in range(12)]
    path = _file(tmp_path, encode_lines(rows))
    start, stop = line_offsets(path, cut)
    batches = list(read_batches(path, Row, start=start, stop=stop, first_line=cut[0] + 1))
    assert [row for batch in batches for row in batch.rows] == rows[cut[0] : cut[1]]
    assert b"".join(batch.raw for batch in batches) == encode_lines(rows[cut[0] : cut[1]])


def test_a_batch_knows_its_first_line_and_its_bytes(tmp_path: Path) -> None:
    path = _file(tmp_path, encode_lines([Row(str(i), "x" * 40_000) for i in range(9)]))
    batches = list(read_batches(path, Row))
    assert len(batches) > 2
    assert [batch.first_line - 1 for batch in batches] == [int(batch.rows[0].id) for batch in batches]
    assert b"".join(batch.raw for batch in batches) == path.read_bytes()


@pytest.mark.parametrize(("name", "message"), [("absent", "no such file"), (".", "this is a folder")])
def test_a_path_that_is_no_file_is_bad_input(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        _read(tmp_path / name)


def test_a_pipe_is_refused_because_it_can_be_read_only_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    with pytest.raises(BadInput, match="pipe"):
        _read(pipe)


def test_a_path_that_the_system_refuses_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        _read(tmp_path / ("x" * 5000))


def test_a_process_substitution_is_refused_not_read_in_part() -> None:
    reading, writing = os.pipe()
    writer = threading.Thread(target=os.write, args=(writing, b'{"id":"a"}\n'))
    writer.start()
    try:
        with pytest.raises(BadInput, match="pipe"):
            _read(Path(f"/dev/fd/{reading}"))
    finally:
        writer.join()
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize(
    ("message", "worded"),
    [
        ("Expected `str`, got `int` - at `$.id`", "id: expected a string, got an integer"),
        ("Expected `str | null`, got `array` - at `$.a.b`", "a.b: expected a string or null, got a list"),
        ("Expected `object`, got `array`", "expected an object, got a list"),
        ("Expected `object`, got `bool`", "expected an object, got true or false"),
        ("Object missing required field `id` - at `$.samples[0]`", "samples[0].id: missing field; add it"),
        ("Invalid enum value 'x' - at `$.finish_reason`", "finish_reason: Invalid enum value 'x'"),
    ],
)
def test_a_validation_message_is_put_in_words_a_person_uses(message: str, worded: str) -> None:
    assert reword(message).lower() == worded.lower()


def test_a_value_that_json_cannot_hold_is_our_own_mistake_and_keeps_its_traceback() -> None:
    with pytest.raises(TypeError):
        encode_lines([object()])


def test_an_enum_is_written_by_value_beside_a_surrogate() -> None:
    assert json.loads(encode_lines([{"outcome": Outcome.WRONG, "text": "\ud800"}])) == {
        "outcome": "wrong",
        "text": "\ud800",
    }
