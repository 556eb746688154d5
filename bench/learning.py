"""Loop C: completions a second against TRL on the same weights, what a whole run costs, and where its time goes."""

from __future__ import annotations

import json
import shutil
import statistics
from typing import Any

from environments import environment
from measure import DATA, HERE, LOCKEDROOM, REPOSITORY, Cost, Figure, run

ENVIRONMENT = HERE / ".venv-trl"
PINNED = ("torch==2.13.0", "transformers==5.23.0", "trl==1.16.0")
TARGET_RATIO, TARGET_CPU_S, TARGET_PASS, TARGET_MB = 3.0, 45.0, 0.90, 1500.0
TRAIN = REPOSITORY / "src" / "lockedroom" / "policy" / "tiny" / "data" / "train.jsonl"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
COMPLETIONS = 512  # a step


def figures(*, quick: bool) -> list[Figure]:
    return [*_against_trl(quick=quick), *_whole_runs(seeds=1 if quick else 3), *_profile(steps=5 if quick else 20)]


def _against_trl(*, quick: bool) -> list[Figure]:
    python = environment(ENVIRONMENT, PINNED[:1], (*PINNED[1:], "--editable", f"{REPOSITORY}[learn]"))
    out = DATA / "trl.json"
    command = (str(python), str(HERE / "peer_trl.py"), "1" if quick else "3", "10" if quick else "40")
    run(command, stdout=out, environment=ONE_THREAD)
    found = json.loads(out.read_text().splitlines()[-1])
    return [row for name in ("GRPO", "RLOO") for row in _peer(name, found)]


def _peer(name: str, found: dict[str, Any]) -> list[Figure]:
    ours, theirs = (found["results"][one] for one in ("ours", name))
    pairs = list(zip(ours["seconds"], theirs["seconds"], strict=True))
    ratio = statistics.median(statistics.median(b) / statistics.median(a) for a, b in pairs)
    speeds = [
        COMPLETIONS / statistics.median(statistics.median(one) for one in side["seconds"]) for side in (ours, theirs)
    ]
    passes = [statistics.median(side["pass_at_1"]) for side in (ours, theirs)]
    what = f"64 × 8 completions a step, bit-equal logits: against TRL {name} ({PINNED[2]})"
    return [
        Figure("learning", what, f"{speeds[0]:,.0f} completions/s", f"{speeds[1]:,.0f} completions/s", f"{ratio:.1f}×",
               f"≥ {TARGET_RATIO:g}×", ratio >= TARGET_RATIO),
        Figure("learning", f"dev pass@1 after {found['completions']:,} completions: against TRL {name}", f"{passes[0]:.3f}",
               f"{passes[1]:.3f}", f"{passes[0] - passes[1]:+.3f}", "not lower", passes[0] >= passes[1] - 0.005),
    ]  # fmt: skip


def _whole_runs(*, seeds: int) -> list[Figure]:
    """`lockedroom learn --policy tiny` from start to finish, start-up and all measuring included."""
    runs = [_learn(seed) for seed in range(seeds)]
    after = statistics.median(summary["exact_pass_at_1"]["after"] for _, summary in runs)
    cpu_s = statistics.median(cost.cpu_s for cost, _ in runs)
    rss_mb = max(cost.rss_mb for cost, _ in runs)
    malformed = statistics.median(summary["format_errors_after"] for _, summary in runs)
    nats = statistics.median(summary["last"]["kl_exact"] for _, summary in runs)
    what = f"`learn --policy tiny`, median of {seeds} seeds"
    return [
        Figure("learning", f"{what}: exact dev pass@1", f"{after:.3f}", "0.378 (base)", "", f"≥ {TARGET_PASS:g}", after >= TARGET_PASS),
        Figure("learning", f"{what}: format errors", f"{malformed:.2%}", "", "", "< 2 %", malformed < 0.02),
        Figure("learning", f"{what}: KL", f"{nats:.2f} nats a completion", "", "", "< 1.5", nats < 1.5),
        Figure("learning", f"{what}: whole command", f"{cpu_s:.1f} CPU-s", "", "", f"≤ {TARGET_CPU_S:g} CPU-s", cpu_s <= TARGET_CPU_S),
        Figure("learning", f"{what}: peak memory", f"{rss_mb:,.0f} MB", "", "", f"< {TARGET_MB:,.0f} MB", rss_mb < TARGET_MB),
    ]  # fmt: skip


def _learn(seed: int) -> tuple[Cost, dict[str, Any]]:
    out = DATA / "run-learn"
    shutil.rmtree(out, ignore_errors=True)
    cost = run(
        (*LOCKEDROOM, "learn", "--dataset", str(TRAIN), "--seed", str(seed), "--out", str(out)), environment=ONE_THREAD
    )
    summary: dict[str, Any] = json.loads((out / "learning.json").read_bytes())
    shutil.rmtree(out)
    return cost, summary


def _profile(*, steps: int) -> list[Figure]:
    out = DATA / "learning-profile.json"
    run((LOCKEDROOM[0], str(HERE / "learning_profile.py"), str(steps)), stdout=out, environment=ONE_THREAD)
    found = json.loads(out.read_text().splitlines()[-1])
    whole = sum(found["seconds_a_step"].values())
    shares = ", ".join(f"{name} {value / whole:.0%}" for name, value in found["seconds_a_step"].items())
    return [
        Figure("learning", "a step: where its wall time goes", f"{whole * 1000:.0f} ms", "", shares, "", None),
        Figure("learning", "passes: share inside matrix products, and their speed of the measured GEMM peak",
               f"{found['gflops_in_products']:.0f} GFLOP/s", f"{found['gflops_peak']:.0f} GFLOP/s",
               f"{found['share_in_products']:.0%} of the time, {found['gflops_in_products'] / found['gflops_peak']:.0%} of peak",
               "", None),
    ]  # fmt: skip
