"""`lockedroom court`: tables, JSON, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lockedroom.cli.main import main

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples" / "court_functions.py"
QUICK = ["--samples", "100"]


def test_without_arguments_every_estimator_is_judged_and_the_known_answers_hold(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["court", *QUICK]) == 0
    printed = capsys.readouterr().out
    assert "All 460 combinations" in printed
    assert "In each, the lab's own reasons say the same." in printed
    assert "the mean makes it 10.3 × larger" in printed


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (["rloo"], 0, "rloo: **UNBIASED**"),
        (["grpo"], 1, "favours short right answers"),
        (["kl=k1-in-loss", "beta=0.1"], 1, "**BROKEN**. The KL term has expected gradient zero"),
        (["ppo-clip"], 1, "from the second update on"),
    ],
)
def test_an_estimator_is_judged_by_name(
    given: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["court", "--estimator", *given, *QUICK]) == code
    assert said in capsys.readouterr().out


def test_a_persons_function_stands_in_the_same_table(capsys: pytest.CaptureFixture[str]) -> None:
    module = f"{EXAMPLES}:inverted_clip_loss"
    assert main(["court", "--module", module, "--shape", "verl-loss", "--with", "cliprange=0.2", *QUICK]) == 1
    printed = capsys.readouterr().out
    assert "the clip is inverted" in printed
    assert "| rloo" in printed


def test_two_runs_with_one_seed_say_the_same_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for _ in range(2):
        assert main(["court", "--estimator", "rloo", "--json", "--seed", "7", *QUICK]) == 0
        found.append(json.loads(capsys.readouterr().out))
    for one in found:
        assert one.pop("cpu_seconds") >= 0
        for row in (*one["asked"], *one["builtin"]):
            assert row.pop("milliseconds") > 0
    assert found[0] == found[1]
    assert found[0]["asked"][0]["findings"][1]["bias"] < 1e-12


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--estimator", "gpro"], "known are reinforce"),
        (["--module", f"{EXAMPLES}:reinforce_loss"], "never guessed"),
        (["--module", "missing.py:f", "--shape", "loss"], "no such file"),
        (["--shape", "loss"], "goes with --module"),
        (["--beta", "0.1"], "goes with --module"),
        (["--samples", "5"], "100 to 100,000"),
        (["--seed", "-1"], "0 or more"),
        (["--beta", "nan"], "a number ≥ 0"),
        (["--module", f"{EXAMPLES}:clipped_loss", "--shape", "verl-loss"], "cannot be called"),
        (["--module", f"{EXAMPLES}:clipped_loss", "--shape", "verl-loss", "--with", "cliprange"], "NAME=VALUE"),
    ],
)
def test_what_cannot_be_judged_is_bad_input(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["court", *arguments]) == 2
    assert said in capsys.readouterr().err
