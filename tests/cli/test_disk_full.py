"""When the disk is full, a command advises what it has: `--resume` only where there is one and something to continue."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from lockedroom.cli.main import COMMANDS, build_parser

DEV = Path(__file__).parents[2] / "src" / "lockedroom" / "policy" / "tiny" / "data" / "dev.jsonl"
TRAIN = DEV.with_name("train.jsonl")
LIMIT = 1_000  # bytes a file: no command has room for its first long one
EVALUATE = ("evaluate", "--dataset", str(DEV), "--policy", "tiny", "--limit", "20")


def _on_a_small_disk(*arguments: str, cwd: Path, limit: int = LIMIT) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "lockedroom", *arguments],
        cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    said = done.stderr.strip().split("\n")[-1]
    assert said.startswith("lockedroom: ")
    assert "cannot be written: File too large; " in said
    return said.partition("File too large; ")[2]


@pytest.mark.parametrize(
    "command",
    [
        ("demo", "--out", "new"),
        ("frontier", "--steps", "2", "--out", "new"),
        ("bandit", "--steps", "50", "--out", "new"),
        ("warmup", "--policy", "tiny", "--dataset", str(TRAIN), "--steps", "1", "--out", "new"),
    ],
    ids=lambda command: command[0],
)
def test_a_command_without_resume_is_to_be_run_again(tmp_path: Path, command: tuple[str, ...]) -> None:
    assert _on_a_small_disk(*command, cwd=tmp_path) == "free some space and run it again, with another --out"


def test_where_nothing_stands_in_the_way_the_same_command_will_do(tmp_path: Path) -> None:
    assert _on_a_small_disk("demo", cwd=tmp_path) == "free some space and run it again"


def test_a_command_with_resume_says_so_and_goes_on(tmp_path: Path) -> None:
    said = _on_a_small_disk(*EVALUATE, "--out", "new", cwd=tmp_path, limit=3_000)
    assert said == "free some space and continue with --resume; finished records are kept"
    again = [sys.executable, "-m", "lockedroom", *EVALUATE, "--out", "new", "--resume"]
    assert subprocess.run(again, cwd=tmp_path, capture_output=True, check=False).returncode == 0


def test_a_run_that_was_not_even_begun_is_not_to_be_resumed(tmp_path: Path) -> None:
    assert _on_a_small_disk(*EVALUATE, "--out", "new", cwd=tmp_path, limit=10).startswith(
        "free some space and run it again"
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_evaluate_select_and_learn_have_resume(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They are named where an unfinished run is found."""
    with pytest.raises(SystemExit):
        build_parser(command).parse_args([command, "--help"])
    assert ("--resume" in capsys.readouterr().out) is (command in {"evaluate", "select", "learn"})
