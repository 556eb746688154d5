from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lockedroom.dataset.load import (
    SeenIds,
    _repeated_id,
    canonical_line,
    content_key,
    first_refused_by,
    read_examples,
)
from lockedroom.dataset.tables import Part
from lockedroom.errors import BadInput
from lockedroom.records import Example
from lockedroom.scorer.final_int import accepts

GOOD = b'{"id":"a","prompt":"p","expected_answer":1}'


def row(**fields: Any) -> bytes:
    return json.dumps({"id": "a", "prompt": "p", "expected_answer": 1, **fields}).encode()


def rows_of(path: Path, **kwargs: Any) -> list[Example]:
    return [example for batch in read_examples(path, **kwargs) for example in batch]


def refusal(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        rows_of(path, first_refused=first_refused_by(accepts), scorer_name="final-int")
    return str(caught.value)


BAD_ROWS: dict[str, tuple[bytes, str]] = {
    "unknown field": (row(answer=1), "answer: unknown field; remove it or correct its name"),
    "missing field": (b'{"id":"a","expected_answer":1}', "prompt: missing field; add it"),
    "wrong type of prompt": (row(prompt=5), "prompt: expected a string, got an integer"),
    "wrong type of id": (row(id=None), "id: expected a string, got null"),
    "wrong type of metadata": (row(metadata=[]), "metadata: expected an object or null, got a list"),
    "not an object": (b"[1]", "expected an object, got a list"),
    "empty id": (row(id=""), "id: expected at least one character, got an empty string; give every example its own id"),
    "control character in id": (
        row(id="a\x1b"),
        r'id: holds a control character: "a\u001b"; use printable characters',
    ),
    "escaped line end in id": (row(id="a\nb"), r'id: holds a control character: "a\nb"; use printable characters'),
    "raw C1 control in id": (
        b'{"id":"a\xc2\x85","prompt":"p","expected_answer":1}',
        r'id: holds a control character: "a\u0085"; use printable characters',
    ),
    "escaped NUL in id": (row(id="\0"), r'id: holds a NUL character: "\u0000"; remove it'),
    "escaped NUL in prompt": (row(prompt="x\0"), r'prompt: holds a NUL character: "x\u0000"; remove it'),
    "escaped NUL in answer": (
        row(expected_answer="\0"),
        r'expected_answer: holds a NUL character: "\u0000"; remove it',
    ),
    "NUL deep in answer": (
        row(expected_answer={"k": ["\0"]}),
        r'expected_answer: holds a NUL character: "\u0000"; remove it',
    ),
    "raw NUL": (
        b'{"id":"a","prompt":"\0","expected_answer":1}',
        "holds a NUL byte at column 21; remove it",
    ),
    "lone surrogate in id": (
        row(id="\ud800"),
        r'id: holds a lone surrogate, which is not a character: "\ud800"; remove it',
    ),
    "lone surrogate in prompt": (
        row(prompt="\udfff"),
        r'prompt: holds a lone surrogate, which is not a character: "\udfff"; remove it',
    ),
    "lone surrogate in answer": (
        row(expected_answer="\udfff"),
        r'expected_answer: holds a lone surrogate, which is not a character: "\udfff"; remove it',
    ),
    "lone surrogate in metadata": (
        row(metadata={"\udfff": 1}),
        r'metadata: holds a lone surrogate, which is not a character: "\udfff"; remove it',
    ),
    "not UTF-8": (
        b'{"id":"a","prompt":"\xff","expected_answer":1}',
        "byte 21 is not UTF-8 (0xff); save the file as UTF-8",
    ),
    "blank line": (b"", "the line is blank; remove it"),
    "only spaces": (b"  ", "the line is blank; remove it"),
    "not JSON": (b"{oops}", "not JSON: Expecting property name enclosed in double quotes at column 2"),
    "two objects": (GOOD + GOOD, "not JSON: Extra data at column 44"),
    "field twice": (
        b'{"id":"a","prompt":"p","expected_answer":1,"expected_answer":2}',
        'the field "expected_answer" stands twice in one object; keep one',
    ),
    "field twice, once escaped": (
        b'{"id":"a","prompt":"p","expected_answer":1,"\\u0069d":"b"}',
        'the field "id" stands twice in one object; keep one',
    ),
    "field twice in metadata": (
        b'{"id":"a","prompt":"p","expected_answer":1,"metadata":{"k":1,"k":1}}',
        'the field "k" stands twice in one object; keep one',
    ),
    "answer for another scorer": (
        row(expected_answer=1.5),
        "expected_answer: the scorer final-int cannot judge 1.5; correct it, or name a scorer that can",
    ),
    "long answer for another scorer": (
        row(expected_answer="é" * 50),
        f'expected_answer: the scorer final-int cannot judge "{chr(92)}u00e9'
        + r"\u00e9" * 8
        + r"\u00e... (302 characters); correct it, or name a scorer that can",
    ),
    "number too large": (
        row(expected_answer="1e400").replace(b'"1e400"', b"1e400"),
        "the number 1e400 is out of range",
    ),
    "nested too deeply": (
        row(expected_answer="@").replace(b'"@"', b"[" * 9000 + b"]" * 9000),
        "the JSON is nested too deeply to be read; flatten it",
    ),
}


@pytest.mark.parametrize("line", [1, 3])
@pytest.mark.parametrize("kind", BAD_ROWS)
def test_a_bad_row_is_named_by_file_line_and_field(tmp_path: Path, kind: str, line: int) -> None:
    bad, message = BAD_ROWS[kind]
    good = [row(id=f"good-{i}") for i in range(4)]
    path = tmp_path / "d.jsonl"
    path.write_bytes(b"\n".join([*good[: line - 1], bad, *good[line - 1 :]]) + b"\n")
    assert refusal(path) == f"{path}:{line}: {message}"


def test_a_byte_order_mark_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD + b"\n")
    assert refusal(path) == f"{path}:1: the file starts with a byte-order mark (BOM); save it as UTF-8 without one"


