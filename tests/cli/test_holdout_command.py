from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lockedroom.cli.main import main
from lockedroom.safeguards.ledger import open_ledger
from lockedroom.safeguards.sealing import read_key
from lockedroom.stats.intervals import clopper_pearson
from lockedroom.testkit.small_run import lockedroom, write_additions, write_answers


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, made the current one, with 50 additions sealed and 3 of 5 completions right."""
    monkeypatch.chdir(tmp_path)
    write_additions(tmp_path, 50)
    write_answers(tmp_path, 50)
    assert main(["holdout", "seal", "sums.jsonl", "--out", "sealed", "--key", "k/a.key", "--budget", "2"]) == 0
    return tmp_path


# 30 of 50 pass, which is said to lie in [.55, .65]: 27 to 33 of 50, at the confidence of one of two looks.
NEW_DATA = f"[{clopper_pearson(27, 50, 0.975).low:.4f}, {clopper_pearson(33, 50, 0.975).high:.4f}]"
OPEN = ("holdout", "open", "sealed", "--key", "k/a.key", "--reason", "first try", "--who", "ann")


def spend(*extra: str) -> int:
    return main([*OPEN, "--completions", "answers.jsonl", *extra])


def test_sealing_says_the_terms_and_what_is_left_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["holdout", "seal", "sums.jsonl", "--out", "other", "--key", "k/a.key", "--budget", "2"]) == 0
    out = capsys.readouterr().out
    assert "50 examples of sums, sealed" in out
    assert "answers     the pass rate rounded to 0.1\n" in out
    assert "budget      2 looks, 0.95 confidence for all together\n" in out
    assert "sums.jsonl still holds the answers in the clear: delete it" in out
    assert "Back up both." in out


def test_a_part_is_sealed_and_the_rest_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    arguments = ["holdout", "seal", "sums.jsonl", "--out", "part", "--key", "k/a.key", "--fraction", "0.4"]
    assert main([*arguments, "--rest", "rest.jsonl"]) == 0
    assert "rest        rest.jsonl: the examples that are not sealed\n" in capsys.readouterr().out
    assert main(["evaluate", "--dataset", "rest.jsonl", "--policy", "scripted:x", "--out", "run"]) == 0
    capsys.readouterr()
    arguments[4] = "again"
    assert main([*arguments, "--rest", "rest2.jsonl", "--json"]) == 0
    header = json.loads(capsys.readouterr().out)
    assert header["examples"] + len(Path("rest2.jsonl").read_text().splitlines()) == 50
    assert header["terms"]["budget"] == 5


def test_a_look_prints_the_answer_its_intervals_and_the_looks_left(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert spend() == 0
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()[:7]] == [
        "holdout     sealed: 50 examples × 1 draw, judged by final-int version 1",
        "look        1 of 2, 1 left: first try (ann)",
        f"submitted   answers.jsonl (sha256 {sha256(folder / 'answers.jsonl')[:16]}…)",
        "answer      pass rate 0.6 (rounded to 0.1)",
        "            on this holdout the pass rate lies in [0.55, 0.65]; no more is said",
        f"new data    {NEW_DATA} at 97.5 %, so that 2 planned looks hold together at 95 %",
        f"            {NEW_DATA} if what was submitted may depend on earlier answers",
    ]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_past_the_budget_the_exit_code_is_5(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [spend(), spend(), spend()] == [0, 0, 5]
    captured = capsys.readouterr()
    assert "all 2 looks are spent" in captured.err
    assert captured.out.count("answer      pass rate") == 2


def test_a_changed_ledger_ends_in_exit_code_4(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spend()
    path = folder / "sealed" / "ledger.jsonl"
    path.write_bytes(path.read_bytes().replace(b"first try", b"other try"))
    assert spend() == 4
    assert main(["holdout", "status", "sealed"]) == 4
    assert main(["holdout", "status", "sealed", "--key", "k/a.key"]) == 4
    assert "ledger.jsonl:2: the entry is not the one that was hashed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "--dataset", "sealed", "--policy", "scripted:x"),
        ("evaluate", "--dataset", "sealed/prompts.sealed.jsonl", "--policy", "scripted:x"),
        ("evaluate", "--dataset", "sealed/answers.sealed", "--policy", "scripted:x"),
        ("dataset", "check", "sums.jsonl", "sealed/prompts.sealed.jsonl"),
        ("compare", "sealed", "sealed"),
        ("verify", "sealed"),
        ("inspect", "sealed"),
        ("watch", "sealed"),
        ("plan", "--delta", ".1", "--pilot", "sealed"),
        ("holdout", "seal", "sealed", "--out", "again", "--key", "k/a.key"),
    ],
    ids=" ".join,
)
def test_every_other_way_in_ends_in_exit_code_5(
    folder: Path, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(list(arguments)) == 5
    assert "lockedroom holdout open" in capsys.readouterr().err


def test_a_look_leaves_no_answer_and_no_verdict_on_the_disk(folder: Path) -> None:
    (folder / "sums.jsonl").unlink()
    (folder / "answers.jsonl").rename(folder / "c.jsonl")
    assert main([*OPEN, "--completions", "c.jsonl"]) == 0
    written = [path for path in folder.rglob("*") if path.is_file() and path.name != "c.jsonl"]
    assert not [path.name for path in written if b"expected_answer" in path.read_bytes()]
    assert sorted(path.name for path in folder.iterdir()) == ["c.jsonl", "k", "sealed"]


def test_prompts_can_be_had_without_a_look_and_used_for_completions(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["holdout", "prompts", "sealed", "--out", "p.jsonl"]) == 0
    capsys.readouterr()
    assert main(["holdout", "prompts", "sealed"]) == 0
    assert capsys.readouterr().out == (folder / "p.jsonl").read_text()
    rows = [json.loads(line) for line in (folder / "p.jsonl").read_text().splitlines()]
    assert [list(row) for row in rows] == [["sealed", "id", "prompt"]] * 50
    assert main(["holdout", "prompts", "sealed", "--out", "p.jsonl"]) == 2  # never over a file
    capsys.readouterr()
    main(["holdout", "status", "sealed", "--json"])
    assert json.loads(capsys.readouterr().out)["looks_left"] == 2


def test_status_lists_every_look_with_its_reason(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spend()
    capsys.readouterr()
    assert main(["holdout", "status", "sealed", "--key", "k/a.key"]) == 0
    out = capsys.readouterr().out
    assert "looks       1 taken, 1 left; checked: every line, signature and the end\n" in out
    assert "ann: first try\n" in out
    assert f"pass rate 0.6 (rounded to 0.1); new data {NEW_DATA}, adaptive {NEW_DATA}\n" in out
    main(["holdout", "status", "sealed"])
    assert "checked: only the chain: name --key to check signatures and the end" in capsys.readouterr().out


def test_answers_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert spend("--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["look"], found["looks_left"], found["answer"]["value"]) == (1, 1, 0.6)
    assert found["intervals"]["planned"]["confidence"] == 0.975
    assert "passes" not in json.dumps(found)


def test_a_run_may_be_submitted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["evaluate", "--dataset", "sums.jsonl", "--completions", "answers.jsonl", "--out", "run"])
    assert main([*OPEN, "--run", "run"]) == 0
    assert "submitted   run (run " in capsys.readouterr().out
    assert main([*OPEN, "--run", "nothing"]) == 2


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--answers", "threshold", "--threshold", "0.6"), "the pass rate reaches 0.6"),
        (("--answers", "threshold", "--threshold", "0.61"), "the pass rate does not reach 0.61"),
        (("--answers", "ladder", "--step", "0.05"), "best pass rate so far 0.6 (this look)"),
    ],
)
def test_the_other_kinds_of_answer(
    folder: Path, flags: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["holdout", "seal", "sums.jsonl", "--out", "other", "--key", "k/a.key", *flags]) == 0
    assert main([*OPEN[:2], "other", *OPEN[3:], "--completions", "answers.jsonl"]) == 0
    assert f"answer      {said}\n" in capsys.readouterr().out


def test_the_ladder_says_when_the_best_was_not_beaten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["holdout", "seal", "sums.jsonl", "--out", "other", "--key", "k/a.key", "--answers", "ladder"])
    for what in (("--completions", "answers.jsonl"), ("--policy", "scripted:Final: 7")):
        assert main([*OPEN[:2], "other", *OPEN[3:], *what]) == 0
    assert "best pass rate so far 0.6 (not beaten by this look)\n" in capsys.readouterr().out
    assert main(["holdout", "status", "other"]) == 0


def test_attempts_that_could_not_be_judged_are_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "own.py").write_text("def score(example, completion):\n    raise ValueError(example.expected_answer)\n")
    main(["holdout", "seal", "sums.jsonl", "--out", "other", "--key", "k/a.key", "--scorer", "own.py:score"])
    capsys.readouterr()
    assert main([*OPEN[:2], "other", *OPEN[3:], "--completions", "answers.jsonl"]) == 0
    assert "failures    50 attempts could not be judged" in capsys.readouterr().out
    assert b"ValueError" not in (folder / "other" / "ledger.jsonl").read_bytes()


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_look_without_a_reason_is_refused(folder: Path, reason: str) -> None:
    assert main([*OPEN[:5], "--reason", reason, "--completions", "answers.jsonl"]) == 2
    assert main(["holdout", "status", "sealed", "--key", "k/a.key"]) == 0


def test_a_reason_cannot_move_the_cursor(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*OPEN[:5], "--reason", "\x1b[2Jgone\nlook 9", "--completions", "answers.jsonl"]) == 0
    main(["holdout", "status", "sealed"])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "␛[2Jgone⏎look 9" in out


@pytest.mark.parametrize(
    "change",
    [
        ("--key", "sealed/a.key"),
        ("--budget", "0"),
        ("--step", "nan"),
        ("--confidence", "1"),
        ("--fraction", "0.5"),
        ("--answers", "threshold"),
    ],
    ids="=".join,
)
def test_terms_that_cannot_be_are_refused(folder: Path, change: tuple[str, str]) -> None:
    shutil.rmtree("sealed")
    assert main(["holdout", "seal", "sums.jsonl", "--out", "sealed", "--key", "k/b.key", *change]) == 2
    assert not Path("sealed").exists()
    assert not Path("k/b.key").exists()


def test_a_look_that_was_interrupted_is_spent_and_its_answer_kept(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spend()
    key = read_key(Path("k/a.key"))
    seal = json.loads(Path("sealed/sealed.json").read_text())["seal"]
    with open_ledger(Path("sealed"), key, seal) as ledger:
        ledger.promise(ledger.entries[-1])  # and then the power fails
    capsys.readouterr()
    assert spend() == 5
    assert main(["holdout", "status", "sealed"]) == 0
    assert "2 taken, 0 left" in capsys.readouterr().out


def test_a_look_that_cannot_print_its_answer_is_spent(folder: Path) -> None:
    arguments = [sys.executable, "-m", "lockedroom", *OPEN, "--completions", "answers.jsonl"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, check=False, timeout=60)
    assert done.returncode == 2
    assert lockedroom("holdout", "status", "sealed", cwd=folder).stdout.decode().count("first try") == 1


def test_two_looks_at_once_never_exceed_the_budget(folder: Path) -> None:
    arguments = [sys.executable, "-m", "lockedroom", *OPEN, "--completions", "answers.jsonl"]
    processes = [subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(4)]
    assert sorted(process.wait(60) for process in processes) == [0, 0, 5, 5]
    assert len(Path("sealed/ledger.jsonl").read_text().splitlines()) == 3


def test_the_parser_is_built_without_heavy_imports() -> None:
    program = (
        "import argparse, sys\n"
        "from lockedroom.cli import holdout, plan, selftest, watch\n"
        "subparsers = argparse.ArgumentParser().add_subparsers()\n"
        "for command in (holdout, plan, selftest, watch): command.add_parser(subparsers)\n"
        "print({'numpy', 'scipy', 'cryptography'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"
