"""What a command costs, and the rows of the table that the benches print.

CPU time is user + system of the whole process and of the children it waited for, start-up included. Times drift on a
shared machine, so a cost is never quoted alone: ours and the other's are measured in turn, round by round, and the
figure is the median of the rounds' ratios.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
DATA = HERE / ".data"
LOCKEDROOM = (sys.executable, "-m", "lockedroom")


_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


class Cost(msgspec.Struct, frozen=True):
    """CPU and wall seconds, and the peak resident set in MB of the largest process."""

    cpu_s: float
    wall_s: float
    rss_mb: float


class Figure(msgspec.Struct, frozen=True):
    """One row of the table. `ours` and `other` are medians with their unit; `ratio` is what the target is about."""

    bench: str
    what: str
    ours: str
    other: str
    ratio: str
    target: str
    met: bool | None  # None: a figure without a target


def run(command: Sequence[str], *, stdout: Path | None = None, environment: dict[str, str] | None = None) -> Cost:
    """Run a command to its end and return its cost. Raises RuntimeError with its messages when it fails.

    Modules come from cached bytecode, as they do from an installed package, whatever PYTHONDONTWRITEBYTECODE says here.
    The peak resident set is at least ours, because Linux counts the moment before exec: keep the bench itself small.
    """
    with open(stdout or os.devnull, "wb") as out, open(DATA / "stderr.txt", "w+b") as err:
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=out, stderr=err, env=_ENVIRONMENT | (environment or {}))
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            err.seek(0)
            raise RuntimeError(f"{' '.join(command)}\nended with {process.returncode}:\n{err.read().decode()[-2000:]}")
    return Cost(usage.ru_utime + usage.ru_stime, wall_s, usage.ru_maxrss / 1024)


def interleave(contenders: Mapping[str, Callable[[], Cost]], *, rounds: int) -> dict[str, list[Cost]]:
    """Run every contender once a round, in turn, and return each one's costs by round."""
    costs: dict[str, list[Cost]] = {name: [] for name in contenders}
    for round_ in range(rounds):
        for name, contender in contenders.items():
            costs[name].append(contender())
            cost = costs[name][-1]
            print(
                f"  round {round_ + 1}/{rounds}  {name}: {cost.cpu_s:.3f} CPU-s, {cost.wall_s:.3f} s, {cost.rss_mb:.0f} MB",
                file=sys.stderr,
            )
    return costs


def ratio_of_cpu(over: Sequence[Cost], under: Sequence[Cost]) -> float:
    """Return the median over rounds of the CPU time of `over` divided by that of `under`."""
    return statistics.median(a.cpu_s / b.cpu_s for a, b in zip(over, under, strict=True))


def ratio_of_wall(over: Sequence[Cost], under: Sequence[Cost]) -> float:
    """Return the median over rounds of the wall time of `over` divided by that of `under`."""
    return statistics.median(a.wall_s / b.wall_s for a, b in zip(over, under, strict=True))


def cpu(costs: Sequence[Cost]) -> str:
    return f"{statistics.median(cost.cpu_s for cost in costs):.3f} CPU-s"


def wall(costs: Sequence[Cost]) -> str:
    return f"{statistics.median(cost.wall_s for cost in costs):.2f} s"


def rss(costs: Sequence[Cost]) -> float:
    return max(cost.rss_mb for cost in costs)


def evaluate(
    dataset: Path,
    completions: Path,
    *,
    scorer: str = "final-int",
    workers: int = 1,
    keep: Path | None = None,
    python: Path | str = sys.executable,
) -> Cost:
    """Cost of `lockedroom evaluate` into a new folder, which is removed again unless `keep` names it."""
    out = keep or DATA / "run"
    shutil.rmtree(out, ignore_errors=True)
    options = {"dataset": dataset, "completions": completions, "scorer": scorer, "workers": workers, "out": out}
    flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    cost = run([str(python), "-m", "lockedroom", "evaluate", *flags])
    if keep is None:
        shutil.rmtree(out)
    return cost
