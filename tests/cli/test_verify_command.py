"""`lockedroom verify`: what a person reads, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lockedroom.cli.main import main
from lockedroom.testkit.small_run import write_additions, write_answers


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    monkeypatch.chdir(tmp_path)
    write_additions(tmp_path, 10)
    write_answers(tmp_path, 10)
    for name in ("run", "other"):
        assert main(["evaluate", "--dataset", "sums.jsonl", "--completions", "answers.jsonl", "--out", name]) == 0
    capsys.readouterr()
    return tmp_path / "run"


def test_several_runs_are_verified_with_what_was_checked(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "run", "other"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["run", "other"]
    assert "10 records; 10 verdicts were made again and agree" in lines[0]


def test_json_says_what_was_checked(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "run", "--json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert (shown["verified"], shown["attempts"], shown["rescored"], shown["not_checked"]) == (True, 10, 10, [])


def test_a_changed_run_is_exit_4_and_each_trouble_has_a_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "summary.md").write_text("all is well")
    (run / "config.toml").unlink()
    assert main(["verify", "other", "run"]) == 4
    err = capsys.readouterr().err
    assert err.startswith("lockedroom: run: does not verify; do not use its numbers:\n  - ")
    assert "summary.md was changed" in err
    assert "config.toml is missing" in err


def test_an_unfinished_run_is_exit_2_and_not_called_tampered(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "manifest.json").unlink()
    assert main(["verify", "run"]) == 2
    assert "not a finished run" in capsys.readouterr().err


def test_what_was_not_checked_is_said(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text("def score(example, completion):\n    return {'reward': 0.5, 'details': {}}\n")
    arguments = [
        "--dataset",
        "sums.jsonl",
        "--completions",
        "answers.jsonl",
        "--scorer",
        "mine.py:score",
        "--out",
        "own",
    ]
    assert main(["evaluate", *arguments]) == 0
    assert main(["verify", "own"]) == 0
    assert "not checked: rewards were not judged again" in capsys.readouterr().out