def test_a_torn_last_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(row(id="b") + b"\n" + GOOD[:30])
    assert refusal(path) == (
        f"{path}:2: the line is cut short at column 31 (the JSON object does not end); restore the file or remove the line"
    )


@pytest.mark.parametrize("name", ["d.jsonl", "d.csv", "d.parquet"])
def test_an_empty_file_holds_no_examples(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"")
    assert refusal(path) == f"{path}: holds no examples; give a file with at least one"


@pytest.mark.parametrize("name", ["d.jsonl", "d.csv", "d.parquet"])
def test_a_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    assert refusal(tmp_path / name) == f"{tmp_path / name}: no such file; check the path"


@pytest.mark.parametrize(("name", "suffix"), [("d.json", ".json"), ("d", "none")])
def test_an_unknown_suffix_is_refused_before_anything_is_read(tmp_path: Path, name: str, suffix: str) -> None:
    (tmp_path / name).write_bytes(b"\x00")
    with pytest.raises(BadInput) as caught:
        read_examples(tmp_path / name)
    assert str(caught.value) == (
        f"{tmp_path / name}: the format is told by the suffix, and {suffix!r} is not one of .jsonl, .csv, .parquet; "
        "convert or rename the file"
    )


@pytest.mark.parametrize("far", [2, 9000])
def test_a_repeated_id_names_the_first_line_too(tmp_path: Path, far: int) -> None:
    path = tmp_path / "d.jsonl"
    ids = [f"id-{i}" for i in range(1, far + 1)]
    path.write_bytes(b"".join(row(id=name) + b"\n" for name in [*ids, "id-2", "id-1"]))
    assert refusal(path) == (
        f'{path}:{far + 1}: id: "id-2" appears twice, first on line 2; give every example its own id'
    )


def test_an_id_that_repeats_after_ids_that_ascend_is_found(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    ids = [f"id-{i:06d}" for i in range(1, 9001)]
    path.write_bytes(b"".join(row(id=name) + b"\n" for name in [*ids, "id-000777"]))
    assert (
        refusal(path) == f'{path}:9001: id: "id-000777" appears twice, first on line 777; give every example its own id'
    )


def test_ids_whose_hashes_collide_are_not_taken_for_duplicates() -> None:
    seen = SeenIds(hash_of=len)
    assert seen.all_new(["a", "b"], [])
    assert not seen.all_new(["c", "b"], iter([["a", "b"]]))
    assert not seen.all_new(["zz", "yy"], [])


def test_a_collision_is_cleared_by_looking_at_the_ids_themselves() -> None:
    one, other = (
        Part([Example(id=name, prompt="p", expected_answer=1)], [line], None) for line, name in ((1, "a"), (2, "b"))
    )
    assert _repeated_id(iter([one]), other) is None


def test_the_hashes_of_ids_that_ascended_are_made_when_they_are_needed() -> None:
    seen = SeenIds()
    assert seen.all_new(["a", "b"], [])
    assert seen.all_new(["d", "c"], iter([["a", "b"]]))
    assert not seen.all_new(["a"], [])


def test_a_suspicion_that_turns_out_wrong_refuses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    odd = ["\u3000", "\u3000b", "b\u00ad"]
    path.write_bytes(b"".join(row(id=name, prompt='say "\\u0000"') + b"\n" for name in odd))
    assert [example.id for example in rows_of(path)] == odd


def two_troubles() -> Iterator[tuple[str, list[bytes], str]]:
    refused = row(id="r", expected_answer=None)
    yield "empty id, then broken JSON", [row(id=""), b"{oops}"], "1: id: expected at least one"
    yield "refused answer, then missing field", [row(id="x"), refused, b"{}"], "2: expected_answer: the scorer"
    yield "repeated id, then refused answer", [GOOD, GOOD, refused], '2: id: "a" appears twice'
    yield "refused answer, then repeated id", [GOOD, refused, GOOD], "2: expected_answer: the scorer"
    yield "broken JSON, then empty id", [b"{oops}", row(id="")], "1: not JSON"
    yield "repeated id, then not UTF-8", [GOOD, GOOD, b"\xff"], '2: id: "a" appears twice'


@pytest.mark.parametrize(
    ("lines", "message"), [case[1:] for case in two_troubles()], ids=[c[0] for c in two_troubles()]
)
def test_the_earlier_of_two_bad_lines_wins(tmp_path: Path, lines: list[bytes], message: str) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert refusal(path).startswith(f"{path}:{message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"%s%s\n\n" % (GOOD, row(id="b")), "1: not JSON: Extra data at column 44"),
        (b"%s\n\n%s%s\n" % (GOOD, row(id="b"), row(id="c")), "2: the line is blank; remove it"),
        (b"%s\n}\n%s%s\n" % (GOOD[:-1], row(id="b"), row(id="c")), "1: the line is cut short at column 43"),
    ],
)
def test_as_many_objects_as_lines_do_not_hide_two_on_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(content)
    assert refusal(path).startswith(f"{path}:{message}")


