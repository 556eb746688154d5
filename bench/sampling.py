"""The embedded model: tokens a second against Hugging Face `generate` on the same weights, and live Loop A.

Tokens a second are of one thread's CPU time, both in one process and in turn, start-up not included (see
`peer_generate.py`).
"""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path
from typing import Any

from environments import environment
from measure import DATA, HERE, LOCKEDROOM, REPOSITORY, Cost, Figure, interleave, run

ENVIRONMENT = HERE / ".venv-transformers"
PINNED = ("torch==2.13.0", "transformers==5.23.0")
TARGET_TOKENS, TARGET_S = 60_000, 5.0
DATASET = REPOSITORY / "src" / "lockedroom" / "policy" / "tiny" / "data" / "dev.jsonl"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def figures(*, quick: bool) -> list[Figure]:
    return [*_against_generate(rounds=2 if quick else 10), *_live(quick=quick)]


def _against_generate(*, rounds: int) -> list[Figure]:
    # torch first: the index that pip asks decides which build it is, and transformers must not choose another
    python = environment(ENVIRONMENT, PINNED[:1], (*PINNED[1:], "--editable", f"{REPOSITORY}[learn]"))
    out = DATA / "generate.json"
    run((str(python), str(HERE / "peer_generate.py"), str(rounds)), stdout=out, environment=ONE_THREAD)
    found = json.loads(out.read_bytes())
    return [*(_tokens(workload, found["max_tokens"]) for workload in found["workloads"]), _logits(found["differences"])]


def _tokens(workload: dict[str, Any], max_tokens: int) -> Figure:
    speeds = {name: [tokens / s for tokens, s in rounds] for name, rounds in workload["rounds"].items()}
    ours, theirs = (statistics.median(speeds[name]) for name in ("ours", "generate"))
    ratio = statistics.median(a / b for a, b in zip(speeds["ours"], speeds["generate"], strict=True))
    length = f"up to {max_tokens} tokens, ended by the policy" if workload["ends"] else f"{max_tokens} tokens each"
    return Figure(
        "sampling",
        f"{workload['prompts']} prompts × {workload['draws']}, {length}: against generate ({PINNED[1]})",
        f"{ours:,.0f} tokens/s",
        f"{theirs:,.0f} tokens/s",
        f"{ratio:.2f}×",
        f"≥ {TARGET_TOKENS:,} tokens/s",
        ours >= TARGET_TOKENS,
    )


def _logits(differences: dict[str, float]) -> Figure:
    return Figure(
        "sampling",
        f"logits of the transplanted weights, 1,000 prompts (fused attention, as timed: off by up to {differences['sdpa']:.1e})",
        "",
        "",
        "same bits" if differences["eager"] == 0 else f"{differences['eager']:.1e}",
        "same bits",
        differences["eager"] == 0,
    )


def _live(*, quick: bool) -> list[Figure]:
    """Loop A from the command line, less what one example and one draw cost: interpreter, PyTorch, weights."""
    examples = 50 if quick else 500
    costs = interleave(
        {
            "start-up": lambda: _evaluate("--limit", "1", "--draws", "1", "--exact"),
            "live": lambda: _evaluate("--limit", str(examples), "--draws", "8"),
            "exact": lambda: _evaluate("--limit", str(examples), "--draws", "1", "--exact"),
        },
        rounds=3 if quick else 5,
    )
    # The fastest round stands for a free core: other work can only slow a round down.
    fastest = {name: min(cost.wall_s for cost in rounds) for name, rounds in costs.items()}
    rows = []
    for name, what in (("live", f"{examples} examples × 8 draws"), ("exact", f"`--exact` on {examples} examples")):
        seconds = fastest[name] - fastest["start-up"]
        rounds = zip(costs[name], costs["start-up"], strict=True)
        cpu_s = statistics.median(cost.cpu_s - before.cpu_s for cost, before in rounds)
        rows.append(
            Figure(
                "sampling",
                f"`evaluate --policy tiny`, {what}: fastest wall time after start-up ({cpu_s:.2f} CPU-s)",
                f"{seconds:.2f} s",
                f"{fastest['start-up']:.2f} s (start-up)",
                f"{seconds / TARGET_S:.2f} of the target",
                f"< {TARGET_S:g} s",
                seconds < TARGET_S,
            )
        )
    return rows


def _evaluate(*flags: str) -> Cost:
    out = DATA / "run-tiny"
    shutil.rmtree(out, ignore_errors=True)
    fixed = ("evaluate", "--dataset", str(DATASET), "--policy", "tiny", "--out", str(out))
    cost = run((*LOCKEDROOM, *fixed, *flags), environment=ONE_THREAD)
    assert _lines(out / "examples.jsonl") > 0, "nothing was evaluated"
    shutil.rmtree(out)
    return cost


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")
