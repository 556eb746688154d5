"""Rejection sampling that really stops, and selections that are continued after a kill."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lockedroom.cli.main import main
from lockedroom.errors import BadInput, Tampered
from lockedroom.jsonl import read_batches
from lockedroom.loops.evaluate import evaluate
from lockedroom.loops.evaluating.configuration import EvaluateConfig
from lockedroom.loops.selecting.adaptive import Rejected, draw_until_pass
from lockedroom.policy.tiny import DATA_FOLDER
from lockedroom.records import Record, Sampling
from lockedroom.results.compare import CompareOptions, compare
from lockedroom.results.kinds import verify_folder
from lockedroom.results.selection.adaptive import by_example
from lockedroom.results.selection.selectors import passed
from lockedroom.results.verify import verify

DEV = str(DATA_FOLDER / "dev.jsonl")
BUDGET = 6
CONFIG = EvaluateConfig(dataset=DEV, policy="tiny", draws=BUDGET, limit=150, sampling=Sampling(seed=5))


def records(path: Path) -> list[Record]:
    return [record for batch in read_batches(path, Record) for record in batch.rows]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Rejected:
    return draw_until_pass(CONFIG, tmp_path_factory.mktemp("adaptive") / "run")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluate(CONFIG, tmp_path_factory.mktemp("pool") / "pool").path


def test_the_draws_are_those_of_drawing_everything_cut_at_the_first_pass(done: Rejected, pool: Path) -> None:
    expected = []
    for draws in by_example(records(pool / "records.jsonl")):
        first = next((i for i, one in enumerate(draws) if passed(one.result)), BUDGET - 1)
        expected += draws[: first + 1]
    assert records(done.path / "attempts.jsonl") == expected


def test_the_accounting_is_exact(done: Rejected) -> None:
    made = records(done.path / "attempts.jsonl")
    found = done.adaptive
    assert found.draws == len(made)
    assert found.saved == 150 * BUDGET - len(made)
    assert found.tokens == sum(len(one.completion.token_ids or ()) for one in made if one.completion is not None)
    assert found.solved + found.unsolved == 150
    assert sum(found.stopped_at) == found.solved
    assert found.saved > 0


def test_it_verifies_and_compares_as_selection(done: Rejected, pool: Path) -> None:
    assert verify(done.path).rescored == 150
    (against,) = compare([pool, done.path], CompareOptions()).against
    assert against.turned.knobs == ("selection",)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("adaptive.json", ('"saved": ', '"saved": 1'), "its numbers are not those"),
        ("attempts.jsonl", ('"draw":1', '"draw":2'), "not numbered from 0"),
        ("attempts.jsonl", ('"text":"', '"text":"x'), "judges it otherwise"),
    ],
)
def test_what_does_not_follow_is_tampering_though_every_hash_fits(
    done: Rejected, tmp_path: Path, name: str, change: tuple[str, str], message: str
) -> None:
    import shutil

    import msgspec

    from lockedroom.safeguards import manifest as manifests

    run = Path(shutil.copytree(done.path, tmp_path / "run"))
    (run / name).write_text((run / name).read_text().replace(*change, 1))
    files = {**done.manifest.files, name: manifests.measure_file(run / name)}
    forged = msgspec.structs.replace(done.manifest, files=files)
    (run / manifests.NAME).write_bytes(manifests.encode_manifest(forged))
    (run / manifests.SUMS_NAME).write_bytes(manifests.checksum_lines(forged))
    with pytest.raises(Tampered, match=message):
        verify_folder(run)


def arguments(out: Path, selector: str, draws: int) -> list[str]:
    return ["select", "--dataset", DEV, "--policy", "tiny", "--draws", str(draws), "--limit", "300", "--seed", "5",
            "--selector", selector, "--out", str(out)]  # fmt: skip


def kill_once_it_has_written(command: list[str], growing: Path) -> None:
    """Start the command in a process of its own, and kill -9 it as soon as a file has grown."""
    code = "import sys; from lockedroom.cli.main import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen([sys.executable, "-c", code, *command], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not (growing.is_file() and growing.stat().st_size) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize(
    ("selector", "growing"), [("rejection-sampling", "run/records.jsonl"), ("best-of-n", "run-pool/records.jsonl")]
)
def test_a_killed_selection_is_continued_to_the_same_bytes(tmp_path: Path, selector: str, growing: str) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    kill_once_it_has_written(arguments(killed / "run", selector, 8), killed / growing)
    assert main([*arguments(killed / "run", selector, 8), "--resume"]) == 0
    assert main(arguments(whole / "run", selector, 8)) == 0
    for name in (
        "records.jsonl",
        "examples.jsonl",
        *(["attempts.jsonl"] if selector == "rejection-sampling" else ["pool.jsonl"]),
    ):
        one, two = (hashlib.sha256((folder / "run" / name).read_bytes()).digest() for folder in (killed, whole))
        assert one == two, name
    assert main(["verify", str(killed / "run")]) == 0


@pytest.mark.parametrize("cut", [0, 1, 700, 5000])
def test_an_interrupted_run_is_continued_from_any_byte(done: Rejected, tmp_path: Path, cut: int) -> None:
    out = tmp_path / "run"
    out.mkdir()
    for name, at in (
        ("config.toml", None),
        ("examples.jsonl", None),
        ("attempts.jsonl", 3 * cut),
        ("records.jsonl", cut),
    ):
        (out / name).write_bytes((done.path / name).read_bytes()[:at])
    again = draw_until_pass(CONFIG, out, resume=True)
    assert again.adaptive == done.adaptive
    for name in ("records.jsonl", "attempts.jsonl"):
        assert again.manifest.files[name] == done.manifest.files[name]


def test_draws_that_other_arguments_made_are_not_taken_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    config = EvaluateConfig(dataset=DEV, policy="tiny", draws=2, limit=300, sampling=Sampling(seed=5))
    evaluate(config, tmp_path / "run-pool")
    assert main([*arguments(out, "best-of-n", 4), "--resume"]) == 2
    assert "made with other arguments" in capsys.readouterr().err


def test_with_curves_asked_for_every_draw_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments(tmp_path / "run", "rejection-sampling", 2), "--n", "1,2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["selection"]["draws"] == 2


def test_resuming_needs_the_name_of_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["select", "--dataset", DEV, "--policy", "tiny", "--selector", "first", "--draws", "2", "--resume"]) == 2
    )
    assert "--out RUN" in capsys.readouterr().err


def test_a_budget_has_to_be_given(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="draws"):
        draw_until_pass(EvaluateConfig(dataset=DEV, policy="tiny", draws=0, limit=3), tmp_path / "run")
