"""A scorer's identity: a change of behaviour cannot pass unseen, and a stranger can recompute the fingerprint."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from lockedroom.protocols import Scorer
from lockedroom.records import Details, Failure, FailureCode, Outcome, Score
from lockedroom.scorer.battery import BATTERY, BATTERY_SHA256, BATTERY_VERSION
from lockedroom.scorer.builtin import BUILTIN, find_builtin
from lockedroom.scorer.identity import battery_text, fingerprint, source_sha256

LOCK = Path(__file__).with_name("scorer.lock.json")
GOLDENS = Path(__file__).parent.parent / "goldens"


def built_in(name: str) -> Scorer:
    found = find_builtin(name)
    assert found is not None
    return found


def verdicts(scorer: Scorer) -> list[Score | Failure]:
    return [scorer.score(example, completion) for example, completion in BATTERY]


def current_identity(name: str) -> dict[str, Any]:
    scorer = built_in(name)
    return {
        "version": scorer.spec.version,
        "battery_version": BATTERY_VERSION,
        "fingerprint": fingerprint(verdicts(scorer)),
        "goldens_sha256": {path.name: source_sha256(path) for path in sorted((GOLDENS / name).glob("*.jsonl"))},
    }


def what_to_do(name: str, locked: dict[str, Any], current: dict[str, Any]) -> str | None:
    """Return None when the lock holds, else what changed and what to do about it."""
    if current == locked:
        return None
    moved = [field for field in ("fingerprint", "goldens_sha256") if current[field] != locked[field]]
    record = f"then set {name!r} in {LOCK.name} to {json.dumps(current)}"
    same_version = current["version"] == locked["version"] and current["battery_version"] == locked["battery_version"]
    if "fingerprint" in moved and same_version:
        return (
            f"{name}: the verdicts changed but version is still {locked['version']}: old and new results would be "
            f"compared as equals. Undo the change; or bump SPEC.version, add the golden case that shows why, {record}"
        )
    return f"{name}: {', '.join(moved) or 'version'} changed. Review the change, {record}"


@pytest.mark.parametrize("name", BUILTIN)
def test_a_scorer_cannot_change_behind_its_version(name: str) -> None:
    locked = json.loads(LOCK.read_text())
    assert set(locked) == set(BUILTIN)
    assert (problem := what_to_do(name, locked[name], current_identity(name))) is None, problem


def test_changed_verdicts_under_one_version_ask_for_a_new_version() -> None:
    locked = current_identity("final-int")
    message = what_to_do("final-int", locked, {**locked, "fingerprint": "other"})
    assert message is not None
    assert "bump SPEC.version" in message


def test_changed_goldens_or_a_new_version_ask_for_a_review() -> None:
    locked = current_identity("final-int")
    changes: tuple[dict[str, Any], ...] = (
        {"goldens_sha256": {}},
        {"fingerprint": "other", "version": 2},
        {"version": 2},
    )
    for changed in changes:
        message = what_to_do("final-int", locked, {**locked, **changed})
        assert message is not None
        assert "Review the change" in message


def test_a_stranger_recomputes_the_fingerprint_from_its_description() -> None:
    lines = [f'["lockedroom-fingerprint",1,"{BATTERY_SHA256}"]']
    for result in verdicts(built_in("final-int")):
        assert isinstance(result, Score)
        parsed = "null" if result.details.parsed is None else f'"{result.details.parsed}"'
        lines.append(f'["score",{result.reward},"{result.details.code}","{result.details.outcome.value}",{parsed}]')
    text = "".join(line + "\n" for line in lines)
    assert hashlib.sha256(text.encode()).hexdigest() == fingerprint(verdicts(built_in("final-int")))


def test_the_battery_is_the_one_that_its_hash_names() -> None:
    assert hashlib.sha256(battery_text()).hexdigest() == BATTERY_SHA256
    assert BATTERY_VERSION == 1


def test_the_battery_is_small_has_unique_ids_and_reaches_every_code() -> None:
    assert 200 <= len(BATTERY) <= 500
    assert len({example.id for example, _ in BATTERY}) == len(BATTERY)
    scorer = built_in("final-int")
    reached = {result.details.code for result in verdicts(scorer) if isinstance(result, Score)}
    assert reached == {code.name for code in scorer.spec.codes} - {"unjudgeable_answer", "not_text"}
    assert all(scorer.accepts(example.expected_answer) for example, _ in BATTERY)


SCORE = Score(1.0, Details("ok", Outcome.CORRECT, "42", "fine"))


@pytest.mark.parametrize(
    "other",
    [
        Score(0.5, SCORE.details),
        Score(1.0, Details("fine", Outcome.CORRECT, "42", "fine")),
        Score(1.0, Details("ok", Outcome.WRONG, "42", "fine")),
        Score(1.0, Details("ok", Outcome.CORRECT, None, "fine")),
        Score(1.0, Details("ok", Outcome.CORRECT, "null", "fine")),
        Failure(FailureCode.SCORER_RAISED, "boom"),
    ],
)
def test_each_part_of_a_verdict_moves_the_fingerprint(other: Score | Failure) -> None:
    assert fingerprint([other]) != fingerprint([SCORE])


def test_wording_does_not_move_the_fingerprint() -> None:
    reworded = Score(1.0, Details("ok", Outcome.CORRECT, "42", "right", extra={"seconds": 1}))
    assert fingerprint([reworded]) == fingerprint([SCORE])
    failed = [Failure(FailureCode.SCORER_DIED, message) for message in ("exit 1", "exit 2")]
    assert fingerprint(failed[:1]) == fingerprint(failed[1:])


def test_order_count_and_kind_of_failure_move_the_fingerprint() -> None:
    died, raised = Failure(FailureCode.SCORER_DIED, ""), Failure(FailureCode.SCORER_RAISED, "")
    prints = {
        fingerprint(results)
        for results in ([], [SCORE], [SCORE, SCORE], [died], [raised], [died, raised], [raised, died])
    }
    assert len(prints) == 7


def test_a_parsed_lone_surrogate_has_a_fingerprint() -> None:
    assert len(fingerprint([Score(0.0, Details("x", Outcome.WRONG, "\ud800", ""))])) == 64


def test_source_sha256_is_that_of_the_files_bytes(tmp_path: Path) -> None:
    path = tmp_path / "scorer.py"
    path.write_bytes(b"a\r\n")
    assert source_sha256(path) == hashlib.sha256(b"a\r\n").hexdigest()


def test_the_built_in_scorers_are_found_by_name() -> None:
    for name in BUILTIN:
        scorer = find_builtin(name)
        assert scorer is not None
        assert scorer.spec.name == name
        assert scorer.source.name == name.replace("-", "_") + ".py"
        assert scorer.source.is_file()
    assert find_builtin("no-such-scorer") is None


def test_only_final_int_can_list_what_it_pays() -> None:
    example = BATTERY[0][0]
    final_int, permissive = find_builtin("final-int"), find_builtin("permissive")
    assert final_int is not None
    assert permissive is not None
    assert final_int.accepted is not None
    assert final_int.accepted(example) == ("Final: 0", "Final: 0\n")
    assert permissive.accepted is None
