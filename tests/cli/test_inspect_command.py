"""`lockedroom inspect`: reads like a person would want, and lets nothing through to the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lockedroom.cli.main import main
from lockedroom.records import Example
from lockedroom.testkit.small_run import write_additions, write_rows, write_samples

HOSTILE = {"escapes": "\x1b[31m\x1b]0;owned\x07\x9b2J", "script": "<script>alert(1)</script>", "nul": "a\0b",
           "surrogates": "\ud800x\udfff", "bidi": "\u202egnp.exe\u2066", "zero": "a\u200bb\ufeff", "lines": "a\nb\r\x85\u2028"}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("inspect")
    write_additions(folder, 10)
    write_samples(folder, 9, 2)
    arguments = [
        "--dataset",
        f"{folder}/sums.jsonl",
        "--completions",
        f"{folder}/samples.jsonl",
        "--out",
        f"{folder}/run",
    ]
    assert main(["evaluate", *arguments]) == 0
    return f"{folder}/run"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("hostile")
    long = {"long": "ten megabytes " * 750_000}
    write_rows(
        folder / "d.jsonl", [Example(id=name, prompt="1\u202e+1\x1b[0m", expected_answer=2) for name in HOSTILE | long]
    )
    write_rows(folder / "c.jsonl", [{"id": name, "completion": text} for name, text in (HOSTILE | long).items()])
    arguments = ["--dataset", f"{folder}/d.jsonl", "--completions", f"{folder}/c.jsonl", "--out", f"{folder}/run"]
    assert main(["evaluate", *arguments]) == 0
    return f"{folder}/run"


def _inspect(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["inspect", *arguments]) == 0
    return capsys.readouterr().out


def _titles(text: str) -> list[str]:
    return [" ".join(line.strip("─ ").split()) for line in text.splitlines() if line.startswith("──")]


def test_without_a_filter_there_are_two_of_every_code(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    titles = _titles(_inspect(capsys, run))
    codes = [title.rpartition(": ")[2] for title in titles]
    assert sorted(set(codes)) == ["missing_completion", "missing_prefix", "ok", "wrong_answer"]
    assert {codes.count(code) for code in codes} == {2}


def test_a_record_shows_prompt_answer_completion_and_verdict(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = _inspect(capsys, run, "--id", "e2")
    assert _titles(text) == ["e2 · draw 0 · wrong: wrong_answer", "e2 · draw 1 · correct: ok"]
    for line in (
        "prompt      What is 2 + 1?",
        "expected    3",
        "completion  Final: 30",
        "reward      0",
        "parsed      30",
    ):
        assert line in text.splitlines()


def test_one_code_can_be_asked_for(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    titles = _titles(_inspect(capsys, run, "--code", "wrong_answer", "--show", "3"))
    assert len(titles) == 3
    assert all(title.endswith("wrong: wrong_answer") for title in titles)


def test_failures_say_that_there_is_no_reward(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = _inspect(capsys, run, "--failures")
    assert _titles(text) == ["e9 · draw 0 · failure: missing_completion", "e9 · draw 1 · failure: missing_completion"]
    assert "reward      none: this attempt could not be judged" in text


def test_all_filters_given_must_hold(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _titles(_inspect(capsys, run, "--id", "e2", "--code", "ok")) == ["e2 · draw 1 · correct: ok"]
    for arguments in (["--failures", "--code", "ok"], ["--failures", "--id", "e2"]):
        assert _inspect(capsys, run, *arguments).startswith("nothing to show")


def test_several_ids_are_shown_in_the_order_of_the_run(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    titles = _titles(_inspect(capsys, run, "--id", "e7", "--id", "e1"))
    assert [title.split()[0] for title in titles] == ["e1", "e1", "e7", "e7"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--code", "teapot"], "--code 'teapot': no record of"),
        (["--code", "teapot"], "missing_completion (2)"),
        (["--id", "e99"], "--id 'e99': no such example"),
        (["--id", "e1", "--id", "e99", "--code", "teapot"], "--id 'e99': no such example"),
        (["--show", "0"], "--show 0: must be at least 1"),
    ],
)
def test_what_is_not_there_is_named(
    run: str, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["inspect", run, *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "'e1'" not in err


def test_json_gives_examples_and_records_as_they_are(hostile: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = _inspect(capsys, hostile, "--json", *(f"--id={name}" for name in HOSTILE)).splitlines()
    found = {row["record"]["id"]: row["record"]["completion"]["text"] for row in map(json.loads, lines)}
    assert found == HOSTILE


@pytest.mark.parametrize("more", [[], ["--json"], ["--full"], ["--code", "missing_prefix"]])
def test_no_hostile_character_reaches_the_terminal(
    hostile: str, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    text = _inspect(capsys, hostile, "--show", "50", *more)
    assert all(line.isprintable() for line in text.split("\n"))
    assert "script" in text


def test_a_completion_of_ten_megabytes_is_cut_and_the_rest_counted(
    hostile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = _inspect(capsys, hostile, "--id", "long")
    assert len(text) < 5000
    assert "(+10,498,000 characters)" in text
    assert len(_inspect(capsys, hostile, "--id", "long", "--full")) > 10_000_000


def test_a_summary_that_cannot_be_read_says_to_verify(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    copy = Path(shutil.copytree(run, tmp_path / "run"))
    (copy / "summary.json").write_text("{}")
    assert main(["inspect", str(copy)]) == 2
    assert "run lockedroom verify" in capsys.readouterr().err


def test_records_that_do_not_line_up_say_to_verify(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    copy = Path(shutil.copytree(run, tmp_path / "run"))
    lines = (copy / "records.jsonl").read_bytes().splitlines(keepends=True)
    (copy / "records.jsonl").write_bytes(b"".join(lines[1:]))
    assert main(["inspect", str(copy)]) == 2
    assert "do not line up; run lockedroom verify" in capsys.readouterr().err


def test_rates_list_examples_the_lowest_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = tmp_path / "d.jsonl"
    dataset.write_text("".join(f'{{"id": "e{i}", "prompt": "p{i}", "expected_answer": {i}}}\n' for i in range(3)))
    samples = tmp_path / "c.jsonl"
    samples.write_text(
        '{"id": "e0", "samples": ["Final: 0", "Final: 0"]}\n'
        '{"id": "e1", "samples": ["Final: 9", "Final: 9"]}\n'
        '{"id": "e2", "samples": ["Final: 2", "x"]}\n'
    )
    run = tmp_path / "run"
    assert main(["evaluate", "--dataset", str(dataset), "--completions", str(samples), "--out", str(run)]) == 0
    assert "correct: 0: 1 · 1: 1 · 2: 1." in capsys.readouterr().out

    assert main(["inspect", str(run), "--rates", "--show", "2"]) == 0
    shown = capsys.readouterr().out
    assert shown.index("e1") < shown.index("e2")
    assert "e0" not in shown

    assert main(["inspect", str(run), "--rates", "--json"]) == 0
    rates = [json.loads(line)["pass_rate"] for line in capsys.readouterr().out.splitlines()]
    assert rates == [1.0, 0.0, 0.5]

    assert main(["inspect", str(run), "--rates", "--failures"]) == 2
