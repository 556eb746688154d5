"""The completion script, tried in a real bash."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lockedroom.cli.main import main


def test_bash_completes_commands_and_flags() -> None:
    script = subprocess.run(
        [sys.executable, "-m", "lockedroom", "completion", "bash"], capture_output=True, text=True, check=True
    ).stdout
    asks = """
COMP_WORDS=(lockedroom evaluate --sco); COMP_CWORD=2; COMPREPLY=(); _shtab_lockedroom; echo "${COMPREPLY[@]}"
COMP_WORDS=(lockedroom ver); COMP_CWORD=1; COMPREPLY=(); _shtab_lockedroom; echo "${COMPREPLY[@]}"
"""
    said = subprocess.run(["bash", "-c", script + asks], capture_output=True, text=True, check=True).stdout
    flags, commands = said.strip().split("\n")
    assert "--scorer" in flags.split()
    assert commands.split() == ["verify"]


def test_bash_completes_runs_and_files(tmp_path: Path) -> None:
    (tmp_path / "runs" / "base").mkdir(parents=True)
    (tmp_path / "dev.jsonl").touch()
    script = subprocess.run([sys.executable, "-m", "lockedroom", "completion", "bash"], capture_output=True, text=True, check=True).stdout  # fmt: skip
    asks = """
COMP_WORDS=(lockedroom verify runs/b); COMP_CWORD=2; COMPREPLY=(); _shtab_lockedroom; echo "${COMPREPLY[@]}"
COMP_WORDS=(lockedroom evaluate --dataset de); COMP_CWORD=3; COMPREPLY=(); _shtab_lockedroom; echo "${COMPREPLY[@]}"
"""
    said = subprocess.run(
        ["bash", "-c", script + asks], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout
    runs, files = said.strip().split("\n")
    assert "runs/base" in runs.split()
    assert "dev.jsonl" in files.split()


def test_an_unknown_shell_is_refused() -> None:
    with pytest.raises(SystemExit) as refused:
        main(["completion", "fish2"])
    assert refused.value.code == 2
