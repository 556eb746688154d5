from __future__ import annotations

import pytest

from lockedroom.errors import BadInput
from lockedroom.stats.oracles import CALLS, ORACLES, Oracle, replay, replay_all


@pytest.mark.parametrize("oracle", ORACLES, ids=lambda oracle: oracle.name)
def test_oracle_holds_to_its_last_digit(oracle: Oracle) -> None:
    result = replay(oracle)
    assert result.passed, f"{oracle.name}: found {result.found}, expected {oracle.expected}"


def test_well_known_wrong_answers_are_in_the_table() -> None:
    assert {oracle.expected for oracle in ORACLES if oracle.must_differ} == {("0.1147079",), ("0.83193",)}


def test_whole_table_replays_in_order_under_distinct_names() -> None:
    assert [result.oracle for result in replay_all()] == list(ORACLES)
    assert len({oracle.name for oracle in ORACLES}) == len(ORACLES)
    assert {oracle.function for oracle in ORACLES} == set(CALLS)


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        ("wilson", (3, 10), ("0.1077914", "0.6032219")),
        ("wilson", (3, 10), ("0.1077913",)),
        ("estimate_run", ("1",), ("1.0", "0.0")),
        ("estimate_run", (), ("0.0",)),
        ("paired_difference", (0, 0, 3, 3), ("0.0", "0.0", "0.0", "0.0")),
    ],
)
def test_a_wrong_digit_or_an_undefined_number_fails(
    function: str, arguments: tuple[object, ...], expected: tuple[str, ...]
) -> None:
    assert not replay(Oracle("wrong", "computed", function, arguments, expected)).passed


def test_unknown_function_is_refused() -> None:
    with pytest.raises(BadInput, match="unknown function"):
        replay(Oracle("odd", "computed", "no such", (), ()))
