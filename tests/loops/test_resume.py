"""Whatever stops a run, and whenever: `--resume` ends with the records of an uninterrupted run, or refuses and says why."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lockedroom.errors import BadInput
from lockedroom.loops.evaluate import evaluate
from lockedroom.loops.evaluating.configuration import EvaluateConfig
from lockedroom.results.verify import verify
from lockedroom.testkit.small_run import lockedroom, write_additions, write_answers, write_rows, write_samples

COUNT = 120
DRAWS = 2
SLOW = """
import time
SPEC = {"name": "slow", "version": 1}
def score(example, completion):
    if "+" in example.prompt and example.id.startswith("e"):  # the battery goes fast
        time.sleep(0.002)
    return {"reward": len(completion) / 100, "details": {"code": "c" + completion[-1:]}}
"""


class _Case:
    """A dataset, its completions, a slow scorer, and the records that an uninterrupted run gives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_additions(folder, COUNT)
        write_samples(folder, COUNT, DRAWS)
        (folder / "slow.py").write_text(SLOW)
        self.whole = folder / "whole"
        assert self.run(self.whole).returncode == 0
        self.records = (self.whole / "records.jsonl").read_bytes()

    def arguments(self, out: Path, *more: str) -> list[str]:
        return ["evaluate", "--dataset", "sums.jsonl", "--completions", "samples.jsonl", "--scorer", "slow.py:score",
                "--out", str(out), *more]  # fmt: skip

    def run(self, out: Path, *more: str) -> subprocess.CompletedProcess[bytes]:
        return lockedroom(*self.arguments(out, *more), cwd=self.folder)

    def start(self, out: Path, *more: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "lockedroom", *self.arguments(out, *more)]
        return subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )

    def begun(self, name: str, records: bytes | None = None) -> Path:
        """A run of which this much of the records was written."""
        out = self.folder / name
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        for file in ("config.toml", "examples.jsonl", "records.jsonl"):
            shutil.copy(self.whole / file, out / file)
        if records is not None:
            (out / "records.jsonl").write_bytes(records)
        return out


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> _Case:
    return _Case(tmp_path_factory.mktemp("resume"))


def _bytes_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # not written yet, or joined into the records and deleted since it was listed
        return 0


