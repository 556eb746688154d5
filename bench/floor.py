"""Scoring recorded completions end to end against only decoding the same two files.

Ours reads, validates, scores, writes the records with the completions in them, hashes and summarises. The floor is
`decode_only.py`: msgspec, typed structs, nothing kept.
"""

from __future__ import annotations

import sys
from pathlib import Path

import data
from measure import HERE, Cost, Figure, cpu, evaluate, interleave, ratio_of_cpu, rss, run

BLOCKS_KB = (256, 64)
TARGET, TARGET_LONG = 4.0, 2.0


def figures(*, quick: bool) -> list[Figure]:
    scale = 10 if quick else 1
    rounds = 3 if quick else 5
    million = 1_000_000 // scale
    rows, peak = _against_floor(
        f"{million:,} records, 1 a example", data.recorded(million), target=TARGET, rounds=rounds
    )
    rows += _against_floor(
        f"{million // 8:,} examples × 8 samples", data.recorded(million // 8, 8), target=TARGET, rounds=rounds
    )[0]
    few = 300_000 // scale
    peak_few = rss([evaluate(*data.recorded(few))])
    rows += [_peak(few, peak_few, 60.0), _peak(million, peak, 120.0)]
    long = data.long_recorded(200_000 // scale)
    for scorer in ("permissive", "final-int"):
        what = f"{200_000 // scale:,} completions of 2 kB, {scorer}"
        rows += _against_floor(what, long, target=TARGET_LONG, rounds=rounds, scorer=scorer)[0]
    return rows


def _against_floor(
    what: str, files: tuple[Path, Path], *, target: float, rounds: int, scorer: str = "final-int"
) -> tuple[list[Figure], float]:
    """Return a row for each block size of the floor, and our peak resident set in MB."""
    costs = interleave(
        {"ours": lambda: evaluate(*files, scorer=scorer)}
        | {f"floor {size} kB": lambda size=size: _decode_only(size, *files) for size in BLOCKS_KB},
        rounds=rounds,
    )
    rows = []
    for size in BLOCKS_KB:
        floor = costs[f"floor {size} kB"]
        ratio = ratio_of_cpu(costs["ours"], floor)
        rows.append(
            Figure(
                "floor",
                f"{what}: CPU against decoding in {size} kB blocks",
                cpu(costs["ours"]),
                cpu(floor),
                f"{ratio:.2f}×",
                f"≤ {target:g}×",
                ratio <= target,
            )
        )
    return rows, rss(costs["ours"])


def _decode_only(size: int, dataset: Path, completions: Path) -> Cost:
    return run((sys.executable, str(HERE / "decode_only.py"), str(size), str(dataset), str(completions)))


def _peak(records: int, peak_mb: float, target_mb: float) -> Figure:
    return Figure(
        "floor",
        f"{records:,} records: peak resident set",
        f"{peak_mb:.0f} MB",
        "",
        f"{peak_mb / target_mb:.2f} of the target",
        f"< {target_mb:g} MB",
        peak_mb < target_mb,
    )
