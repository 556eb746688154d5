"""`lockedroom tokens`, as a person calls it."""

from __future__ import annotations

import json

import pytest

from lockedroom.cli.main import main

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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
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
