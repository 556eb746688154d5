"""One worker against two, for a cheap and for a slow scorer; the records must be the same bytes."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path

import data
from measure import DATA, HERE, Cost, Figure, evaluate, interleave, ratio_of_cpu, ratio_of_wall, wall


def figures(*, quick: bool) -> list[Figure]:
    many, few = (100_000, 500) if quick else (1_000_000, 5_000)
    return [
        *_one_against_two(f"{many:,} records, final-int", data.recorded(many), "final-int", rounds=3),
        *_one_against_two(
            f"{few:,} records, a person's scorer of 1 ms",
            data.recorded(few),
            f"{HERE / 'person.py'}:slow_score",
            rounds=3,
        ),
    ]


def _one_against_two(what: str, files: tuple[Path, Path], scorer: str, *, rounds: int) -> list[Figure]:
    runs = {workers: DATA / f"run-{workers}-workers" for workers in (1, 2)}

    def with_workers(workers: int) -> Cost:
        return evaluate(*files, scorer=scorer, workers=workers, keep=runs[workers])

    costs = interleave({"1 worker": lambda: with_workers(1), "2 workers": lambda: with_workers(2)}, rounds=rounds)
    same = filecmp.cmp(runs[1] / "records.jsonl", runs[2] / "records.jsonl", shallow=False)
    assert same, f"{what}: the records depend on the number of workers"
    for folder in runs.values():
        shutil.rmtree(folder)
    one, two = costs["1 worker"], costs["2 workers"]
    speed = ratio_of_wall(one, two)
    return [
        Figure(
            "workers",
            f"{what}: speed of 2 workers (CPU {ratio_of_cpu(two, one):.2f}×) against 1",
            wall(two),
            wall(one),
            f"{speed:.2f}×",
            "> 1×",
            speed > 1,
        ),
        Figure("workers", f"{what}: records of 2 workers and of 1", "", "", "same bytes", "same bytes", same),
    ]
