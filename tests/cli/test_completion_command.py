"""The completion scripts, tried in real shells."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
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


def _script(shell: str) -> str:
    command = [sys.executable, "-m", "lockedroom", "completion", shell]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "runs" / "base").mkdir(parents=True)
    (tmp_path / "dev.jsonl").touch()
    return tmp_path


def test_zsh_completes_every_run_of_several() -> None:
    assert '"*:finished run folders' in _script("zsh")


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("lockedroom ver\t", "lockedroom verify "),
        ("lockedroom evaluate --dataset de\t", "lockedroom evaluate --dataset dev.jsonl "),
        ("lockedroom compare runs/base run\t", "lockedroom compare runs/base runs/"),
    ],
)
def test_zsh_completes(place: Path, typed: str, completed: str) -> None:
    (place / "functions").mkdir()
    (place / "functions" / "_lockedroom").write_text(_script("zsh"), "utf-8")
    setup = f"PS1=; fpath=({place}/functions $fpath); autoload -Uz compinit; compinit -u -d {place}/dump; cd {place}\n"
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover  (the shell)
        os.execvpe("zsh", ["zsh", "-f", "-i"], {**os.environ, "TERM": "xterm"})
    try:
        _read(terminal, seconds=1)
        os.write(terminal, setup.encode())
        _read(terminal, seconds=5)
        os.write(terminal, typed.encode())
        assert completed in _read(terminal, seconds=10, until=completed)
    finally:
        os.kill(pid, 9)
        os.close(terminal)
        os.waitpid(pid, 0)


def _read(terminal: int, *, seconds: float, until: str = "\0") -> str:
    """What the shell has shown after `seconds`, or as soon as it shows `until`; without the signs that move the cursor."""
    shown, end = "", time.monotonic() + seconds
    while time.monotonic() < end and until not in shown:
        if select.select([terminal], [], [], 0.2)[0]:
            part = os.read(terminal, 65536).decode(errors="replace")
            shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|[\r\x07]", "", part)
    return shown


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("lockedroom ver", "verify\tcheck every hash"),
        ("lockedroom evaluate --sco", "--scorer\t"),
        ("lockedroom evaluate --dataset de", "dev.jsonl"),
        ("lockedroom compare runs/base run", "runs/"),
    ],
)
def test_fish_completes(place: Path, typed: str, offered: str) -> None:
    (place / "lockedroom.fish").write_text(_script("fish"), "utf-8")
    command = ["fish", "--private", "--no-config", "-c", f"source lockedroom.fish; complete -C '{typed}'"]
    home = {**os.environ, "HOME": str(place), "XDG_CONFIG_HOME": str(place), "XDG_DATA_HOME": str(place)}
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=place, env=home).stdout
    assert any(line.startswith(offered) for line in said.split("\n"))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_there_is_a_script_for_each_shell_that_is_offered(shell: str) -> None:
    assert "lockedroom" in _script(shell)


def test_an_unknown_shell_is_refused() -> None:
    with pytest.raises(SystemExit) as refused:
        main(["completion", "fish2"])
    assert refused.value.code == 2