def test_rows_of_batches_before_the_bad_one_are_yielded(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(b"".join(row(id=f"id-{i}") + b"\n" for i in range(9000)) + b"{oops}\n")
    batches = read_examples(path)
    assert len(next(batches)) > 1000
    with pytest.raises(BadInput, match=":9001: not JSON"):
        list(batches)


def test_an_answer_is_refused_without_a_scorer_name(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(GOOD)
    with pytest.raises(BadInput, match=r":1: expected_answer: the scorer cannot judge 1;"):
        rows_of(path, first_refused=lambda answers: 0)


def test_an_integer_of_any_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(row(id="a", expected_answer="@").replace(b'"@"', b"9" * 5000) + b"\n" + row(id="b") + b"\r\n")
    first, second = rows_of(path, first_refused=first_refused_by(accepts))
    assert (first.expected_answer, second.expected_answer) == ("9" * 5000, 1)


def test_a_deeply_nested_answer_is_refused_by_the_scorer_not_by_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(row(expected_answer="@").replace(b'"@"', b'["\\n",' * 500 + b"1" + b"]" * 500))
    assert ":1: expected_answer: the scorer final-int cannot judge [" in refusal(path)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5), inner)
    ),
    max_leaves=8,
)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
IDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1)
EXAMPLES = st.lists(
    st.builds(
        Example,
        id=IDS,
        prompt=TEXT,
        expected_answer=JSON_VALUES,
        metadata=st.none() | st.dictionaries(TEXT, JSON_VALUES, max_size=3),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda example: example.id,
)


def strangers_hash(path: Path) -> str:
    """Recompute the hash of a dataset by the program in docs/datasets.md, which uses nothing but Python's library."""
    page = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], names)
    return str(names["dataset_sha256"](path))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(examples=EXAMPLES, ascii_only=st.booleans())
def test_any_valid_example_is_read_back_and_its_hash_recomputed_by_a_stranger(
    tmp_path: Path, examples: list[Example], ascii_only: bool
) -> None:
    path = tmp_path / "d.jsonl"
    lines = [json.dumps(msgspec.to_builtins(example), ensure_ascii=ascii_only) for example in examples]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
    read = rows_of(path)
    assert read == examples
    assert hashlib.sha256(canonical_line(read)).hexdigest() == strangers_hash(path)


@pytest.mark.parametrize("answer", [1e300, [1e-7], {"b": 1, "a": 5e-324}, "1e5", 0.5])
def test_the_hash_of_floats_is_recomputed_by_a_stranger(tmp_path: Path, answer: Any) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(row(expected_answer=answer, metadata={"z": 1e16, "a": [{"y": 1, "b": 2}]}))
    assert hashlib.sha256(canonical_line(rows_of(path))).hexdigest() == strangers_hash(path)


def test_the_hash_does_not_depend_on_how_the_json_was_written(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(b'{ "expected_answer" : 1, "metadata": null, "prompt":"\\u00e9", "id":"a" }')
    assert canonical_line(rows_of(path)) == '{"id":"a","prompt":"é","expected_answer":1}\n'.encode()


def test_content_is_prompt_and_answer_whatever_the_id() -> None:
    one = Example(id="a", prompt="p", expected_answer=7)
    assert content_key(one) == content_key(Example(id="b", prompt="p", expected_answer="7", metadata={}))
    assert content_key(one) != content_key(Example(id="a", prompt="p", expected_answer=8))
    assert content_key(one) != content_key(Example(id="a", prompt="q", expected_answer=7))
