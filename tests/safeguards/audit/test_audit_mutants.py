"""The audit is audited: of all generated mutants of final-int, only proven equivalents survive."""

from __future__ import annotations

from pathlib import Path

import pytest

from lockedroom.cli.main import main
from lockedroom.loops.instrument.kill_matrix import Matrix, make_matrix, render_matrix
from lockedroom.safeguards.audit.mutants import EQUIVALENT, Killed, compiled, generate, unexplained
from lockedroom.scorer import final_int


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    return make_matrix([], whole=False)  # what a person gets without naming a golden file


def test_at_least_a_hundred_mutants_are_generated(matrix: Matrix) -> None:
    assert matrix.mutants >= 100


def test_every_mutant_that_is_not_equivalent_is_killed(matrix: Matrix) -> None:
    assert matrix.unexplained == []


def test_every_equivalent_mutant_is_justified_and_none_is_listed_in_vain(matrix: Matrix) -> None:
    assert matrix.equivalent == EQUIVALENT


def test_the_matrix_command_is_complete_without_a_golden_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--kill-matrix"]) == 0
    assert "0 unexplained" in capsys.readouterr().out


def test_the_matrix_names_survivors_as_missing_goldens(matrix: Matrix) -> None:
    assert "0 unexplained" in render_matrix(matrix)
    assert unexplained([Killed("score: new", {"goldens": 0})]) == ["score: new"]


def test_the_changes_are_undone_one_by_one() -> None:
    first, *_, last = generate(Path(final_int.__file__).read_text("utf-8"))
    assert first.source != last.source
    assert generate("PREFIX = 'ab'")[-1].source == "PREFIX = 'xab'"


def test_a_mutant_that_cannot_be_imported_counts_as_noticed() -> None:
    assert compiled("import re\nre.compile('(')\ndef score(e, c): ...") is None
