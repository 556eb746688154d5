"""`lockedroom bandit` and `lockedroom frontier` at the command line: text, JSON, plots, folders, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lockedroom.cli.main import main


def test_the_slow_mode_says_why_each_probability_moved(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bandit", "--slow", "3", "--steps", "30"]) == 0
    out = capsys.readouterr().out
    assert "update 3" in out
    assert "update 4" not in out
    assert "pull: drew C (probability 0.333), reward 1" in out
    assert "advantage 1 − 0.000 = +1.000, better than expected: C should become more probable" in out
    assert "∇log π(C)    A -0.333   B -0.333   C +0.667" in out
    assert "C 0.333 → 0.403 ▲" in out


def test_json_holds_the_result_and_with_slow_every_draw(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bandit", "--json", "--steps", "5", "--measured", "0"]) == 0
    short = json.loads(capsys.readouterr().out)
    assert short["result"]["setting"]["steps"] == 5
    assert main(["bandit", "--json", "--slow", "--steps", "5"]) == 0
    assert len(json.loads(capsys.readouterr().out)["draws"]) == 5


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_plots_are_written_and_the_same_numbers_give_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        plot = str(tmp_path / f"bandit-{name}.{suffix}")
        assert main(["bandit", "--steps", "5", "--measured", "0", "--world", "two-step", "--plot", plot]) == 0
        plot = str(tmp_path / f"frontier-{name}.{suffix}")
        assert main(["frontier", "--steps", "2", "--betas", "0.3", "--plot", plot]) == 0
    for what in ("bandit", "frontier"):
        first = (tmp_path / f"{what}-a.{suffix}").read_bytes()
        assert first == (tmp_path / f"{what}-b.{suffix}").read_bytes()
        assert len(first) > 5000


def test_the_frontier_prints_its_tables_and_as_json_the_curve(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["frontier", "--steps", "2", "--betas", "1,0.3", "--ns", "1,4"]) == 0
    out = capsys.readouterr().out
    assert "against π* ∝ π_ref·exp(R/β)" in out
    assert "|   4 | 0.5039 |" in out
    assert main(["frontier", "--steps", "2", "--betas", "1", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["result"]["curve"]) == 50


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("bandit --world nowhere", "choose stochastic"),
        ("bandit --baseline best", "expected one of none"),
        ("bandit --sabotage rate", "expected one of none, sign"),
        ("bandit --credit third", "expected one of both"),
        ("bandit --slow 0", "--slow 0"),
        ("bandit --plot x.pdf", ".svg or .png"),
        ("bandit --plot missing/x.svg", "there is no folder"),
        ("bandit --baseline leave-one-out --draws 1", "one completion a prompt"),
        ("frontier --betas 0", "give numbers from"),
        ("frontier --betas a,b", "expected numbers"),
        ("frontier --ns 1.5", "expected whole numbers"),
        ("frontier --plot x", ".svg or .png"),
    ],
)
def test_bad_input_is_one_message_and_exit_2(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert captured.err.count("\n") == 1


def test_an_occupied_folder_is_refused_before_anything_is_learned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("x")
    for command in ("bandit", "frontier"):
        assert main([command, "--out", str(tmp_path)]) == 2
        assert "never written into" in capsys.readouterr().err
