"""`lockedroom tokens`, as a person calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lockedroom.cli.main import main
from lockedroom.policy.tiny import DATA_FOLDER

PROMPT = "Compute 25+87. Output exactly one line: Final: <int>"


def test_without_a_prompt_it_shows_ids_pieces_and_spans(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokens", "Final: 7\\n"]) == 0
    out = capsys.readouterr().out
    assert "⏎" in out
    assert "0–7" in out


def test_with_a_prompt_and_an_answer_it_prints_the_format_tax(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokens", "--prompt", PROMPT, "--answer", "112"]) == 0
    assert "the format tax is" in capsys.readouterr().out


def test_json_holds_every_reading(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokens", "112", "--prompt", PROMPT, "--json"]) == 0
    (reading,) = json.loads(capsys.readouterr().out)["readings"]
    assert 0 < reading["probability"] < 1
    assert len(reading["token_logprobs"]) == 4  # three digits and the end


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("runs") / "run"
    dataset = str(DATA_FOLDER / "dev.jsonl")
    arguments = ["--dataset", dataset, "--limit", "3", "--policy", "tiny-weak", "--draws", "2", "--out", str(out)]
    assert main(["evaluate", *arguments]) == 0
    return str(out)


def test_a_runs_records_are_shown_token_by_token(sampled: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokens", "--run", sampled, "--draw", "1", "--show", "2"]) == 0
    out = capsys.readouterr().out
    assert out.count("· draw 1 ·") == 2
    assert "reference" not in out
    assert main(["tokens", "--run", sampled, "--show", "1", "--reference", "tiny"]) == 0
    assert "under tiny: k1 = " in capsys.readouterr().out


def test_a_runs_records_as_json_are_plain_ascii(sampled: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokens", "--run", sampled, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    assert len(json.loads(out)) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x"], "a TEXT does not go with --run"),
        (["--prompt", PROMPT], "--prompt does not go with --run"),
        (["--temperature", "2"], "--temperature does not go with --run"),
        (["--show", "0"], "at least 1"),
        (["--id", "nobody"], "no such example"),
        (["--step", "1"], "not a learning run"),
        (["--reference", "gpt-9"], "unknown policy"),
        (["--policy", "scripted:x"], "gives no probabilities"),
    ],
)
def test_a_runs_records_that_cannot_be_shown_get_one_line_and_exit_2(
    sampled: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tokens", "--run", sampled, *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokens", "--run", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tokens", "x", "--id", "a"], "--id goes with --run"),
        (["tokens", "x", "--reference", "tiny"], "--reference goes with --run"),
        (["tokens"], "nothing to read"),
        (["tokens", "--answer", "1"], "needs --prompt"),
        (["tokens", "x", "--policy", "gpt-9"], "unknown policy"),
        (["tokens", "x", "--policy", "scripted:y"], "gives no probabilities"),
        (["tokens", "x", "--policy", "missing.safetensors"], "missing.safetensors"),
        (["tokens", "x", "--prompt", "é"], "unknown character"),
        (["tokens", "--prompt", PROMPT, "--answer", "4.5"], "cannot judge"),
        (["tokens", "x", "--prompt", PROMPT, "--temperature", "-1"], "temperature"),
        (["tokens", "x", "--prompt", "9" * 300], "context"),
    ],
)
def test_bad_input_gets_one_line_and_exit_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
