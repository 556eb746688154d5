"""The problems of the real-model runs: small sums, differences and products to measure on, two-digit sums to learn.

Everything is drawn from SEED, so the files are the same everywhere. No problem is in two splits: the two numbers of a sum
are in order, and both of `learn-train` and `learn-dev` are drawn without replacement from one list.
"""

from __future__ import annotations

import random
from pathlib import Path

import msgspec

from lockedroom.jsonl import encode_lines
from lockedroom.records import Example

SEED = 20
TEMPLATE = "Compute {problem}. Output exactly one line: Final: <int>"
SHOTS = (("3+5", 8), ("9-4", 5), ("6*7", 42), ("8+8", 16))


class Problems(msgspec.Struct, frozen=True):
    """The files. `zero_shot` and `four_shot` ask the same; the latter behind four solved problems, as plain text."""

    zero_shot: str
    four_shot: str
    train: str
    dev: str


def write_problems(folder: Path, *, measured: int, train: int, dev: int) -> Problems:
    """Write the four files, with so many examples in each; files that are there already are left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    small = _small()[:measured]
    sums = _two_digit_sums()[: train + dev]
    shots = "".join(f"{TEMPLATE.format(problem=problem)}\nFinal: {answer}\n\n" for problem, answer in SHOTS)
    written = {
        "zero-shot": small,
        "four-shot": [msgspec.structs.replace(one, prompt=f"{shots}{one.prompt}\n") for one in small],
        "learn-train": sums[:train],
        "learn-dev": sums[train:],
    }
    paths = {name: folder / f"{name}.jsonl" for name in written}
    for name, examples in written.items():
        if not paths[name].exists():
            paths[name].write_bytes(encode_lines(examples))
    return Problems(*map(str, paths.values()))


def _small() -> list[Example]:
    numbers = range(2, 10)
    rows = [(f"{a}+{b}", a + b) for a in numbers for b in numbers]
    rows += [(f"{a}-{b}", a - b) for a in numbers for b in numbers if a >= b]
    rows += [(f"{a}*{b}", a * b) for a in numbers for b in numbers]
    return _shuffled([row for row in rows if row not in SHOTS])


def _two_digit_sums() -> list[Example]:
    return _shuffled([(f"{a}+{b}", a + b) for a in range(10, 100) for b in range(a, 100)])


def _shuffled(rows: list[tuple[str, int]]) -> list[Example]:
    random.Random(SEED).shuffle(rows)
    return [
        Example(id=problem, prompt=TEMPLATE.format(problem=problem), expected_answer=answer) for problem, answer in rows
    ]
