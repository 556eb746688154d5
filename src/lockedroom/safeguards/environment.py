"""Where and with what a run was made: versions, git state, machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import msgspec

# Kernels differ in the last bit between these, so they belong to the provenance of a result.
_TELLING_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve")


class GitState(msgspec.Struct, frozen=True):
    """`dirty`: the checkout differs from `commit`."""

    commit: str
    dirty: bool


class Hardware(msgspec.Struct, frozen=True):
    machine: str
    processor: str
    cores: int
    instruction_sets: list[str]


def read_git_state(folder: Path) -> GitState | None:
    """Return the git state of the checkout that holds `folder`, or None outside one or without git."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    commit = done.stdout.strip()
    if done.returncode != 0 or not commit:
        return None
    return GitState(commit.removesuffix("-dirty"), commit.endswith("-dirty"))


def read_hardware() -> Hardware:
    processor, flags = "", set[str]()
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() == "model name" and not processor:
                    processor = value.strip()
                elif key.strip() in ("flags", "Features"):
                    flags = set(value.split())
                    break
    except OSError:
        processor = sys.platform
    return Hardware(
        platform.machine(), processor, os.cpu_count() or 1, [flag for flag in _TELLING_FLAGS if flag in flags]
    )