def _wait_for(found: Path, process: subprocess.Popen[bytes], at_least: int = 1) -> None:
    """Return when the files hold this many bytes in sum."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        if sum(map(_bytes_of, [found / "records.jsonl", *(found / "pieces").glob("*")])) >= at_least:
            return
        time.sleep(0.005)
    raise AssertionError("the run ended, or wrote nothing, before it could be stopped")


def _killed(case: _Case, out: Path, at_least: int, *more: str) -> subprocess.Popen[bytes]:
    """A run that was killed when it had written this many bytes; its workers may live on for a moment.

    On a busy machine a run can end before this process looks again: such a run is made anew.
    """
    for _ in range(10):
        process = case.start(out, *more)
        try:
            _wait_for(out, process, at_least)
        except AssertionError:
            _finish(process)
        process.kill()
        if not (out / "manifest.json").exists():
            return process
        shutil.rmtree(out)
    raise AssertionError("ten runs ended before one of them could be killed")


def _finish(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    return process.communicate(timeout=30)


def _moments(count: int, seed: int) -> list[float]:
    drawn = random.Random(seed)
    return [drawn.random() for _ in range(count)]


# --- kill -9 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", _moments(12, seed=1))
def test_a_run_killed_at_any_moment_is_resumed_to_the_same_bytes(case: _Case, share: float) -> None:
    out = case.folder / f"killed{share:.6f}"
    _finish(_killed(case, out, int(share * 0.9 * len(case.records)) + 1))
    done = case.run(out, "--resume")
    assert done.returncode == 0, done.stderr
    assert (out / "records.jsonl").read_bytes() == case.records
    verify(out)


@pytest.mark.parametrize("share", _moments(8, seed=2))
def test_a_run_of_two_workers_killed_at_any_moment_is_resumed_to_the_same_bytes(case: _Case, share: float) -> None:
    out = case.folder / f"workers{share:.6f}"
    # Its workers are not killed: they have to notice, and nobody may write beside them.
    process = _killed(case, out, int(share * 0.8 * len(case.records)) + 1, "--workers", "2")
    resumed = case.start(out, "--resume", "--workers", "1" if share < 0.5 else "3")
    _finish(process)
    _, err = _finish(resumed)
    assert resumed.returncode == 0, err
    assert (out / "records.jsonl").read_bytes() == case.records
    assert not (out / "pieces").exists()
    verify(out)


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.1, 0.15, 0.2])
def test_a_run_killed_while_it_starts_can_be_made_again_in_the_same_folder(case: _Case, moment: float) -> None:
    out = case.folder / f"early{moment}"
    process = case.start(out)
    time.sleep(moment)
    process.kill()
    _finish(process)
    more = ["--resume"] if (out / "config.toml").exists() else []
    done = case.run(out, *more)
    assert done.returncode == 0, done.stderr
    assert (out / "records.jsonl").read_bytes() == case.records


def test_workers_end_when_the_run_is_killed(case: _Case) -> None:
    out = case.folder / "orphans"
    process = case.start(out, "--workers", "2")
    _wait_for(out, process)
    process.kill()
    _finish(process)
    deadline = time.monotonic() + 10
    while _alive_in_session(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert _alive_in_session(process.pid) == []


def _alive_in_session(session: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
    return found


# --- any byte ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    write_additions(folder, 6)
    write_samples(folder, 6, DRAWS)
    evaluate(_small_config(folder), folder / "whole")
    return folder


def _small_config(folder: Path) -> EvaluateConfig:
    return EvaluateConfig(dataset=str(folder / "sums.jsonl"), completions=str(folder / "samples.jsonl"))


@pytest.mark.parametrize("name", ["records.jsonl", "examples.jsonl"])
def test_a_file_cut_at_any_byte_is_completed_to_the_same_bytes(small: Path, name: str) -> None:
    whole = {file: (small / "whole" / file).read_bytes() for file in ("config.toml", "records.jsonl", "examples.jsonl")}
    cuts = range(0, len(whole[name]) + 1, 41 if name == "records.jsonl" else 13)
    out = small / "cut"
    for cut in cuts:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        for file, content in whole.items():
            (out / file).write_bytes(content[:cut] if file == name else content)
        evaluate(_small_config(small), out, resume=True)
        assert {file: (out / file).read_bytes() for file in whole} == whole


def test_records_without_examples_and_examples_without_records_are_completed(small: Path) -> None:
    for absent in ("records.jsonl", "examples.jsonl"):
        out = Path(shutil.copytree(small / "whole", small / f"without-{absent}"))
        for file in (absent, "manifest.json", "SHA256SUMS", "summary.json", "summary.md"):
            (out / file).unlink()
        evaluate(_small_config(small), out, resume=True)
        assert (out / "records.jsonl").read_bytes() == (small / "whole" / "records.jsonl").read_bytes()


@pytest.mark.parametrize("kept", ["manifest", "SHA256SUMS", "summary.json"])
def test_a_run_stopped_between_its_last_files_is_finished(small: Path, kept: str) -> None:
    out = Path(shutil.copytree(small / "whole", small / f"late-{kept}"))
    (out / "manifest.json").unlink()
    if kept != "manifest":
        (out / "SHA256SUMS").unlink()
    if kept == "summary.json":
        (out / "summary.md").unlink()
    evaluate(_small_config(small), out, resume=True)
    verify(out)


# --- something changed ------------------------------------------------------------------------------------------------


def test_only_what_was_left_is_judged_again(case: _Case) -> None:
    lines = case.records.splitlines(keepends=True)
    out = case.begun("rest", b"".join(lines[: 100 * DRAWS]) + lines[100 * DRAWS][:20])
    done = case.run(out, "--resume")
    assert done.returncode == 0, done.stderr
    assert b"40 attempts in" in done.stdout
    assert (out / "records.jsonl").read_bytes() == case.records


def test_a_finished_run_is_not_resumed(case: _Case) -> None:
    done = case.run(case.whole, "--resume")
    assert done.returncode == 2
    assert b"a finished run is here already" in done.stderr
    assert (case.whole / "records.jsonl").read_bytes() == case.records


def test_there_must_be_a_run_to_resume(case: _Case) -> None:
    done = case.run(case.folder / "nowhere", "--resume")
    assert done.returncode == 2
    assert b"nothing to resume here" in done.stderr
    assert not (case.folder / "nowhere").exists()


@pytest.mark.parametrize(
    ("file", "change", "workers", "message"),
    [
        ("sums.jsonl", ("What is 3 + 1?", "What is 3 plus 1?"), "2", "examples.jsonl: the input has changed"),
        ("sums.jsonl", ("What is 119 + 1?", "What is 119 plus 1?"), "1", "examples.jsonl: the input has changed"),
        (
            "samples.jsonl",
            ('"e3","samples":["', '"e3","samples":["x'),
            "2",
            "the record of id 'e3', draw 0 does not belong",
        ),
        (
            "samples.jsonl",
            ('"e3","samples":["', '"e3","samples":["x","'),
            "1",
            "the record of id 'e3', draw 0 does not",
        ),
        ("slow.py", ("/ 100", "/ 50"), "2", "not the scorer that this configuration pins (source sha256"),
        (
            "slow.py",
            ("time.sleep", "None; time.sleep"),
            "1",
            "not the scorer that this configuration pins (source sha256",
        ),
    ],
)
def test_an_input_that_changed_meanwhile_is_refused(
    case: _Case, file: str, change: tuple[str, str], workers: str, message: str
) -> None:
    old, new = change
    out = case.begun("changed", case.records[: len(case.records) // 2])
    before = (case.folder / file).read_text()
    assert old in before
    (case.folder / file).write_text(before.replace(old, new, 1))
    try:
        done = case.run(out, "--resume", "--workers", workers)
    finally:
        (case.folder / file).write_text(before)
    assert done.returncode == 2
    assert message.encode() in done.stderr
    assert b"Traceback" not in done.stderr
    assert case.run(out, "--resume").returncode == 0
    assert (out / "records.jsonl").read_bytes() == case.records


def test_an_import_of_the_scorer_that_changed_its_verdicts_is_noticed(tmp_path: Path) -> None:
    write_additions(tmp_path, 4)
    write_answers(tmp_path, 4)
    (tmp_path / "rule.py").write_text("REWARD = 0.25\n")
    (tmp_path / "mine.py").write_text(
        "from rule import REWARD\ndef score(example, completion):\n    return {'reward': REWARD, 'details': {}}\n"
    )
    config = EvaluateConfig(
        dataset=str(tmp_path / "sums.jsonl"),
        completions=str(tmp_path / "answers.jsonl"),
        scorer=f"{tmp_path}/mine.py:score",
    )
    evaluate(config, tmp_path / "run")
    (tmp_path / "run" / "manifest.json").unlink()
    (tmp_path / "rule.py").write_text("REWARD = 0.75\n")
    with pytest.raises(BadInput, match="scorer_fingerprint: was"):
        evaluate(config, tmp_path / "run", resume=True)


@pytest.mark.parametrize(("drop", "workers"), [(1, 1), (100, 2)])
def test_a_dataset_that_became_shorter_is_refused_and_nothing_is_cut(case: _Case, drop: int, workers: int) -> None:
    out = case.begun("shorter", case.records[: len(case.records) * 9 // 10])
    shutil.rmtree(case.folder / "short", ignore_errors=True)
    (case.folder / "short").mkdir()
    for name in ("slow.py", "samples.jsonl"):
        shutil.copy(case.folder / name, case.folder / "short" / name)
    lines = (case.folder / "sums.jsonl").read_bytes().splitlines(keepends=True)
    (case.folder / "short" / "sums.jsonl").write_bytes(b"".join(lines[:-drop]))
    done = lockedroom(*case.arguments(out, "--resume", "--workers", str(workers)), cwd=case.folder / "short")
    assert done.returncode == 2, done.stdout
    assert b"has become shorter" in done.stderr
    assert case.run(out, "--resume").returncode == 0
    assert (out / "records.jsonl").read_bytes() == case.records


def test_a_completion_that_was_missing_then_and_is_there_now_is_noticed(tmp_path: Path) -> None:
    write_additions(tmp_path, 4)
    config = EvaluateConfig(dataset=str(tmp_path / "sums.jsonl"), completions=str(write_answers(tmp_path, 3)))
    evaluate(config, tmp_path / "run")
    (tmp_path / "run" / "manifest.json").unlink()
    write_answers(tmp_path, 4)
    with pytest.raises(BadInput, match="the record of id 'e3', draw 0 does not belong to these inputs"):
        evaluate(config, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--limit", "7"], b"limit: was the default, now 7"),
        (["--draws", "1"], b"draws: was 2, now 1"),
        (["--confidence", "0.9"], b"confidence: was the default, now 0.9"),
        (["--declare", "sampling.top_k=1"], b"declare: was the default"),
        (["--scorer", "permissive"], b"'permissive' is not the scorer that this configuration pins"),
    ],
)
def test_a_run_is_not_resumed_with_other_flags(case: _Case, flags: list[str], message: bytes) -> None:
    done = case.run(case.begun("flags", b""), "--resume", *flags)
    assert done.returncode == 2
    assert message in done.stderr


def test_flags_left_out_are_as_the_run_was_begun(case: _Case) -> None:
    out = case.begun("bare", case.records[:1000])
    done = lockedroom("evaluate", "--out", out, "--resume", cwd=case.folder)
    assert done.returncode == 0, done.stderr
    assert (out / "records.jsonl").read_bytes() == case.records


def test_a_record_damaged_meanwhile_is_named(case: _Case) -> None:
    damaged = case.records.replace(b'"draw":1', b'"draw":x', 1)
    done = case.run(case.begun("damaged", damaged), "--resume")
    assert done.returncode == 2
    assert b"records.jsonl:2: not JSON" in done.stderr


# --- other ways to stop -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("whom", ["group", "process"])
def test_ctrl_c_ends_with_one_message_and_the_run_can_be_resumed(case: _Case, workers: str, whom: str) -> None:
    out = case.folder / f"interrupted-{workers}-{whom}"
    process = case.start(out, "--workers", workers)
    _wait_for(out, process, len(case.records) // 4)
    began = time.monotonic()
    if whom == "group":
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    else:
        process.send_signal(signal.SIGINT)
    _, err = _finish(process)
    assert process.returncode == 130
    assert time.monotonic() - began < 5
    assert err.count(b"\n") == 1
    assert b"continued with the same command and --resume" in err
    done = case.run(out, "--resume")
    assert done.returncode == 0, done.stderr
    assert (out / "records.jsonl").read_bytes() == case.records


def test_ctrl_c_while_workers_start_prints_no_traceback(case: _Case) -> None:
    for i, moment in enumerate((0.25, 0.4, 0.55)):
        process = case.start(case.folder / f"starting-{i}", "--workers", "2")
        time.sleep(moment)
        os.killpg(process.pid, signal.SIGINT)
        _, err = _finish(process)
        if (case.folder / f"starting-{i}").exists():
            assert b"Traceback" not in err, err.decode()


def test_two_processes_do_not_write_one_folder(case: _Case) -> None:
    out = case.folder / "shared"
    first = case.start(out)
    _wait_for(out, first)
    first.send_signal(signal.SIGSTOP)  # or it may have finished before the second has begun
    second = case.run(out, "--resume")
    first.send_signal(signal.SIGCONT)
    _finish(first)
    assert (first.returncode, second.returncode) == (0, 2)
    assert b"another process is writing this run" in second.stderr
    assert (out / "records.jsonl").read_bytes() == case.records


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("kind", ["recorded", "live"])
def test_a_full_disk_is_one_message_and_what_was_finished_is_kept(case: _Case, workers: str, kind: str) -> None:
    out = case.folder / f"full-{workers}-{kind}"
    samples = [{"id": f"e{i}", "samples": [f"Final: {i + 1}", "x" * 2000]} for i in range(COUNT)]
    write_rows(case.folder / "long.jsonl", samples)
    what = (
        ["--completions", "long.jsonl"]
        if kind == "recorded"
        else ["--policy", "scripted:" + "x" * 2000, "--draws", "2"]
    )
    arguments = ["evaluate", "--dataset", "sums.jsonl", *what]
    limit = 100_000  # bytes a file: the records take more

    def limit_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-m", "lockedroom", *arguments, "--out", str(out), "--workers", workers]
    full = subprocess.run(command, cwd=case.folder, capture_output=True, check=False, preexec_fn=limit_files)
    assert full.returncode == 2, full.stderr
    assert full.stderr.count(b"\n") == 1
    assert b"cannot be written: File too large; free some space and continue with --resume" in full.stderr
    kept = (out / "records.jsonl").read_bytes()
    resumed = lockedroom(*arguments, "--out", out, "--resume", cwd=case.folder)
    assert resumed.returncode == 0, resumed.stderr
    uninterrupted = case.folder / f"room-{workers}-{kind}"
    assert lockedroom(*arguments, "--out", uninterrupted, cwd=case.folder).returncode == 0
    whole = (out / "records.jsonl").read_bytes()
    assert whole == (uninterrupted / "records.jsonl").read_bytes()
    assert whole.startswith(kept)
    if workers == "1":
        assert len(kept) > limit // 4


def test_a_worker_that_is_killed_is_one_message_and_the_run_can_be_resumed(case: _Case) -> None:
    out = case.folder / "worker-killed"
    process = case.start(out, "--workers", "2")
    _wait_for(out, process, 2000)
    for pid in _alive_in_session(process.pid):
        if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
            break
    _, err = _finish(process)
    assert process.returncode == 2
    assert b"a worker process died; continue with --resume" in err
    assert case.run(out, "--resume").returncode == 0
    assert (out / "records.jsonl").read_bytes() == case.records


def test_a_reader_that_goes_away_is_no_error(case: _Case) -> None:
    command = f"{sys.executable} -m lockedroom inspect {case.whole} --show 500 | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, check=False)
    assert done.stderr == b""
    assert done.stdout.count(b"\n") == 1
