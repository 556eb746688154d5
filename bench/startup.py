"""How soon `lockedroom --help` answers, what it imports to do so, and how large the core install is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from measure import HERE, REPOSITORY, Figure, cpu, interleave, ratio_of_cpu, run

TARGET_S, TARGET_MB = 0.150, 30.0
HEAVY = ("numpy", "scipy", "torch", "rich", "pyarrow")
NOT_OURS = ("pip", "setuptools", "numpy", "scipy")
_SHOW_MODULES = """
import sys
from lockedroom.cli.main import main
try:
    main(["--help"])
except SystemExit:
    print(*sys.modules, file=sys.stderr)
"""


def figures(*, quick: bool) -> list[Figure]:
    command = (str(Path(sys.executable).with_name("lockedroom")), "--help")
    costs = interleave(
        {"ours": lambda: run(command), "python -c pass": lambda: run((sys.executable, "-c", "pass"))},
        rounds=5 if quick else 15,
    )
    # The fastest round stands for a free core: other work can only slow a round down.
    fastest = min(cost.wall_s for cost in costs["ours"])
    bare = min(cost.wall_s for cost in costs["python -c pass"])
    slowest = max(cost.wall_s for cost in costs["ours"])
    rows = [
        Figure(
            "startup",
            f"`lockedroom --help`: wall time, fastest round (slowest {slowest * 1000:.0f} ms)",
            f"{fastest * 1000:.0f} ms",
            f"{bare * 1000:.0f} ms (python -c pass)",
            f"{fastest / TARGET_S:.2f} of the target",
            f"< {TARGET_S * 1000:.0f} ms",
            fastest < TARGET_S,
        ),
        Figure(
            "startup",
            "`lockedroom --help`: CPU against `python -c pass`",
            cpu(costs["ours"]),
            cpu(costs["python -c pass"]),
            f"{ratio_of_cpu(costs['ours'], costs['python -c pass']):.1f}×",
            "",
            None,
        ),
        _imports(),
    ]
    return rows if quick else [*rows, _size()]


def _imports() -> Figure:
    done = subprocess.run((sys.executable, "-c", _SHOW_MODULES), capture_output=True, text=True, check=True)
    names = set(done.stderr.split())
    heavy = [name for name in HEAVY if name in names]
    return Figure(
        "startup",
        "`lockedroom --help`: modules imported",
        f"{len(names)}",
        "",
        f"heavy: {', '.join(heavy) or 'none'}",
        f"no {', '.join(HEAVY)}",
        not heavy,
    )


def _size() -> Figure:
    environment = HERE / ".venv-size"
    subprocess.run((sys.executable, "-m", "venv", "--clear", str(environment)), check=True)
    pip = (str(environment / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", str(REPOSITORY))
    subprocess.run(pip, check=True)
    site = next((environment / "lib").glob("python3*")) / "site-packages"
    megabytes = {entry.name: _bytes(entry) / 1e6 for entry in site.iterdir()}
    shutil.rmtree(environment)
    ours = {name: size for name, size in megabytes.items() if not name.startswith(NOT_OURS)}
    total = sum(ours.values())
    largest = ", ".join(f"{name} {ours[name]:.1f}" for name in sorted(ours, key=lambda name: -ours[name])[:3])
    return Figure(
        "startup",
        f"core install except numpy and scipy (largest: {largest})",
        f"{total:.1f} MB",
        f"{sum(megabytes.values()):.0f} MB with them",
        f"{total / TARGET_MB:.2f} of the target",
        f"< {TARGET_MB:g} MB",
        total < TARGET_MB,
    )


def _bytes(entry: Path) -> int:
    files = entry.rglob("*") if entry.is_dir() else [entry]
    return sum(file.stat().st_size for file in files if file.is_file())
