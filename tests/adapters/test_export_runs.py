"""Finished runs as files of other projects, and as numbers for a tracker."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]  # pyarrow ships no types
import pytest

from lockedroom import EvaluateConfig, evaluate
from lockedroom.adapters.importing import import_log
from lockedroom.adapters.tracking import push_run
from lockedroom.cli.main import main
from lockedroom.errors import Tampered


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three examples, two draws; one draw is missing, one is malformed."""
    said = [["Final: 1", "Final: 1"], ["Final: 3", "Final: 2 "], ["Final: 3"]]
    (tmp_path / "d.jsonl").write_text(
        "".join(json.dumps({"id": f"e{i}", "prompt": f"{i}+1?", "expected_answer": i + 1}) + "\n" for i in range(3))
    )
    (tmp_path / "c.jsonl").write_text(
        "".join(json.dumps({"id": f"e{i}", "samples": texts}) + "\n" for i, texts in enumerate(said))
    )
    evaluate(EvaluateConfig(dataset=str(tmp_path / "d.jsonl"), completions=str(tmp_path / "c.jsonl")), tmp_path / "run")
    return tmp_path / "run"


def test_a_table_has_a_row_an_attempt_and_no_reward_where_nothing_was_judged(run: Path, tmp_path: Path) -> None:
    assert main(["export", "run", str(run), "--to", "parquet", "--out", str(tmp_path / "r.parquet")]) == 0

    rows = pq.read_table(tmp_path / "r.parquet").to_pylist()
    assert [row["reward"] for row in rows] == [1.0, 1.0, 0.0, 0.0, 1.0, None]
    assert [row["code"] for row in rows] == ["ok", "ok", "wrong_answer", "extra_whitespace", "ok", None]
    assert rows[5]["failure"] == "missing_completion"
    assert rows[5]["completion"] is None
    assert rows[3]["completion"] == "Final: 2 "
    assert [row["expected_answer"] for row in rows] == ["1", "1", "2", "2", "3", "3"]


def test_samples_have_the_fields_of_the_harness_and_come_back(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "samples_x.jsonl"
    assert main(["export", "run", str(run), "--to", "lm-eval", "--out", str(out)]) == 0

    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["reward"] for row in rows] == [1.0, 0.0, 1.0]
    assert [row["could_not_judge"] for row in rows] == [0.0, 0.0, 0.5]
    assert rows[0]["prompt_hash"] == hashlib.sha256(b"0+1?").hexdigest()
    assert rows[0]["arguments"]["gen_args_0"]["arg_1"] == {}  # nobody declared how these were sampled
    done = import_log(out, "lm-eval", tmp_path / "in", answer_field="expected_answer")
    assert (done.attempts, done.without_completion) == (6, 1)
    made = [json.loads(line) for line in (tmp_path / "in/completions.jsonl").read_text().splitlines()]
    were = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    assert [(row["draw"], row["completion"]) for row in made] == [(row["draw"], row["completion"]) for row in were]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--to", "nonsense", "--out", "x"], "unknown target"),
        (["--to", "parquet", "--out", "d.jsonl"], "exists already"),
    ],
)
def test_what_cannot_be_exported_is_one_message_and_exit_2(
    flags: list[str], says: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags[-1] = str(tmp_path / flags[-1])

    assert main(["export", "run", str(run), *flags]) == 2
    assert says in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_not_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "run", str(tmp_path), "--to", "parquet", "--out", str(tmp_path / "x")]) == 2
    assert "not a finished run" in capsys.readouterr().err


@pytest.mark.parametrize("to", ["parquet", "lm-eval", "inspect"])
def test_a_run_that_was_changed_is_not_exported(to: str, run: Path, tmp_path: Path) -> None:
    records = run / "records.jsonl"
    records.write_bytes(records.read_bytes().replace(b"Final: 1", b"Final: 7", 1))

    assert main(["export", "run", str(run), "--to", to, "--out", str(tmp_path / "x.json")]) == 4
    assert not (tmp_path / "x.json").exists()


class _Tracker:
    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, float], int | None]] = []

    def log(self, metrics: dict[str, float], /, *, step: int | None = None) -> Any:
        self.seen.append((metrics, step))


def test_a_tracker_gets_every_number_of_the_summary_and_nothing_for_what_is_not_defined(run: Path) -> None:
    tracker = _Tracker()

    logged = push_run(run, tracker, step=3)

    assert tracker.seen == [(logged, 3)]
    assert logged["lockedroom/attempts"] == 6.0
    assert logged["lockedroom/failed"] == 1.0
    assert logged["lockedroom/codes/extra_whitespace/count"] == 1.0
    assert all(isinstance(value, float) and math.isfinite(value) for value in logged.values())
    assert not any(name.startswith("lockedroom/format") for name in logged)


def test_numbers_of_a_changed_run_are_not_pushed(run: Path) -> None:
    summary = run / "summary.json"
    summary.write_bytes(summary.read_bytes().replace(b'"failed": 1', b'"failed": 0'))
    tracker = _Tracker()

    with pytest.raises(Tampered):
        push_run(run, tracker)
    assert tracker.seen == []
