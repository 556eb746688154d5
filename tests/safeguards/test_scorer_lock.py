"""A scorer's behaviour may not change while its version stands still."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lockedroom.errors import BadInput
from lockedroom.loops.instrument.scorer_checks import Limits, LockResult, lock_scorer
from lockedroom.records import Details, Failure, FailureCode, Outcome, Score
from lockedroom.safeguards.scorer_lock import Verdicts, read_lock, record_verdicts

SOURCE = """
SPEC = {"name": "mine", "version": 1, "codes": [
    {"name": "yes", "outcome": "correct", "meaning": "right"}, {"name": "no", "outcome": "wrong", "meaning": "not"}]}


def score(example, completion):
    right = completion == f"Final: {example.expected_answer}"
    return {"reward": float(right), "details": {"code": "yes" if right else "no", "parsed": completion[:5]}}
"""
GOLDENS = [("Final: 7", 7), ("Final: 8", 7), ("answer 7", 7)]

Lock = Callable[..., LockResult]


@pytest.fixture
def lock(tmp_path: Path) -> Lock:
    """Write a scorer (with replacements made) and lock or check it."""
    golden = tmp_path / "goldens" / "mine.jsonl"
    golden.parent.mkdir()
    golden.write_text("".join(json.dumps({"completion": c, "expected_answer": e}) + "\n" for c, e in GOLDENS))

    def run(*replacements: tuple[str, str], check: bool = True, goldens: bool = False) -> LockResult:
        source = SOURCE
        for old, new in replacements:
            assert old in source
            source = source.replace(old, new)
        (tmp_path / "mine.py").write_text(source)
        return lock_scorer(f"{tmp_path / 'mine.py'}:score", tmp_path / "scorer.lock.json", [golden] * goldens,
                           limits=Limits(), check=check)  # fmt: skip

    return run


def test_an_unchanged_scorer_passes(lock: Lock) -> None:
    assert lock(check=False).written
    done = lock()
    assert (done.checked.behaviour, done.checked.stale, done.checked.notes, done.written) == ([], [], [], False)


def test_other_verdicts_under_one_version_are_a_finding_that_names_the_cases(lock: Lock) -> None:
    lock(check=False)
    checked = lock(("completion ==", "completion.strip() ==")).checked
    assert checked.stale == []
    assert any("was wrong no, reward 0.0; is correct yes, reward 1.0" in line for line in checked.behaviour)
    assert any("completion 'Final: 0⏎'" in line for line in checked.behaviour)
    assert checked.behaviour[-1].endswith("more")


def test_a_change_that_only_a_golden_shows_is_found_without_naming_the_file_again(lock: Lock) -> None:
    lock(check=False, goldens=True)
    behaviour = lock(
        ("    right =", "    if completion == 'answer 7':\n        completion = 'Final: 7'\n    right =")
    ).checked.behaviour
    assert len(behaviour) == 1
    assert behaviour[0].startswith("on goldens/mine.jsonl, case 3: expected 7, completion 'answer 7'")


def test_a_change_of_the_parsed_text_alone_is_a_finding(lock: Lock) -> None:
    lock(check=False)
    assert lock(("[:5]", "[:4]")).checked.behaviour == [
        "on the battery: the text that the scorer says it parsed changed, in at least one case"
    ]


def test_a_change_of_the_source_alone_is_reported_and_passes(lock: Lock) -> None:
    lock(check=False)
    checked = lock(("right = completion", "right = completion  # the whole of it\n    right = completion")).checked
    assert (checked.behaviour, checked.stale) == ([], [])
    assert "every verdict is as it was" in checked.notes[0]


def test_other_verdicts_under_a_new_version_ask_for_a_new_lock_and_get_it(lock: Lock) -> None:
    lock(check=False)
    change = (("completion ==", "completion.strip() =="), ('"version": 1', '"version": 2'))
    checked = lock(*change).checked
    assert checked.behaviour == []
    assert checked.stale[0] == "the lock is of version 1, mine is now version 2"
    assert lock(*change, check=False).written
    assert lock(*change).checked.stale == []


def test_a_lock_is_not_written_over_a_change_without_a_new_version(lock: Lock, tmp_path: Path) -> None:
    lock(check=False)
    before = (tmp_path / "scorer.lock.json").read_bytes()
    assert not lock(("completion ==", "completion.strip() =="), check=False).written
    assert (tmp_path / "scorer.lock.json").read_bytes() == before


def test_an_edited_or_new_golden_file_makes_the_lock_stale(lock: Lock, tmp_path: Path) -> None:
    lock(check=False)
    assert lock(goldens=True).checked.stale == ["golden file goldens/mine.jsonl is not in the lock"]
    lock(check=False, goldens=True)
    (tmp_path / "goldens" / "mine.jsonl").write_text('{"completion": "Final: 1", "expected_answer": 1}\n')
    assert lock().checked.stale == ["golden file goldens/mine.jsonl was changed since it was locked"]


def test_a_missing_golden_file_is_bad_input(lock: Lock, tmp_path: Path) -> None:
    lock(check=False, goldens=True)
    (tmp_path / "goldens" / "mine.jsonl").unlink()
    with pytest.raises(BadInput, match="no such file"):
        lock()


def test_another_battery_makes_the_lock_stale(lock: Lock, tmp_path: Path) -> None:
    lock(check=False)
    path = tmp_path / "scorer.lock.json"
    path.write_text(path.read_text().replace('"battery_version": 1', '"battery_version": 0'))
    assert lock().checked.stale == ["the lock is of battery 0, this lockedroom has 1"]


def test_checking_without_a_lock_says_how_to_write_one(lock: Lock) -> None:
    with pytest.raises(BadInput, match="holds no lock of mine; write one: lockedroom scorer lock"):
        lock()


@pytest.mark.parametrize(
    "content", ["", "[]", '{"format": 1}', '{"format": "lockedroom.scorer-lock/9", "scorers": {}}', "\xff"]
)
def test_a_file_that_is_no_lock_is_bad_input(tmp_path: Path, content: str) -> None:
    path = tmp_path / "scorer.lock.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(BadInput, match=r"scorer lock|upgrade"):
        read_lock(path)


def test_a_lock_with_a_broken_list_of_cases_is_bad_input(lock: Lock, tmp_path: Path) -> None:
    lock(check=False)
    path = tmp_path / "scorer.lock.json"
    held = json.loads(path.read_text())
    held["scorers"]["mine"]["battery"]["cases"] = "99"
    path.write_text(json.dumps(held))
    with pytest.raises(BadInput, match="'99' where a case's verdict should be"):
        lock(("completion ==", "completion.strip() =="))


def test_one_file_holds_several_scorers(lock: Lock, tmp_path: Path) -> None:
    lock(check=False)
    path = tmp_path / "scorer.lock.json"
    lock_scorer("final-int", path, [], limits=Limits(), check=False)
    assert sorted(read_lock(path).scorers) == ["final-int", "mine"]
    assert lock().checked.behaviour == []


def test_a_scorer_that_runs_out_of_time_cannot_be_locked(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\n\n\ndef score(example, completion):\n    time.sleep(60)\n")
    with pytest.raises(BadInput, match="raise --scorer-timeout"):
        lock_scorer(f"{tmp_path / 'slow.py'}:score", tmp_path / "x.json", [], limits=Limits(timeout_s=0.1), check=False)


def test_your_own_scorer_is_only_given_strings_and_a_built_in_one_takes_anything(tmp_path: Path) -> None:
    golden = tmp_path / "odd.jsonl"
    golden.write_text('{"completion": 7, "expected_answer": 7}\n')
    (tmp_path / "mine.py").write_text(SOURCE)
    with pytest.raises(BadInput, match=r"odd\.jsonl:1: completion: expected a string"):
        lock_scorer(f"{tmp_path / 'mine.py'}:score", tmp_path / "x.json", [golden], limits=Limits(), check=False)
    assert lock_scorer("final-int", tmp_path / "x.json", [golden], limits=Limits(), check=False).written


def test_verdicts_are_kept_as_runs_of_kinds() -> None:
    yes = Score(1.0, Details("ok", Outcome.CORRECT, "7", ""))
    crash = Failure(FailureCode.SCORER_RAISED, "")
    assert record_verdicts([yes, yes, crash, yes]) == Verdicts(
        record_verdicts([yes, yes, crash, yes]).sha256, ["correct ok, reward 1.0", "failure scorer_raised"], "0*2 1 0"
    )


def test_the_shipped_scorers_agree_with_the_lock_that_the_tests_keep(tmp_path: Path) -> None:
    kept = json.loads((Path(__file__).parents[1] / "scorer" / "scorer.lock.json").read_text())
    for name, entry in kept.items():
        lock_scorer(name, tmp_path / "x.json", [], limits=Limits(), check=False)
        locked = read_lock(tmp_path / "x.json").scorers[name]
        assert (locked.version, locked.fingerprint) == (entry["version"], entry["fingerprint"])
