from __future__ import annotations

import json

import msgspec
import pytest

from lockedroom.cli.main import main
from lockedroom.cli.selftest import covers, report
from lockedroom.stats.coverage import CoverageCell, coverage_table
from lockedroom.stats.oracles import ORACLES, Oracle, Replay, replay, replay_all


def test_this_installation_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest"]) == 0
    out = capsys.readouterr().out
    assert f"{len(ORACLES)} of {len(ORACLES)} oracles hold" in out
    assert "18 of 18 cells cover as promised: simulation (2,000 runs a cell) agrees" in out
    assert "FAILED" not in out


def test_it_says_that_wilson_leaves_the_band_in_one_cell(capsys: pytest.CaptureFixture[str]) -> None:
    main(["selftest", "--quick"])
    out = capsys.readouterr().out
    assert out.count("Wilson leaves the band") == 1
    assert "Wilson leaves the band of 93-97 % at n = 20, p = 0.3: 97.52%, on the safe side." in out


def test_every_oracle_stands_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    main(["selftest", "--quick"])
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if line.startswith("| ") and line.endswith("| ok  |")]
    assert len(rows) == len(ORACLES) + 12 + 2  # and two headers
    for oracle in ORACLES:
        assert any(row.startswith(f"| {oracle.name} ") for row in rows), oracle.name


def test_quick_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", "--quick", "--json", "--seed", "3"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] is True
    assert len(found["oracles"]) == len(ORACLES)
    assert {cell["simulations"] for cell in found["coverage"]} == {200}


def _replays(*wrong: Oracle) -> list[Replay]:
    return [*map(replay, ORACLES[:3]), *map(replay, wrong)]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_missed_oracle_is_a_finding(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    wrong = msgspec.structs.replace(ORACLES[0], name="wrong on purpose", expected=("0.1077914", "0.6032219"))
    assert report(_replays(wrong), coverage_table(sizes=(20,)), as_json=as_json) == 1
    out = capsys.readouterr().out
    assert json.loads(out)["passed"] is False if as_json else "3 of 4 oracles hold" in out and "FAILED" in out


def test_an_oracle_without_a_number_is_a_finding(capsys: pytest.CaptureFixture[str]) -> None:
    undefined = msgspec.structs.replace(
        next(one for one in ORACLES if one.function == "binary_standard_error"), arguments=(0, 5)
    )
    assert report(_replays(undefined), coverage_table(sizes=(20,)), as_json=False) == 1
    assert "nothing" in capsys.readouterr().out


def cell(**changes: object) -> CoverageCell:
    usual = CoverageCell("wilson", 20, 0.3, 0.95, 0.96, 0.96, 2000, within_band=True, never_short=True, agrees=True)
    return msgspec.structs.replace(usual, **changes)


@pytest.mark.parametrize(
    ("found", "promised"),
    [
        (cell(), True),
        (cell(exact=0.975, within_band=False), True),
        (cell(exact=0.931, never_short=False), True),
        (cell(exact=0.929, never_short=False, within_band=False), False),
        (cell(agrees=False), False),
        (cell(method="clopper-pearson", exact=0.99, within_band=False), True),
        (cell(method="clopper-pearson", exact=0.949, never_short=False), False),
    ],
)
def test_what_counts_as_covering(found: CoverageCell, promised: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert covers(found) is promised
    assert report(list(replay_all())[:1], [found], as_json=False) == (0 if promised else 1)


def test_a_negative_seed_is_refused() -> None:
    assert main(["selftest", "--seed", "-1"]) == 2
