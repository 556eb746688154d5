"""How often the interval around a sampled pass rate holds the exact one, over repeats of Loop A with other seeds."""

from __future__ import annotations

import json
import sys

from measure import DATA, HERE, Figure, run

EXAMPLES, DRAWS, CONFIDENCE = 200, 8, 0.95
LOWEST, HIGHEST = 0.93, 0.97


def figures(*, quick: bool) -> list[Figure]:
    repeats = 20 if quick else 200
    out = DATA / "coverage.json"
    sizes = (str(EXAMPLES), str(DRAWS), str(repeats), str(CONFIDENCE))
    run(
        (sys.executable, str(HERE / "coverage_exact_loop.py"), *sizes, str(DATA / "run-coverage")),
        stdout=out,
        environment={"OMP_NUM_THREADS": "1"},
    )
    found = json.loads(out.read_bytes())
    share = found["covered"] / repeats
    return [
        Figure(
            "coverage",
            f"{EXAMPLES} examples × {DRAWS} draws of tiny, seeds 0 to {repeats - 1}: {CONFIDENCE:.0%} intervals that "
            "hold the exact pass rate",
            f"{found['covered']} of {repeats}",
            "",
            f"{share:.1%} (binomial 95 %: {found['low']:.1%} to {found['high']:.1%})",
            f"{LOWEST:.0%} to {HIGHEST:.0%}",
            LOWEST <= share <= HIGHEST,
        )
    ]
