"""`lockedroom evaluate`: what a person reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lockedroom.cli.main import main
from lockedroom.testkit.small_run import write_additions, write_answers


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_additions(tmp_path, 20)
    write_answers(tmp_path, 20)
    return tmp_path


def _evaluate(*more: str) -> int:
    return main(["evaluate", "--dataset", "sums.jsonl", "--completions", "answers.jsonl", *more])


def test_the_summary_is_printed_with_what_to_do_next(inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _evaluate("--out", "run") == 0
    out = capsys.readouterr().out
    assert out.startswith((inputs / "run" / "summary.md").read_text())
    for fact in ("0.6000", "20 attempts in", "a second", "lockedroom inspect run", "lockedroom verify run"):
        assert fact in out


def test_what_to_do_next_can_be_pasted_whatever_the_folder_is_called(
    inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _evaluate("--out", "my run; ls") == 0
    assert "lockedroom verify 'my run; ls'" in capsys.readouterr().out


def test_json_is_the_saved_summary(inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _evaluate("--out", "run", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["run"] == "run"
    assert shown["summary"] == json.loads((inputs / "run" / "summary.json").read_text())


def test_without_a_name_the_run_goes_into_a_new_folder_named_after_its_inputs(
    inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _evaluate() == 0
    (made,) = (inputs / "runs").iterdir()
    assert made.name.startswith("sums-answers-")
    assert f"run folder: runs/{made.name}" in capsys.readouterr().out


def test_nothing_is_printed_on_stderr_when_it_is_no_terminal(inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _evaluate("--out", "run") == 0
    assert capsys.readouterr().err == ""


def test_three_numbers_are_printed_when_there_are_failures(inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_answers(inputs, 18)
    assert _evaluate("--out", "run") == 0
    out = capsys.readouterr().out
    assert "2 of 20 attempts could not be judged (2 missing_completion)" in out
    assert "Mean reward 0.6111 over the judged, 0.5500 with failures as 0, and anything in [0.5500, 0.6500]" in out


def test_what_was_declared_is_printed(inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _evaluate("--out", "run", "--declare", "sampling.temperature=0.8", "--declare", "policy.model=qwen") == 0
    out = capsys.readouterr().out
    assert "# qwen on sums" in out
    assert "temperature 0.8, top_k undeclared" in out


def test_the_command_is_in_the_manifest(inputs: Path) -> None:
    assert _evaluate("--out", "run", "--split", "dev") == 0
    manifest = json.loads((inputs / "run" / "manifest.json").read_text())
    assert manifest["room"]["dataset"]["split"] == "dev"
    assert manifest["inputs"]["completions"] == "answers.jsonl"
    assert manifest["command"]
