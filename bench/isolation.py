"""What it costs to run a person's scorer in a process of its own, where nothing it does can end the run."""

from __future__ import annotations

import sys

import data
from measure import DATA, HERE, Figure, cpu, evaluate, interleave, ratio_of_cpu, ratio_of_wall, run, wall

TARGET = 3.0


def figures(*, quick: bool) -> list[Figure]:
    count = 10_000 if quick else 100_000
    files = data.recorded(count)
    outputs = {mode: DATA / f"isolation.{mode}.txt" for mode in ("in-process", "isolated")}
    costs = interleave(
        {
            mode: lambda mode=mode: run(
                (sys.executable, str(HERE / "isolation_loop.py"), mode, *map(str, files)), stdout=outputs[mode]
            )
            for mode in outputs
        }
        | {
            "evaluate with it": lambda: evaluate(*files, scorer=f"{HERE / 'person.py'}:score"),
            "evaluate with final-int": lambda: evaluate(*files),
        },
        rounds=5,
    )
    assert outputs["in-process"].read_text() == outputs["isolated"].read_text(), "isolation changed the records"
    isolated, inside = costs["isolated"], costs["in-process"]
    by_cpu, by_wall = ratio_of_cpu(isolated, inside), ratio_of_wall(isolated, inside)
    ours, builtin = costs["evaluate with it"], costs["evaluate with final-int"]
    records = f"{count:,} records"
    return [
        Figure(
            "isolation",
            f"{records}: isolated against in process, CPU",
            cpu(isolated),
            cpu(inside),
            f"{by_cpu:.2f}×",
            f"≤ {TARGET:g}×",
            by_cpu <= TARGET,
        ),
        Figure(
            "isolation",
            f"{records}: the same, wall time",
            wall(isolated),
            wall(inside),
            f"{by_wall:.2f}×",
            f"≤ {TARGET:g}×",
            by_wall <= TARGET,
        ),
        Figure(
            "isolation",
            f"{records}: `evaluate --scorer person.py:score` against final-int, CPU",
            cpu(ours),
            cpu(builtin),
            f"{ratio_of_cpu(ours, builtin):.2f}×",
            "",
            None,
        ),
    ]
