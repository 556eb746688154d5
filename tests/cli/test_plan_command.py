from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lockedroom.cli.main import main
from lockedroom.testkit.small_run import write_additions, write_answers, write_rows, write_samples


def plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["plan", *arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, made the current one, with runs `one` (a draw an example), `four` and `same` (four draws)."""
    monkeypatch.chdir(tmp_path)
    write_additions(tmp_path, 60)
    write_answers(tmp_path, 60)
    write_samples(tmp_path, 60, 4)
    for name, source in (("one", "answers"), ("four", "samples"), ("same", "samples")):
        evaluate(name, f"{source}.jsonl")
    return tmp_path


def evaluate(out: str, completions: str, dataset: str = "sums.jsonl") -> None:
    assert main(["evaluate", "--dataset", dataset, "--completions", completions, "--out", out]) == 0


def test_the_published_example_needs_969(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--delta", ".03", "--omega2", "1/9"]) == 0
    out = capsys.readouterr().out
    assert "  969 examples × 1 draw in each run, 1,938 completions in both\n" in out
    assert "ω² = 0.1111 as given" in out


def test_what_was_assumed_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--delta", ".03"]) == 0
    out = capsys.readouterr().out
    assert "969 examples" in out
    assert "ω² = 1/9 is not yours: it is the example of Miller 2024" in out
    assert "σ² = 0: no noise from drawing completions" in out
    assert "power 0.8, both runs on the same examples with 1 draw each" in out


def test_what_a_set_can_see(capsys: pytest.CaptureFixture[str]) -> None:
    found = plan(capsys, "--delta", ".03", "--omega2", "1/9", "--examples", "969")
    assert found["this_set"]["detectable"] == pytest.approx(0.03, abs=2e-5)
    assert found["this_set"]["power"] == pytest.approx(0.8, abs=2e-3)
    assert found["next"] is None  # nothing is known of the noise of drawing


def test_more_draws_help_only_against_the_noise_of_drawing(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--delta", ".03", "--omega2", "0.01", "--sigma2", "0.2", "--examples", "500")
    found = plan(capsys, *flags, "--draws", "2")
    needed = {one["draws"]: one["examples"] for one in found["choices"]}
    assert needed[1] > needed[2] > needed[16]
    assert found["needed"]["examples"] == needed[2]
    assert found["needed"]["completions"] == 4 * needed[2]
    assert found["next"]["completions"] == 1000
    assert found["next"]["better"] == "more examples"


@pytest.mark.parametrize(("cost_example", "cheapest"), [("0", 1), ("1000", 16)])
def test_dear_examples_make_draws_cheap(capsys: pytest.CaptureFixture[str], cost_example: str, cheapest: int) -> None:
    flags = (
        "--delta",
        ".03",
        "--omega2",
        "0.01",
        "--sigma2",
        "0.2",
        "--cost-draw",
        "1",
        "--cost-example",
        cost_example,
    )
    found = plan(capsys, *flags)
    assert found["cheapest"]["draws"] == cheapest
    one = found["choices"][0]
    assert one["cost"] == one["examples"] * float(cost_example) + one["completions"]


def test_a_pilot_gives_the_noise(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["plan", "--delta", ".1", "--pilot", "four", "--rho", "0.25", "--cost-draw", "2"]) == 0
    out = capsys.readouterr().out
    assert "pilot four: 60 examples × 4 draws, pass rate 0.6000" in out
    assert "ρ = 0.25, the correlation of true pass rates, given" in out
    assert "The next 240 completions of each run are better spent on more examples" in out
    assert "| cheapest |" in out


def test_a_pilot_below_zero_is_read_as_zero_and_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": f"e{i}", "samples": [f"Final: {i + 1}", "Final: 0"]} for i in range(60)]
    write_rows(Path("even.jsonl"), rows)
    evaluate("even", "even.jsonl")
    found = plan(capsys_cleared(capsys), "--delta", ".1", "--pilot", "even")
    assert found["noise"]["between"] == 0.0
    assert any("estimated below zero" in line for line in found["assumptions"])


def capsys_cleared(capsys: pytest.CaptureFixture[str]) -> pytest.CaptureFixture[str]:
    capsys.readouterr()
    return capsys


def test_two_pilots_measure_the_difference(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": f"e{i}", "samples": [f"Final: {i + 1 if (i + d) % 3 else 0}" for d in range(4)]} for i in range(60)]
    write_rows(Path("b.jsonl"), rows)
    evaluate("b", "b.jsonl")
    found = plan(capsys_cleared(capsys), "--delta", ".1", "--pilot", "four", "--pilot-b", "b", "--examples", "200")
    assert found["this_set"]["examples"] == 200
    assert found["noise"]["within_a"] != found["noise"]["within_b"]
    assert any(line.startswith("pilots four and b: 60 examples × 4 and 4 draws") for line in found["assumptions"])


def test_one_draw_says_nothing_of_more_draws(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = plan(capsys_cleared(capsys), "--delta", ".1", "--pilot", "one")
    assert found["choices"] == []
    assert found["next"] is None
    assert any("one draw an example: the noise of drawing is counted in ω²" in line for line in found["assumptions"])
    assert main(["plan", "--delta", ".1", "--pilot", "one", "--draws", "4"]) == 2
    assert "measure a pilot with --draws 2 or more" in capsys.readouterr().err


@pytest.fixture
def partly(folder: Path) -> Path:
    """A run in which a person's scorer judged only the first `judged` examples: named after how many."""
    for judged in (1, 20):
        Path(f"own{judged}.py").write_text(
            "def score(example, completion):\n"
            f"    if example.expected_answer > {judged}: raise ValueError\n"
            "    return {'reward': float(completion == f'Final: {example.expected_answer}'), 'details': {}}\n"
        )
        assert (
            main(["evaluate", "--dataset", "sums.jsonl", "--completions", "samples.jsonl", "--out", f"partly{judged}",
                  "--scorer", f"own{judged}.py:score"]) == 0
        )  # fmt: skip
    return folder


def test_examples_that_could_not_be_judged_are_left_out_and_counted(
    partly: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = plan(capsys_cleared(capsys), "--delta", ".1", "--pilot", "partly20")
    assert "40 examples without a judged attempt are left out" in found["assumptions"]
    assert main(["plan", "--delta", ".1", "--pilot", "partly1"]) == 2
    assert "fewer than two examples could be judged" in capsys.readouterr().err


def test_the_correlation_of_true_rates_is_estimated_where_there_is_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(i: int, draw: int, noisy: int) -> str:
        return f"Final: {i + 1 if (i % 2 if draw != noisy else 1 - i % 2) else 0}"

    for name, noisy in (("left", 0), ("right", 3)):
        rows = [{"id": f"e{i}", "samples": [answer(i, draw, noisy) for draw in range(4)]} for i in range(60)]
        write_rows(Path(f"{name}.jsonl"), rows)
        evaluate(name, f"{name}.jsonl")
    found = plan(capsys_cleared(capsys), "--delta", ".1", "--pilot", "left", "--pilot-b", "right")
    assert any("ρ = 1.000 between the true pass rates" in line for line in found["assumptions"])


def test_pilots_of_other_examples_are_not_one_pilot(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_additions(folder, 59, "fewer.jsonl")
    evaluate("fewer", "answers.jsonl", "fewer.jsonl")
    assert main(["plan", "--delta", ".1", "--pilot", "one", "--pilot-b", "fewer"]) == 3
    assert "lockedroom compare one fewer" in capsys.readouterr().err


def test_a_pilot_without_any_spread_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--delta", ".1", "--pilot", "four", "--pilot-b", "same", "--draws", "1"]) == 0
    write_rows(Path("right.jsonl"), [{"id": f"e{i}", "completion": f"Final: {i + 1}"} for i in range(60)])
    evaluate("right", "right.jsonl")
    assert main(["plan", "--delta", ".1", "--pilot", "right"]) == 2
    assert "a pilot without spread" in capsys.readouterr().err


def test_a_tampered_pilot_is_refused(folder: Path) -> None:
    path = Path("four/records.jsonl")
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["plan", "--delta", ".1", "--pilot", "four"]) == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ("--delta", "0"),
        ("--delta", "-.1"),
        ("--delta", "nan"),
        ("--delta", "inf"),
        ("--delta", "1.5"),
        ("--delta", "x"),
        ("--delta", "1/0"),
        ("--delta", ".1", "--power", "1"),
        ("--delta", ".1", "--power", "0"),
        ("--delta", ".1", "--power", "nan"),
        ("--delta", ".1", "--power", ".04"),
        ("--delta", ".1", "--confidence", "1"),
        ("--delta", ".1", "--confidence", "0"),
        ("--delta", ".1", "--confidence", "nan"),
        ("--delta", ".1", "--omega2", "-1"),
        ("--delta", ".1", "--omega2", "nan"),
        ("--delta", ".1", "--omega2", "0"),
        ("--delta", ".1", "--sigma2", "inf"),
        ("--delta", ".1", "--draws", "0"),
        ("--delta", ".1", "--examples", "1"),
        ("--delta", ".1", "--sigma2", ".1", "--examples", "9", "--next", "0"),
        ("--delta", ".1", "--cost-draw", "-1"),
        ("--delta", ".1", "--cost-example", "nan"),
        ("--delta", ".1", "--rho", ".5"),
        ("--delta", ".1", "--pilot-b", "four"),
        ("--delta", ".1", "--pilot", "four", "--rho", "2"),
        ("--delta", ".1", "--pilot", "four", "--rho", "nan"),
        ("--delta", ".1", "--pilot", "four", "--omega2", ".1"),
        ("--delta", ".1", "--pilot", "four", "--pilot-b", "same", "--rho", ".1"),
        ("--delta", ".1", "--pilot", "nothing"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_planned_is_refused(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if "--pilot" in arguments and "nothing" not in arguments:
        write_additions(tmp_path, 8)
        write_samples(tmp_path, 8, 2)
        evaluate("four", "samples.jsonl")
    assert main(["plan", *arguments]) == 2
    assert capsys.readouterr().err.startswith("lockedroom: ")
