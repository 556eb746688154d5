"""Where two runs part: which codes moved where, and the examples that tell them apart, with both completions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from lockedroom.records import Example, Record
from lockedroom.results.comparison.columns import Columns, read_rows_at
from lockedroom.results.evaluation.inspection import code_of
from lockedroom.results.run_folder import EXAMPLES, RECORDS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_CODES = 12
OTHERS = "(others)"


class Migration(msgspec.Struct, frozen=True):
    """One draw each: `counts[i][j]` examples went from code i of A to code j of B. Else None, and only shares."""

    codes_a: list[str]
    codes_b: list[str]
    counts: list[list[int]] | None
    shares: list[tuple[str, float, float]]


class ShownDraw(msgspec.Struct, frozen=True):
    """One completion of a discordant example; `completion` is None when none was drawn."""

    draw: int
    code: str
    completion: str | None


class Discordant(msgspec.Struct, frozen=True):
    """An example on which the runs differ. `mean_a`, `mean_b` are over its scored draws; one draw of each is shown."""

    id: str
    prompt: str
    expected_answer: Any
    mean_a: float
    mean_b: float
    a: ShownDraw
    b: ShownDraw


class DiscordantIds(msgspec.Struct, frozen=True):
    """All ids on which B gave more (`wins`) or less (`losses`) than A, and the first few with their completions."""

    wins: list[str]
    losses: list[str]
    shown: list[Discordant]


def find_migration(a: Columns, b: Columns) -> Migration:
    """Return where each code went (one draw an example) and the share of all attempts that each code has in A and B."""
    import numpy as np

    names_a, index_a = _most_common(a)
    names_b, index_b = _most_common(b)
    counts = None
    if a.draws == b.draws == 1:
        flat = index_a[a.codes[:, 0]] * len(names_b) + index_b[b.codes[:, 0]]
        counts = np.bincount(flat, minlength=len(names_a) * len(names_b)).reshape(-1, len(names_b)).tolist()
    in_a, in_b = _shares(names_a, index_a, a), _shares(names_b, index_b, b)
    every = sorted(
        {**in_a, **in_b}, key=lambda name: (name == OTHERS, -(in_a.get(name, 0.0) + in_b.get(name, 0.0)), name)
    )
    return Migration(names_a, names_b, counts, [(name, in_a.get(name, 0.0), in_b.get(name, 0.0)) for name in every])


def find_discordant(paths: tuple[Path, Path], a: Columns, b: Columns, metric: str, show: int) -> DiscordantIds:
    """Return the ids that tell the runs apart, and the `show` most different of them (ties in dataset order)."""
    import numpy as np

    q_a, q_b = a.means(metric), b.means(metric)
    both = a.scored.any(axis=1) & b.scored.any(axis=1)
    d = np.where(both, q_b - q_a, 0.0)
    first = np.argsort(-np.abs(d), kind="stable")[:show]
    chosen = [i for i in first.tolist() if d[i] != 0]
    # The draws that show the difference best: the winner's highest value, the loser's lowest.
    draws_a = {i: _telling_draw(a, metric, i, highest=bool(d[i] < 0)) for i in chosen}
    draws_b = {i: _telling_draw(b, metric, i, highest=bool(d[i] > 0)) for i in chosen}
    examples = read_rows_at(paths[0] / EXAMPLES, chosen, Example)
    records_a = read_rows_at(paths[0] / RECORDS, [i * a.draws + draws_a[i] for i in chosen], Record)
    records_b = read_rows_at(paths[1] / RECORDS, [i * b.draws + draws_b[i] for i in chosen], Record)
    shown = [
        Discordant(
            id=a.ids[i],
            prompt=examples[i].prompt,
            expected_answer=examples[i].expected_answer,
            mean_a=float(q_a[i]),
            mean_b=float(q_b[i]),
            a=_shown(records_a[i * a.draws + draws_a[i]]),
            b=_shown(records_b[i * b.draws + draws_b[i]]),
        )
        for i in chosen
    ]
    wins, losses = ([a.ids[i] for i in part.nonzero()[0].tolist()] for part in (d > 0, d < 0))
    return DiscordantIds(wins, losses, shown)


def _telling_draw(columns: Columns, metric: str, example: int, *, highest: bool) -> int:
    draws = columns.scored[example].nonzero()[0]
    values = columns.values(metric)[example][draws]
    return int(draws[values.argmax() if highest else values.argmin()])


def _shown(record: Record) -> ShownDraw:
    return ShownDraw(record.draw, code_of(record), None if record.completion is None else record.completion.text)


def _most_common(columns: Columns) -> tuple[list[str], NDArray[np.int64]]:
    """The names of the most frequent codes, most frequent first, and for every code its place among them."""
    import numpy as np

    names = columns.names()
    counts = np.bincount(columns.codes.ravel(), minlength=len(names))
    order = np.argsort(-counts, kind="stable")
    place = np.empty(len(names), dtype=np.int64)
    place[order] = np.arange(len(names))
    if len(names) <= MOST_CODES:
        return [names[i] for i in order.tolist()], place
    return [*(names[i] for i in order[: MOST_CODES - 1].tolist()), OTHERS], np.minimum(place, MOST_CODES - 1)


def _shares(names: list[str], index: NDArray[np.int64], columns: Columns) -> dict[str, float]:
    import numpy as np

    counts = np.bincount(index[columns.codes.ravel()], minlength=len(names))
    return {name: float(count) / columns.codes.size for name, count in zip(names, counts, strict=True)}
