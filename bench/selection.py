"""Loop B at a million records: 10,000 examples × 100 draws, the table at 1, 2, 4, … 100 and both curves with their bands.

    OMP_NUM_THREADS=1 python bench/selection.py

The run to choose from is made first and not measured. What is measured is all of `lockedroom select`: verifying that run,
picking, writing the pool, the curves, closing the new run. Times are CPU seconds of one core.
"""

from __future__ import annotations

import shutil

from data import recorded
from measure import DATA, LOCKEDROOM, Cost, run

EXAMPLES, DRAWS = 10_000, 100
CPU_SECONDS, MEGABYTES = 10.0, 500.0
ROUNDS = 3


def select(selector: str, *more: str) -> Cost:
    """Return the cost of one selection from the run."""
    out = DATA / "selection-out"
    shutil.rmtree(out, ignore_errors=True)
    pool = str(DATA / f"selection-pool-{EXAMPLES}x{DRAWS}")
    return run([*LOCKEDROOM, "select", "--run", pool, "--selector", selector, *more, "--out", str(out)])


def main() -> None:
    """Make the run once, select from it in turn, print a line each."""
    dataset, completions = recorded(EXAMPLES, DRAWS)
    pool = DATA / f"selection-pool-{EXAMPLES}x{DRAWS}"
    if not pool.exists():
        run([*LOCKEDROOM, "evaluate", "--dataset", str(dataset), "--completions", str(completions), "--out", str(pool)])
    contenders = {"full curve alone (--n 100)": ("best-of-n", "--n", "100"), "default table of n": ("best-of-n",)}
    costs: dict[str, list[Cost]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, arguments in contenders.items():
            costs[name].append(select(*arguments))
    for name, found in costs.items():
        cpu, rss = sorted(cost.cpu_s for cost in found)[ROUNDS // 2], max(cost.rss_mb for cost in found)
        met = "met" if cpu < CPU_SECONDS and rss < MEGABYTES else "NOT met"
        print(f"{name}: {cpu:.2f} CPU-s, {rss:.0f} MB (target {CPU_SECONDS:g} s, {MEGABYTES:g} MB: {met})")


if __name__ == "__main__":
    main()
