"""Records a CPU-second against math-verify and Inspect AI on the same completions, start-up included on both sides.

Ours runs in an environment that holds a core install and nothing else, as a person gets it: among the tools of a
checkout is `typing_extensions`, and where that is installed msgspec imports it, for a tenth of our start-up.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import data
from environments import environment
from measure import DATA, HERE, REPOSITORY, Cost, Figure, cpu, evaluate, interleave, ratio_of_cpu, run

ENVIRONMENT, CORE = HERE / ".venv-peers", HERE / ".venv-core"
PINNED = ("math-verify==0.9.0", "inspect-ai==0.3.285")
TARGETS = {"math-verify": 50.0, "inspect score": 100.0}
ROUNDS = {"math-verify": 5, "inspect score": 1}  # a round of Inspect takes more than a minute


def figures(*, quick: bool) -> list[Figure]:
    python = environment(ENVIRONMENT, PINNED)
    core = environment(CORE, ("--editable", str(REPOSITORY)))
    count = 1_000 if quick else 10_000
    files = data.recorded(count)
    log = _inspect_log(python, count, files)
    contenders = {
        "math-verify": lambda: run((str(python), str(HERE / "peer_math_verify.py"), *map(str, files))),
        "inspect score": lambda: _inspect_score(python, log),
    }
    rows = []
    for peer, target in TARGETS.items():
        costs = interleave({"ours": lambda: evaluate(*files, python=core), peer: contenders[peer]}, rounds=ROUNDS[peer])
        ratio = ratio_of_cpu(costs[peer], costs["ours"])
        rows.append(
            Figure(
                "peers",
                f"{count:,} completions against {peer} ({PINNED[peer == 'inspect score']}): records a CPU-second",
                cpu(costs["ours"]),
                cpu(costs[peer]),
                f"{ratio:.0f}×",
                f"≥ {target:g}×",
                ratio >= target,
            )
        )
    return rows


def _inspect_log(python: Path, count: int, files: tuple[Path, Path]) -> Path:
    """Return a finished log of these completions; making it takes Inspect more than a CPU-minute for 10 thousand."""
    folder = DATA / f"inspect-logs-{count}"
    if not folder.exists():
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        run((str(python), str(HERE / "peer_inspect_log.py"), *map(str, files), str(unfinished)))
        os.replace(unfinished, folder)
    return next(folder.glob("*.eval"))


def _inspect_score(python: Path, log: Path) -> Cost:
    out = DATA / "inspect-rescored.eval"
    out.unlink(missing_ok=True)
    flags = ("--scorer", "match", "--action", "overwrite", "--display", "none", "--output-file", str(out))
    cost = run((str(python.with_name("inspect")), "score", str(log), *flags))
    assert out.exists(), "inspect score wrote nothing"
    return cost
