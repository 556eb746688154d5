"""A run folder is written once, atomically, and continued at any byte."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lockedroom.errors import BadInput, CannotWrite
from lockedroom.jsonl import BLOCK_BYTES, encode_lines
from lockedroom.records import Completion, Failure, FailureCode, Record
from lockedroom.results.run_folder import CONFIG, RECORDS, GrowingFile, RunFolder, write_atomically, writing

CONFIG_BYTES = b'dataset = "d"\n'


def _records(examples: int, draws: int) -> list[Record]:
    failed = Failure(FailureCode.POLICY_ERROR, "down")
    return [Record(f"e{i}", draw, Completion("x" * i), failed) for i in range(examples) for draw in range(draws)]


def _begun(path: Path, records: bytes, config: bytes = CONFIG_BYTES) -> Path:
    path.mkdir()
    (path / CONFIG).write_bytes(config)
    (path / RECORDS).write_bytes(records)
    return path


def _resumed(path: Path, draws: int = 1) -> RunFolder:
    return RunFolder(path, CONFIG_BYTES, draws=draws, resume=True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.integers(0, 900), st.integers(1, 4))
def test_what_is_kept_of_a_cut_file_are_whole_examples(tmp_path: Path, cut: int, draws: int) -> None:
    whole = encode_lines(_records(5, draws))
    (tmp_path / RECORDS).write_bytes(whole[:cut])
    (tmp_path / CONFIG).write_bytes(CONFIG_BYTES)
    run = _resumed(tmp_path, draws)
    try:
        assert run.recorded % draws == 0
        assert run.recorded == whole[:cut].count(b"\n") // draws * draws
        assert list(run.old_records()) == _records(5, draws)[: run.recorded]
    finally:
        run.abandon(remove=False)


def test_a_torn_line_longer_than_a_block_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "run"
    _begun(path, b"")
    (path / "examples.jsonl").write_bytes(b"{}\n" + b"x" * (3 * BLOCK_BYTES))
    run = _resumed(path)
    run.abandon(remove=False)
    assert (path / "examples.jsonl").read_bytes() == b"{}\n"


def test_a_growing_file_compares_what_it_is_given_again_and_then_grows(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"one\ntwo\ntorn")
    file = GrowingFile(path, keep=8)
    file.append(b"one\n", 1)
    file.append(b"two\nthree\n", 2)
    entry = file.close()
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    assert (entry.bytes, entry.lines) == (14, 3)


def test_a_growing_file_refuses_other_bytes_than_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"one\ntwo\n")
    file = GrowingFile(path, keep=8)
    with pytest.raises(BadInput, match="has changed since this run began"):
        file.append(b"one\nTWO\n", 2)
    file.abandon()
    assert path.read_bytes() == b"one\ntwo\n"


def test_a_growing_file_refuses_to_end_before_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"one\ntwo\n")
    file = GrowingFile(path, keep=8)
    file.append(b"one\n", 1)
    with pytest.raises(BadInput, match="has become shorter"):
        file.close()
    file.abandon()
    assert path.read_bytes() == b"one\ntwo\n"


def test_a_finished_run_is_never_written_into(tmp_path: Path) -> None:
    path = _begun(tmp_path / "run", b"")
    (path / "manifest.json").write_bytes(b"{}")
    for resume in (False, True):
        with pytest.raises(BadInput, match="a finished run is here already"):
            RunFolder(path, CONFIG_BYTES, draws=1, resume=resume)


def test_an_unfinished_run_is_only_continued_when_asked(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput,
        match="an unfinished run is here already; continue it with --resume if evaluate, select or learn began it",
    ):
        RunFolder(_begun(tmp_path / "run", b""), CONFIG_BYTES, draws=1, resume=False)


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("do not touch")
    with pytest.raises(BadInput, match="not empty and is not a run"):
        RunFolder(tmp_path, CONFIG_BYTES, draws=1, resume=False)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(BadInput, match="exists and is not a folder"):
        RunFolder(tmp_path / "run", CONFIG_BYTES, draws=1, resume=False)


def test_a_folder_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="choose another --out"):
        RunFolder(tmp_path / "file" / "run", CONFIG_BYTES, draws=1, resume=False)


def test_there_must_be_something_to_resume(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing to resume here"):
        _resumed(tmp_path)


def test_what_a_kill_in_the_first_moment_leaves_does_not_block_the_folder(tmp_path: Path) -> None:
    (tmp_path / f".{CONFIG}.writing").write_bytes(b"data")
    RunFolder(tmp_path, CONFIG_BYTES, draws=1, resume=False).abandon(remove=False)
    assert (tmp_path / CONFIG).read_bytes() == CONFIG_BYTES


@pytest.mark.parametrize(
    ("config", "message"),
    [(b'dataset = "other"\n', "dataset: was 'other', now 'd'"), (b'dataset = "d"\nlimit = 3\n', "limit: was 3, now the default"),
     (b"dataset = ", "not TOML"), (b"\xff", "not TOML")],
)  # fmt: skip
def test_a_run_begun_otherwise_is_not_continued(tmp_path: Path, config: bytes, message: str) -> None:
    path = _begun(tmp_path / "run", b"", config)
    with pytest.raises(BadInput, match=message):
        _resumed(path)
    (path / CONFIG).write_bytes(CONFIG_BYTES)
    _resumed(path).abandon(remove=False)  # the lock was given back


def test_one_process_at_a_time_writes_a_run(tmp_path: Path) -> None:
    first = _resumed(_begun(tmp_path / "run", b""))
    with pytest.raises(BadInput, match="another process is writing this run"):
        _resumed(tmp_path / "run")
    first.abandon(remove=False)
    _resumed(tmp_path / "run").abandon(remove=False)


def test_removing_takes_only_what_this_process_wrote(tmp_path: Path) -> None:
    made = RunFolder(tmp_path / "new" / "run", CONFIG_BYTES, draws=1, resume=False)
    made.abandon(remove=True)
    assert not (tmp_path / "new" / "run").exists()
    (tmp_path / "empty").mkdir()
    RunFolder(tmp_path / "empty", CONFIG_BYTES, draws=1, resume=False).abandon(remove=True)
    assert list((tmp_path / "empty").iterdir()) == []
    kept = _begun(tmp_path / "kept", encode_lines(_records(2, 1)))
    _resumed(kept).abandon(remove=True)
    assert (kept / RECORDS).read_bytes() == encode_lines(_records(2, 1))


def test_an_atomic_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.mkdir()  # a file cannot replace a folder
    with pytest.raises(CannotWrite):
        write_atomically(path, b"new")
    assert os.listdir(tmp_path) == ["f"]


def test_a_full_disk_is_told_apart_from_other_trouble(tmp_path: Path) -> None:
    with pytest.raises(CannotWrite, match=r"No space left on device; free some space$") as trouble:
        _write_to(Path("/dev/full"))
    assert trouble.value.full == "/dev/full"
    with pytest.raises(CannotWrite, match="choose another --out") as trouble:
        _write_to(tmp_path / "absent" / "f")
    assert trouble.value.full is None


def _write_to(path: Path) -> None:
    with writing(path), open(path, "wb", buffering=0) as file:
        file.write(b"x")
