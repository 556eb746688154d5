"""What another instrument would have said: the flip matrix old × new, and a difference split in two.

With mean_X(S) the mean of run X under scorer S, over the examples judged under every one of these:

    mean_B(S_B) − mean_A(S_A)  =  [mean_B(S) − mean_A(S)]  +  ([mean_B(S_B) − mean_B(S)] − [mean_A(S_A) − mean_A(S)])
    as published                  model changed               instrument changed

The split is exact, and it depends on S: it is a split *under the new scorer*.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from lockedroom.errors import BadInput
from lockedroom.records import Failure, Score
from lockedroom.results.comparison.columns import FAILURE, Columns, read_columns
from lockedroom.results.text_table import text_table
from lockedroom.safeguards.manifest import read_manifest
from lockedroom.visible import visible
from lockedroom.wording import counted

OUTCOMES = ("correct", "wrong", "malformed", FAILURE)


class Flips(msgspec.Struct, frozen=True):
    """`counts[i][j]` attempts had outcome i under the old scorer and j under the new one, in the order of OUTCOMES.

    `ids` names, for each pair of different outcomes ("wrong → correct"), the first examples it was seen on.
    """

    label: str
    counts: list[list[int]]
    ids: dict[str, list[str]]

    @property
    def flipped(self) -> int:
        return sum(count for i, row in enumerate(self.counts) for j, count in enumerate(row) if i != j)


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """A difference between two runs that two instruments may have made; see the module. `examples` enter it."""

    metric: str
    examples: int
    as_published: float
    model_changed: float
    instrument_changed: float
    instrument_on_a: float
    instrument_on_b: float
    flips: list[Flips]


def split_change(olds: tuple[Path, Path], news: tuple[Path, Path], metric: str, show: int) -> Split:
    """Split B − A as published into model and instrument. Raises BadInput when no example was judged all four times."""
    import numpy as np

    old_a, old_b = (read_columns(path, read_manifest(path)) for path in olds)
    new_a, new_b = (read_columns(path, read_manifest(path)) for path in news)
    every = (old_a, old_b, new_a, new_b)
    used = np.logical_and.reduce([columns.scored.any(axis=1) for columns in every])
    if not used.any():
        raise BadInput("no example was judged by every scorer in both runs, so the difference cannot be split")
    was_a, was_b, is_a, is_b = (float(columns.means(metric)[used].mean()) for columns in every)
    return Split(
        metric=metric,
        examples=int(used.sum()),
        as_published=was_b - was_a,
        model_changed=is_b - is_a,
        instrument_changed=(was_b - is_b) - (was_a - is_a),
        instrument_on_a=was_a - is_a,
        instrument_on_b=was_b - is_b,
        flips=[
            _flips_of(str(path), *pair, show) for path, pair in zip(olds, ((old_a, new_a), (old_b, new_b)), strict=True)
        ],
    )


def count_flips(label: str, pairs: Iterable[tuple[str, str, str]], show: int) -> Flips:
    """Return the matrix of (id, old outcome, new outcome), with the first `show` distinct ids of each kind of flip."""
    counts = [[0] * len(OUTCOMES) for _ in OUTCOMES]
    ids: dict[str, dict[str, None]] = {}
    for name, old, new in pairs:
        counts[OUTCOMES.index(old)][OUTCOMES.index(new)] += 1
        if old != new:
            first = ids.setdefault(f"{old} → {new}", {})
            if len(first) < show:
                first[name] = None
    return Flips(label, counts, {kind: list(first) for kind, first in sorted(ids.items())})


def outcome_of(result: Score | Failure) -> str:
    """Return one of OUTCOMES."""
    return result.details.outcome.value if isinstance(result, Score) else FAILURE


def render_split(split: Split, metric: str) -> str:
    """Return the flip matrices and the split as Markdown."""
    what = "pass rate" if metric == "pass" else "mean reward"
    rows = [
        ("B − A as published, each by its own scorer", f"{split.as_published:+.4f}"),
        ("model changed (both by the new scorer)", f"{split.model_changed:+.4f}"),
        ("instrument changed", f"{split.instrument_changed:+.4f}"),
    ]
    lines = [f"# The {what}, split: model or instrument?", "",
             *text_table(("", f"over {counted(split.examples, 'example')}"), rows, numbers=(1,)), "",
             f"- The old scorer gave A {split.instrument_on_a:+.4f} and B {split.instrument_on_b:+.4f} more than the new one; "
             "the second less the first is \"instrument changed\".", ""]  # fmt: skip
    return "\n".join([*lines, *(line for flips in split.flips for line in [*render_flips(flips), ""])]).rstrip() + "\n"


def render_flips(flips: Flips) -> list[str]:
    """Return one flip matrix as lines of Markdown; outcomes that never came are left out."""
    used = [i for i in range(len(OUTCOMES)) if any(flips.counts[i]) or any(row[i] for row in flips.counts)]
    rows = [[OUTCOMES[i], *(f"{flips.counts[i][j]:,}" for j in used), f"{sum(flips.counts[i]):,}"] for i in used]
    head = ["old ↓  new →", *(OUTCOMES[i] for i in used), "all"]
    total = sum(map(sum, flips.counts))
    lines = [f"{visible(flips.label, 200)}: the new scorer gives {flips.flipped:,} of {counted(total, 'attempt')} another outcome.", "",
             *text_table(head, rows, numbers=tuple(range(1, len(head))))]  # fmt: skip
    return [*lines, *_first_ids(flips.ids)]


def _first_ids(ids: dict[str, list[str]]) -> list[str]:
    return [f"- {kind}: {', '.join(visible(name, 60) for name in names)}, …" for kind, names in ids.items() if names]


def _flips_of(label: str, old: Columns, new: Columns, show: int) -> Flips:
    def outcomes(columns: Columns) -> Sequence[str]:
        names = [outcome for _, outcome in columns.code_names]
        return [names[code] for code in columns.codes.ravel().tolist()]

    ids = (name for name in old.ids for _ in range(old.draws))
    return count_flips(label, zip(ids, outcomes(old), outcomes(new), strict=True), show)
