from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lockedroom.cli.main import main
from lockedroom.cli.progress import watched
from lockedroom.errors import BadInput
from lockedroom.jsonl import BLOCK_BYTES, encode_lines
from lockedroom.records import Completion, Details, Failure, FailureCode, Outcome, Record, Score
from lockedroom.results.evaluation.watching import Seen, Stream
from lockedroom.stats.sequential import robbins_interval
from lockedroom.testkit.small_run import write_additions, write_samples

ROBBINS_7_OF_10 = robbins_interval(7, 10)


def record(i: int, draw: int = 0, *, passed: bool | None = True, text: str = "x") -> Record:
    if passed is None:
        return Record(f"e{i}", draw, None, Failure(FailureCode.POLICY_ERROR, "no"))
    outcome = Outcome.CORRECT if passed else Outcome.WRONG
    return Record(f"e{i}", draw, Completion(text), Score(float(passed), Details("c", outcome, None, "m")))


def unfinished(folder: Path, records: list[Record], torn: bytes = b"") -> Path:
    run = folder / "run"
    run.mkdir(exist_ok=True)
    (run / "config.toml").write_text("")
    (run / "records.jsonl").write_bytes(encode_lines(records) + torn)
    return run


def finished(folder: Path) -> Path:
    dataset, completions = write_additions(folder, 100), write_samples(folder, 100, 2)
    run = folder / "done"
    assert main(["evaluate", "--dataset", str(dataset), "--completions", str(completions), "--out", str(run)]) == 0
    return run


