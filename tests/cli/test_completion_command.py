"""The completion script, tried in a real bash."""

from __future__ import annotations

import subprocess
import sys

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


def test_an_unknown_shell_is_refused() -> None:
    with pytest.raises(SystemExit) as refused:
        main(["completion", "fish2"])
    assert refused.value.code == 2
