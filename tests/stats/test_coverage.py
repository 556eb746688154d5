from __future__ import annotations

import pytest
from scipy import stats

from lockedroom.errors import BadInput
from lockedroom.stats.coverage import CoverageCell, coverage_table, exact_coverage, simulated_coverage
from lockedroom.stats.intervals import wilson

TABLE = coverage_table()


def outside(method: str) -> set[tuple[int, float]]:
    return {(cell.n, cell.p) for cell in TABLE if cell.method == method and not cell.within_band}


def test_exact_coverage_is_a_sum_of_binomial_probabilities() -> None:
    chances = [float(stats.binom.pmf(c, 20, 0.3)) for c in range(21) if wilson(c, 20).low <= 0.3 <= wilson(c, 20).high]
    assert exact_coverage("wilson", 20, 0.3) == pytest.approx(sum(chances), abs=1e-12)


@pytest.mark.parametrize("cell", TABLE, ids=lambda cell: f"{cell.method}-{cell.n}-{cell.p}")
def test_simulation_agrees_with_exact_coverage(cell: CoverageCell) -> None:
    assert cell.agrees


def test_clopper_pearson_never_covers_less_than_95_percent() -> None:
    cells = [cell for cell in TABLE if cell.method == "clopper-pearson"]
    assert len(cells) == 9
    assert all(cell.never_short for cell in cells)


def test_wilson_covers_93_to_97_percent_but_for_one_cell_where_it_covers_more() -> None:
    assert outside("wilson") == {(20, 0.3)}
    assert exact_coverage("wilson", 20, 0.3) == pytest.approx(0.97522, abs=1e-5)


def test_clopper_pearson_pays_for_its_guarantee_with_too_much_coverage() -> None:
    assert outside("clopper-pearson") == {(20, 0.02), (20, 0.3), (100, 0.02), (500, 0.02)}


def test_simulation_is_seeded() -> None:
    assert coverage_table() == TABLE
    assert simulated_coverage("wilson", 100, 0.3, seed=1) != simulated_coverage("wilson", 100, 0.3, seed=3)


def test_unknown_interval_and_no_simulation_are_refused() -> None:
    with pytest.raises(BadInput, match="known: wilson"):
        exact_coverage("wald", 20, 0.3)
    with pytest.raises(BadInput, match="at least 1"):
        simulated_coverage("wilson", 20, 0.3, simulations=0)
    with pytest.raises(BadInput, match="between 0 and 1"):
        exact_coverage("wilson", 20, 0.0)
