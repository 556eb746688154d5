"""The recipes that turn examples of ours into a trainer's rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]  # pyarrow ships no types
import pytest

from lockedroom.jsonl import encode_lines

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "verl_rows.py"


def made(folder: Path, answers: list[Any]) -> tuple[int, str, list[Any]]:
    """The exit code, what was said, and the answers in the rows."""
    rows = [{"id": f"e{i}", "prompt": "p", "expected_answer": answer} for i, answer in enumerate(answers)]
    (folder / "examples.jsonl").write_bytes(encode_lines(rows))
    command = [sys.executable, str(RECIPE), "examples.jsonl", "rows.parquet"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    written = folder / "rows.parquet"
    found = pq.read_table(written).to_pylist() if written.exists() else []
    return done.returncode, done.stderr, [row["reward_model"]["ground_truth"] for row in found]


@pytest.mark.parametrize("answers", [[2, -3], ["2", "x"]])
def test_expected_answers_stay_what_they_are(tmp_path: Path, answers: list[Any]) -> None:
    assert made(tmp_path, answers) == (0, "", answers)


@pytest.mark.parametrize("answer", ["2", 2**63, True, 1.5, {"x": 1}])
def test_answers_of_several_kinds_are_refused_in_one_message(tmp_path: Path, answer: Any) -> None:
    code, said, found = made(tmp_path, [2, answer])
    assert (code, said.count("\n"), found) == (1, 1, [])
    assert "write every expected_answer as text" in said