def watch(capsys: pytest.CaptureFixture[str], run: Path, *flags: str) -> list[dict[str, object]]:
    capsys.readouterr()
    assert main(["watch", str(run), "--json", *flags]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_finished_run_gives_robbins_interval_over_the_first_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [found] = watch(capsys, finished(tmp_path))
    interval = robbins_interval(60, 100)
    assert found == {
        "finished": True,
        "attempts": 200,
        "scored": 100,
        "passed": 60,
        "failed": 0,
        "pass_rate": 0.6,
        "interval": {"low": interval.low, "high": interval.high, "confidence": 0.95, "method": interval.method},
    }


def test_an_unfinished_run_is_read_up_to_its_last_whole_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [record(i, draw, passed=i < 7) for i in range(10) for draw in (0, 1)]
    run = unfinished(tmp_path, records, torn=b'{"id":"e9","dr')
    assert main(["watch", str(run)]) == 0
    assert capsys.readouterr().out == (
        f"{run}: unfinished, 20 attempts; pass rate 0.7000 over the first draws of 10 examples, "
        f"in [{ROBBINS_7_OF_10.low:.4f}, {ROBBINS_7_OF_10.high:.4f}] at 0.95 for all looks together\n"
    )


def test_a_first_draw_that_could_not_be_judged_is_not_a_zero(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = unfinished(tmp_path, [record(0), record(1, passed=None), record(2, 1, passed=None)])
    [found] = watch(capsys, run)
    assert (found["pass_rate"], found["failed"], found["attempts"]) == (1.0, 1, 3)
    main(["watch", str(run)])
    assert "; 1 first draw could not be judged and is left out\n" in capsys.readouterr().out


@pytest.mark.parametrize("records", [None, []])
def test_before_the_first_record_there_is_no_rate(
    tmp_path: Path, records: list[Record] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = unfinished(tmp_path, [])
    if records is None:
        (run / "records.jsonl").unlink()
    [found] = watch(capsys, run)
    assert (found["pass_rate"], found["interval"]) == (
        None, {"low": 0.0, "high": 1.0, "confidence": 0.95, "method": "robbins confidence sequence"},
    )  # fmt: skip
    main(["watch", str(run)])
    assert "no pass rate yet" in capsys.readouterr().out


def test_a_stream_counts_only_what_is_new(tmp_path: Path) -> None:
    run = unfinished(tmp_path, [record(i) for i in range(3)])
    stream = Stream(run)
    assert stream.read_new() == Seen(3, 3, 3, 0)
    assert stream.read_new() == Seen(3, 3, 3, 0)
    line = encode_lines([record(3, passed=False)])
    with open(run / "records.jsonl", "ab") as file:
        file.write(line[:10])
        file.flush()
        assert stream.read_new() == Seen(3, 3, 3, 0)
        file.write(line[10:])
    assert stream.read_new() == Seen(4, 4, 3, 0)


def test_a_stream_that_was_cut_off_by_resume_is_counted_anew(tmp_path: Path) -> None:
    run = unfinished(tmp_path, [record(i) for i in range(5)])
    stream = Stream(run)
    stream.read_new()
    unfinished(tmp_path, [record(i, passed=False) for i in range(2)])
    assert stream.read_new() == Seen(2, 2, 0, 0)


def test_lines_longer_than_a_block_and_many_blocks_are_read_whole(tmp_path: Path) -> None:
    records = [record(0, text="y" * (3 * BLOCK_BYTES)), *(record(i, text="z" * 500) for i in range(1, 400))]
    run = unfinished(tmp_path, records, torn=b"w" * (2 * BLOCK_BYTES))
    assert Stream(run).read_new() == Seen(400, 400, 400, 0)


def test_a_bounded_read_catches_up_later(tmp_path: Path) -> None:
    run = unfinished(tmp_path, [record(i, text="z" * 500) for i in range(400)])
    stream = Stream(run)
    first = stream.read_new(at_most=1000).attempts
    assert 0 < first < 400
    while stream.read_new(at_most=1000).attempts > first:
        first = stream.seen.attempts
    assert stream.seen == Seen(400, 400, 400, 0)


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    run = unfinished(tmp_path, [record(0)], torn=b'{"id":"e1"}\n')
    with pytest.raises(BadInput, match=r"records\.jsonl:2: "):
        Stream(run).read_new()


def test_follow_ends_when_the_run_is_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [found] = watch(capsys, finished(tmp_path), "--follow", "--every", "0.01")
    assert found["finished"] is True


def test_follow_prints_as_records_come(tmp_path: Path) -> None:
    run = unfinished(tmp_path, [record(0)])
    command = [sys.executable, "-m", "lockedroom", "watch", str(run), "--follow", "--every", "0.02", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["attempts"] == 1
        with open(run / "records.jsonl", "ab") as file:
            file.write(encode_lines([record(1, passed=False)]))
        assert json.loads(process.stdout.readline())["attempts"] == 2
        (run / "manifest.json").write_text("{}")
        assert json.loads(process.stdout.readline())["finished"] is True
        assert process.wait(30) == 0


def test_follow_ends_quietly_at_ctrl_c(tmp_path: Path) -> None:
    run = unfinished(tmp_path, [record(0)])
    command = [sys.executable, "-m", "lockedroom", "watch", str(run), "--follow", "--every", "0.02"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"{run}: unfinished, 1 attempt")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == ("", "")
        assert process.returncode == 0


@pytest.mark.parametrize(
    "flags", [("--confidence", "1"), ("--confidence", "nan"), ("--every", "0"), ("--every", "nan"), ("--every", "inf")]
)
def test_values_that_cannot_be_are_refused(tmp_path: Path, flags: tuple[str, str]) -> None:
    assert main(["watch", str(unfinished(tmp_path, [record(0)])), *flags]) == 2


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(tmp_path)]) == 2
    assert "not a run, finished or not" in capsys.readouterr().err


def test_the_progress_bar_says_the_pass_rate_so_far(tmp_path: Path) -> None:
    run = unfinished(tmp_path, [record(i, passed=i < 7) for i in range(10)])
    said = f"evaluate: pass rate 0.700 so far, in {ROBBINS_7_OF_10.low:.3f} to {ROBBINS_7_OF_10.high:.3f},"
    assert watched("evaluate", run, every=0.0)() == said
    assert watched("evaluate", run, every=100.0)() == "evaluate"  # not yet
    assert watched("evaluate", None)() == "evaluate"
