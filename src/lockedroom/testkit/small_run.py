"""Small inputs on disk, and the command line as a process: what tests of runs begin with."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lockedroom.jsonl import encode_lines
from lockedroom.records import Example


def write_rows(path: Path, rows: Sequence[Any]) -> Path:
    """Write one JSON object a line; return the path."""
    path.write_bytes(encode_lines(rows))
    return path


def additions(count: int) -> list[Example]:
    """Return sums with ids e0, e1, …: the answer of e7 is 8."""
    return [Example(id=f"e{i}", prompt=f"What is {i} + 1?", expected_answer=i + 1) for i in range(count)]


def write_additions(folder: Path, count: int, name: str = "sums.jsonl") -> Path:
    return write_rows(folder / name, additions(count))


def answer(i: int, draw: int = 0) -> str:
    """A completion for e<i>: of five in a row three are right, one is wrong and one is malformed; draws differ."""
    forms = ("Final: {0}", "Final: {0}", "Final: {0}0", "Final: {0}", "it is {0}")
    return forms[(i + 3 * draw) % len(forms)].format(i + 1)


def write_answers(folder: Path, count: int, name: str = "answers.jsonl") -> Path:
    return write_rows(folder / name, [{"id": f"e{i}", "completion": answer(i)} for i in range(count)])


def write_samples(folder: Path, count: int, draws: int, name: str = "samples.jsonl") -> Path:
    rows = [{"id": f"e{i}", "samples": [answer(i, draw) for draw in range(draws)]} for i in range(count)]
    return write_rows(folder / name, rows)


def lockedroom(
    *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None, timeout_s: float = 60.0
) -> subprocess.CompletedProcess[bytes]:
    """Run the command line in a process of its own and return how it ended; output is bytes."""
    command = [sys.executable, "-m", "lockedroom", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **(env or {})}, timeout=timeout_s, capture_output=True, check=False
    )
