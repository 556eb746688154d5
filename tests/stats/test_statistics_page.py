"""docs/statistics.md says what the code does: its tables are generated, its snippets run."""

from __future__ import annotations

import re
from pathlib import Path

from lockedroom.stats.coverage import coverage_table
from lockedroom.stats.oracles import ORACLES

PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"


def coverage_rows() -> list[str]:
    yes = {True: "yes", False: "no"}
    return [
        f"| {cell.method} | {cell.n} | {cell.p:g} | {cell.exact:.4f} | {yes[cell.within_band]} | {yes[cell.never_short]} |"
        for cell in coverage_table()
    ]


def oracle_rows() -> list[str]:
    return [
        f"| {oracle.name} | {oracle.source} | `{oracle.function}` `{oracle.arguments}` "
        f"| {'not ' if oracle.must_differ else ''}{', '.join(oracle.expected)} |"
        for oracle in ORACLES
    ]


def test_coverage_table_is_the_one_computed_here() -> None:
    assert "\n".join(coverage_rows()) in PAGE.read_text(encoding="utf-8")


def test_oracle_table_is_the_one_replayed_here() -> None:
    assert "\n".join(oracle_rows()) in PAGE.read_text(encoding="utf-8")


def test_snippets_run() -> None:
    snippets = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert snippets
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), {})
