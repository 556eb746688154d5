"""Completions from a file: three shapes, in lock step or by index, with the same answers."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lockedroom.errors import BadInput
from lockedroom.policy.declared import read_declared
from lockedroom.policy.recorded import (
    MISSING,
    CompletionRow,
    Drawn,
    LineIndex,
    RecordedPolicy,
    RecordGroup,
    SamplesRow,
    recognise,
)
from lockedroom.records import (
    Completion,
    Details,
    Example,
    Failure,
    FailureCode,
    FinishReason,
    Outcome,
    Record,
    Sampling,
    Score,
)
from lockedroom.testkit.small_run import write_rows

SCORE = Score(0.0, Details("x", Outcome.WRONG, None, ""))
IN_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)


def _open(path: Path) -> RecordedPolicy:
    return RecordedPolicy(path, read_declared(path))


def _examples(ids: Sequence[str]) -> list[Example]:
    return [Example(id=name, prompt="", expected_answer=1) for name in ids]


def _complete(policy: RecordedPolicy, ids: Sequence[str], draws: int = 1, batch: int = 1000) -> list[Drawn]:
    return [
        drawn
        for at in range(0, len(ids), batch)
        for drawn in policy.complete(_examples(ids[at : at + batch]), range(draws), Sampling())
    ]


def _read_to_the_end(policy: RecordedPolicy, ids: Sequence[str]) -> list[str]:
    _complete(policy, ids)
    return policy.leftovers()


def _texts(drawn: Sequence[Drawn]) -> list[str | None]:
    return [one.text if isinstance(one, Completion) else None for one in drawn]


def _record(name: str, draw: int, text: str | None = None) -> Record:
    if text is None:
        return Record(name, draw, None, Failure(FailureCode.POLICY_ERROR, "down"))
    return Record(name, draw, Completion(text), SCORE)


# --- shapes -----------------------------------------------------------------------------------------------------------


def test_one_completion_a_line(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "completion": "x", "logprob": -1, "ref_logprob": -2.5, "finish_reason": "length"},
        {"id": "b", "completion": ""},
    ]
    drawn = _complete(_open(write_rows(tmp_path / "f.jsonl", rows)), ["a", "b"])
    assert drawn == [Completion("x", -1.0, -2.5, FinishReason.LENGTH), Completion("")]


def test_samples_may_mix_strings_and_objects(tmp_path: Path) -> None:
    rows = [{"id": "a", "samples": ["x", {"completion": "y", "logprob": -1.0, "finish_reason": "stop"}, "z"]}]
    drawn = _complete(_open(write_rows(tmp_path / "f.jsonl", rows)), ["a"], 3)
    assert drawn == [Completion("x"), Completion("y", -1.0, None, FinishReason.STOP), Completion("z")]


def test_the_records_of_a_run_are_drawn_again_with_their_failures(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    rows = [_record("a", 0, "x"), _record("a", 1), _record("b", 0, "y"), Record("b", 1, None, SCORE)]
    write_rows(tmp_path / "run" / "records.jsonl", rows)
    drawn = _complete(_open(tmp_path / "run"), ["a", "b"], 2)
    assert drawn == [Completion("x"), Failure(FailureCode.POLICY_ERROR, "down"), Completion("y"), MISSING]


def test_token_ids_of_a_record_are_kept(tmp_path: Path) -> None:
    completion = Completion("x", token_ids=(1, 2), token_logprobs=(-0.5, -1.0))
    path = write_rows(tmp_path / "records.jsonl", [Record("a", 0, completion, SCORE)])
    assert _complete(_open(path), ["a"]) == [completion]


@pytest.mark.parametrize(
    ("line", "shape"),
    [
        (b'{"id":"a","completion":"x"}', CompletionRow),
        (b'{"id":"a","samples":[]}', SamplesRow),
        (b'{"id":"a","draw":0,"completion":null,"result":{}}', Record),
    ],
)
def test_the_shape_is_told_by_the_first_line(tmp_path: Path, line: bytes, shape: type[Any]) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes(line + b"\n")
    assert recognise(path) is shape


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\n", ":1: the line is blank"),
        (b'{"id":"a","prompt":"","expected_answer":1}\n', ":1: not a completions file (fields: id, prompt, exp"),
        (b'{"\x1b[31m":1}\n', ":1: not JSON"),
        (b'{"\\u001b[31m":1}\n', "fields: ␛[31m"),
        (b'["a"]\n', ":1: expected an object"),
        (b'\xef\xbb\xbf{"id":"a","completion":"x"}\n', "byte-order mark"),
        (b"PK\x03\x04\x00", "the file is a zip archive; unpack it"),
        (b"ab\x00", ":1: holds a NUL byte"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        recognise(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"id":"b","completion":"x","colour":1}', ":2: colour: unknown field"),
        (b'{"id":"b","completion":null}', ":2: completion: expected a string"),
        (b'{"id":1,"completion":"x"}', ":2: id: expected a string"),
        (b'{"completion":"x"}', ":2: id: missing field"),
        (b'{"id":"b","samples":["x"]}', ":2: "),
        (b'{"id":"b","completion":"x","finish_reason":"bored"}', ":2: finish_reason"),
        (b'{"id":"b","completion":"x","logprob":"-1"}', ":2: logprob: expected a number or null"),
        (b'{"id":"b","completion":"x', ":2: the line is cut short"),
        (b"", ":2: the line is blank"),
    ],
)
def test_a_later_line_of_another_form_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes(b'{"id":"a","completion":"x"}\n' + line + b"\n")
    with pytest.raises(BadInput) as caught:
        _complete(_open(path), ["a", "b"])
    assert message in str(caught.value)


# --- lock step and index ----------------------------------------------------------------------------------------------

IDS = st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1)


@IN_FOLDER
@given(IDS, IDS, st.tuples(st.integers(1, 4), st.integers(1, 3)), st.sampled_from(["completion", "samples", "records"]))
def test_the_answers_do_not_depend_on_the_order_of_the_file_nor_on_batches(
    tmp_path: Path, dataset: list[str], recorded: list[str], sizes: tuple[int, int], shape: str
) -> None:
    batch, draws = sizes
    rows: list[Any]
    if shape == "completion":
        draws = 1
        rows = [{"id": name, "completion": f"{name}0"} for name in recorded]
    elif shape == "samples":
        rows = [{"id": name, "samples": [f"{name}{draw}" for draw in range(draws)]} for name in recorded]
    else:
        rows = [_record(name, draw, f"{name}{draw}") for name in recorded for draw in range(draws)]
    policy = _open(write_rows(tmp_path / "f.jsonl", rows))
    drawn = _complete(policy, dataset, draws, batch)
    assert _texts(drawn) == [f"{name}{draw}" if name in recorded else None for name in dataset for draw in range(draws)]
    assert policy.leftovers() == [name for name in recorded if name not in dataset]
    assert policy.sha256() == hashlib.sha256((tmp_path / "f.jsonl").read_bytes()).hexdigest()


@IN_FOLDER
@given(st.integers(0, 8), st.integers(1, 3), st.lists(st.integers(0, 3), min_size=8, max_size=8))
def test_a_policy_that_begins_in_the_middle_gives_the_same_answers(
    tmp_path: Path, cut: int, draws: int, held: list[int]
) -> None:
    ids = list("abcdefgh")
    rows = [_record(name, d, f"{name}{d}") for name, count in zip(ids, held, strict=True) for d in range(count)]
    path = write_rows(tmp_path / "f.jsonl", rows or [_record("z", 0, "z0")])
    expected = _complete(_open(path), ids, draws)[cut * draws :]
    whole = _open(path)
    part = whole.beginning_at(whole.part_offsets([cut], draws)[0])
    assert _complete(part, ids[cut:], draws) == expected


def test_an_index_that_was_built_is_kept_for_the_next_part(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "f.jsonl", [{"id": name, "completion": name} for name in "bac"])
    policy = _open(path)
    _complete(policy, ["a"])
    assert policy.beginning_at(0) is policy


def test_a_missing_id_switches_to_the_index_and_is_a_failure(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "f.jsonl", [{"id": name, "completion": name} for name in "acd"])
    assert _texts(_complete(_open(path), list("abcd"))) == ["a", None, "c", "d"]


def test_ten_thousand_shuffled_lines_are_found(tmp_path: Path) -> None:
    ids = [f"e{i}" for i in range(10_000)]
    shuffled = random.Random(7).sample(ids, len(ids))
    path = write_rows(tmp_path / "f.jsonl", [{"id": name, "completion": name * 9} for name in shuffled])
    assert _texts(_complete(_open(path), ids, batch=700)) == [name * 9 for name in ids]


@pytest.mark.parametrize("order", ["aab", "aba", "baa", "abca"])
def test_a_repeated_id_is_refused_with_count_ids_and_lines(tmp_path: Path, order: str) -> None:
    path = write_rows(tmp_path / "f.jsonl", [{"id": name, "completion": "x"} for name in order])
    lines = ", ".join(str(i + 1) for i, name in enumerate(order) if name == "a")
    with pytest.raises(BadInput) as caught:
        _read_to_the_end(_open(path), sorted(set(order)))
    assert f"1 duplicate id: 'a' (lines {lines})" in str(caught.value)


def test_many_repeated_ids_are_counted_and_the_first_five_shown(tmp_path: Path) -> None:
    names = [f"n{i}" for i in range(9)]
    path = write_rows(tmp_path / "f.jsonl", [{"id": name, "completion": "x"} for name in names + names])
    with pytest.raises(BadInput, match=r"9 duplicate ids: 'n0' \(lines 1, 10\).*'n4' \(lines 5, 14\), …;"):
        _complete(_open(path), names[::-1])


def test_a_repeated_id_behind_a_shared_hash_is_still_found(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "f.jsonl", [{"id": name, "completion": "x"} for name in "aba"])
    with pytest.raises(BadInput, match=r"1 duplicate id: 'a' \(lines 1, 3\)"):
        LineIndex(path, CompletionRow, claimed_groups=0, hash_of=lambda _: 7)


def test_ids_that_share_a_hash_are_told_apart(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "f.jsonl", [{"id": name, "completion": name} for name in "abcde"])
    index = LineIndex(path, CompletionRow, claimed_groups=1, hash_of=lambda name: ord(name) % 2)
    rows = list(index.find(["c", "x", "b"]))
    assert [row and row.id for row in rows] == ["c", None, "b"]
    assert index.unclaimed() == ["d", "e"]


def test_records_that_share_a_hash_are_grouped_by_id(tmp_path: Path) -> None:
    rows = [_record(name, draw, "x") for draw in range(2) for name in "ab"]
    index = LineIndex(write_rows(tmp_path / "f.jsonl", rows), Record, claimed_groups=0, hash_of=lambda _: 0)
    (group,) = index.find(["b"])
    assert isinstance(group, RecordGroup)
    assert [(record.id, record.draw) for record in group.records] == [("b", 0), ("b", 1)]


# --- draws ------------------------------------------------------------------------------------------------------------


def test_ragged_samples_leave_failures_where_none_was_drawn(tmp_path: Path) -> None:
    rows = [{"id": "a", "samples": ["1"]}, {"id": "b", "samples": ["2", "3", "4"]}, {"id": "c", "samples": []}]
    policy = _open(write_rows(tmp_path / "f.jsonl", rows))
    assert policy.draws_recorded() == 3
    assert _texts(_complete(policy, list("abc"), 3)) == ["1", None, None, "2", "3", "4", None, None, None]


def test_draws_far_down_the_file_count_too(tmp_path: Path) -> None:
    rows = [{"id": f"e{i}", "samples": ["x" * 100] * (5 if i == 1999 else 1)} for i in range(2000)]
    assert _open(write_rows(tmp_path / "f.jsonl", rows)).draws_recorded() == 5


def test_records_of_one_example_may_be_longer_than_a_block(tmp_path: Path) -> None:
    rows = [_record("a", draw, "x" * 300_000) for draw in range(3)]
    policy = _open(write_rows(tmp_path / "f.jsonl", rows))
    assert policy.draws_recorded() == 3
    assert [len(text or "") for text in _texts(_complete(policy, ["a"], 3))] == [300_000] * 3


def test_counting_stops_once_there_are_enough_draws(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes(
        b'{"id":"a","samples":["'
        + b"x" * 300_000
        + b'","y"]}\n{"id":"b","samples":["'
        + b"x" * 300_000
        + b'"]}\nnot JSON\n'
    )
    assert _open(path).draws_recorded(enough=2) == 2


def test_one_draw_recorded_twice_is_refused_with_the_file(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "f.jsonl", [_record("a", 0, "x"), _record("a", 0, "y")])
    with pytest.raises(BadInput, match=r"f\.jsonl: id 'a', draw 0: recorded twice"):
        _complete(_open(path), ["a"])


def test_records_of_an_example_that_stand_apart_are_not_overlooked(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "f.jsonl", [_record("a", 0, "x"), _record("b", 0, "y"), _record("a", 1, "z")])
    policy = _open(path)
    _complete(policy, ["a", "b"], 2)
    with pytest.raises(BadInput, match=r"f\.jsonl:3: id 'a' has other records that stand apart"):
        policy.leftovers()


def test_an_id_left_over_is_named_once_however_many_records_it_has(tmp_path: Path) -> None:
    rows = [_record(name, draw, "x") for name in "abc" for draw in range(4)]
    policy = _open(write_rows(tmp_path / "f.jsonl", rows))
    _complete(policy, ["a"], 4)
    assert policy.leftovers() == ["b", "c"]


def test_the_policy_is_named_after_the_declared_model_or_else_the_file(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "f.jsonl", [{"id": "a", "completion": "x"}])
    assert _open(path).spec.name == "f.jsonl"
    assert RecordedPolicy(path, read_declared(path, ["policy.model=qwen"])).spec.name == "qwen"


def test_the_hash_is_of_the_whole_file_even_if_only_its_beginning_was_asked_for(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "f.jsonl", [{"id": f"e{i}", "completion": "x" * 100} for i in range(3000)])
    policy = _open(path)
    _complete(policy, ["e0"])
    assert policy.sha256() == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_lone_surrogate_among_samples_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text('{"id":"a","samples":["x\\ud800","Final: 1"]}\n')
    policy = RecordedPolicy(path, read_declared(path))
    assert policy.draws_recorded() == 2
    drawn = list(policy.complete([Example(id="a", prompt="p", expected_answer=1)], range(2), Sampling()))
    assert [one.text for one in drawn if isinstance(one, Completion)] == ["x\ud800", "Final: 1"]
