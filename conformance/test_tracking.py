"""Real trackers: a run's numbers in an MLflow file store, and in trackio's local store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lockedroom import EvaluateConfig, evaluate
from lockedroom.adapters.tracking import push_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "d.jsonl").write_text(
        "".join(json.dumps({"id": f"e{i}", "prompt": "?", "expected_answer": i}) + "\n" for i in range(4))
    )
    (tmp_path / "c.jsonl").write_text(
        "".join(json.dumps({"id": f"e{i}", "completion": f"Final: {i % 3}"}) + "\n" for i in range(4))
    )
    evaluate(EvaluateConfig(dataset=str(tmp_path / "d.jsonl"), completions=str(tmp_path / "c.jsonl")), tmp_path / "run")
    return tmp_path / "run"


def test_mlflow_holds_what_the_summary_holds(run: Path, tmp_path: Path) -> None:
    import mlflow

    class Tracker:
        def log(self, metrics: dict[str, float], *, step: int | None = None) -> None:
            mlflow.log_metrics({name.replace("=", "_"): value for name, value in metrics.items()}, step=step)

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    with mlflow.start_run() as active:
        logged = push_run(run, Tracker(), step=3)

    kept = mlflow.get_run(active.info.run_id).data.metrics
    assert kept["lockedroom/mean_reward/value"] == 0.75
    assert len(kept) == len(logged)


def test_trackio_takes_a_run_as_it_is(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    tracker = trackio.init(project="p", name="one", embed=False, auto_log_gpu=False)
    push_run(run, tracker, step=3)
    trackio.finish()

    (kept,) = SQLiteStorage.get_logs("p", "one")
    assert kept["lockedroom/mean_reward/value"] == 0.75
    assert kept["step"] == 3
