"""`audit --kill-matrix`: every generated mutant of `final-int` against the goldens, the battery and the attack families."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from lockedroom.records import Example
from lockedroom.results.text_table import text_table
from lockedroom.safeguards.audit.families import seed_of
from lockedroom.safeguards.audit.goldens import builtin_goldens, choose_seeds, read_goldens, wrong_answer
from lockedroom.safeguards.audit.mutants import EQUIVALENT, Killed, case_sets, generate, kill_matrix, unexplained
from lockedroom.scorer import final_int
from lockedroom.wording import counted

SEEDS = 6


class Matrix(msgspec.Struct, frozen=True):
    """`unexplained` are survivors that nobody has shown to be equivalent: missing golden cases."""

    mutants: int
    killed: int
    equivalent: dict[str, str]
    unexplained: list[str]
    sets: dict[str, int]
    rows: list[Killed]


def make_matrix(goldens: Sequence[Path], *, whole: bool) -> Matrix:
    """Generate and ask. `whole`: count every case that sees a mutant, not only whether one of the set does."""
    builtin = builtin_goldens()
    seeds = [seed_of(golden, wrong_answer(golden, builtin)) for golden in choose_seeds(builtin, SEEDS)]
    cases = [
        (Example(id=golden.id, prompt=golden.prompt, expected_answer=golden.expected_answer), golden.completion)
        for golden in (read_goldens(goldens) if goldens else builtin)
    ]
    sets = case_sets(cases, seeds)
    mutants = generate(Path(final_int.__file__).read_text("utf-8"))
    rows = kill_matrix(mutants, final_int.score, sets, stop_early=not whole)
    survivors = [row.name for row in rows if row.survived]
    return Matrix(
        mutants=len(rows),
        killed=len(rows) - len(survivors),
        equivalent={name: EQUIVALENT[name] for name in survivors if name in EQUIVALENT},
        unexplained=unexplained(rows),
        sets={name: len(held) for name, held in sets.items()},
        rows=rows,
    )


def render_matrix(matrix: Matrix) -> str:
    """Return one line a set (how many mutants it kills, alone or with others), and the survivors."""
    kills = Counter(name for row in matrix.rows for name, seen in row.by.items() if seen)
    alone = Counter(
        next(iter(names)) for row in matrix.rows if len(names := [n for n, seen in row.by.items() if seen]) == 1
    )
    rows = [[name, f"{cases:,}", f"{kills[name]:,}", f"{alone[name]:,}"] for name, cases in matrix.sets.items()]
    lines = [
        f"{counted(matrix.mutants, 'generated mutant')} of final-int: {matrix.killed:,} killed, {len(matrix.equivalent):,} equivalent, "
        f"{len(matrix.unexplained):,} unexplained.", "",
        *text_table(("asked", "cases", "kills", "kills that no other set makes"), rows, numbers=(1, 2, 3)), "",
        *(f"- equivalent: {name}: {why}" for name, why in matrix.equivalent.items()),
        *(f"- SURVIVED: {name}: add a golden case that tells it from final-int" for name in matrix.unexplained),
    ]  # fmt: skip
    return "\n".join(lines)
