"""One hook for trackers: a finished run's metrics, pushed to anything with `log(dict, step=)`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import msgspec

from lockedroom.results.verify import verify

PREFIX = "lockedroom/"


class Tracker(Protocol):
    """What a tracker has to offer: a trackio or wandb run, or a few lines around MLflow's `log_metrics`."""

    def log(self, metrics: dict[str, float], /, *, step: int | None = None) -> Any: ...


def push_run(run: str | Path, tracker: Tracker, *, step: int | None = None) -> dict[str, float]:
    """Verify a run and log its numbers; return what was logged.

    Every number of `summary.json` is logged under its path there, such as `lockedroom/reward/value`; what is not defined
    is not logged, so nothing stands for it. Raises Tampered for a run that does not verify.
    """
    path = Path(run)
    verify(path)
    metrics = numbers_of(msgspec.json.decode((path / "summary.json").read_bytes()))
    tracker.log(metrics, step=step)
    return metrics


def numbers_of(value: Any, name: str = PREFIX.rstrip("/")) -> dict[str, float]:
    """Return every number of a JSON object, by its path; lists of objects are named by their code or position."""
    if isinstance(value, bool) or value is None:
        return {}
    if isinstance(value, int | float):
        return {name: float(value)}
    children: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = [
            (str(item.get("code", i)) if isinstance(item, dict) else str(i), item) for i, item in enumerate(value)
        ]
    return {path: number for key, child in children for path, number in numbers_of(child, f"{name}/{key}").items()}
