"""Saved completions judged by another scorer: a new run, nothing else changed, and the change taken apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from comparing import RIGHT, SHAPELESS, WRONG, make_run

from lockedroom.errors import BadInput, NotComparable, Tampered
from lockedroom.jsonl import read_batches
from lockedroom.loops.instrument.rescore import RescoreConfig, rescore_all
from lockedroom.records import FailureCode, Record, Score
from lockedroom.results.compare import CompareOptions, compare
from lockedroom.results.comparison.instrument import render_split, split_change
from lockedroom.results.verify import verify
from lockedroom.safeguards.manifest import read_manifest

# Accepts the right number with a trailing blank, which final-int does not; crashes on "crash".
LENIENT = """
SPEC = {"name": "lenient", "version": 3, "codes": [
    {"name": "yes", "outcome": "correct", "meaning": "right"}, {"name": "no", "outcome": "wrong", "meaning": "not"}]}


def accepts(expected_answer):
    return expected_answer != 8


def score(example, completion):
    if completion == "crash":
        raise ValueError(completion)
    right = completion.strip() == f"Final: {example.expected_answer}"
    return {"reward": float(right), "details": {"code": "yes" if right else "no"}}
"""


@pytest.fixture
def lenient(tmp_path: Path) -> str:
    (tmp_path / "lenient.py").write_text(LENIENT)
    return f"{tmp_path / 'lenient.py'}:score"


def rescored(run: Path, scorer: str, out: Path) -> Path:
    return rescore_all([run], [out], RescoreConfig(scorer=scorer))[0].path


def records(run: Path) -> list[Record]:
    return [row for batch in read_batches(run / "records.jsonl", Record) for row in batch.rows]


def test_only_the_verdicts_change(tmp_path: Path, lenient: str) -> None:
    run = make_run(tmp_path, "a", [RIGHT, RIGHT + " ", WRONG])
    again = rescored(run, lenient, tmp_path / "again")
    before, after = records(run), records(again)
    assert [record.completion for record in before] == [record.completion for record in after]
    rewards = [record.result.reward for record in after if isinstance(record.result, Score)]
    assert rewards == [1.0, 1.0, 0.0]
    old, new = read_manifest(run), read_manifest(again)
    assert (new.room.dataset, new.room.prompts, new.room.sampling) == (
        old.room.dataset,
        old.room.prompts,
        old.room.sampling,
    )
    assert (new.policy, new.selection, new.seed) == (old.policy, old.selection, old.seed)
    assert (new.room.scorer.name, new.room.scorer.version, new.kind) == ("lenient", 3, "rescore")


def test_a_rescored_run_verifies_and_names_its_origin(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", [RIGHT, SHAPELESS])
    again = rescored(run, "permissive", tmp_path / "again")
    third = rescored(again, "final-int", tmp_path / "third")
    assert verify(again).rescored == 2
    for later in (again, third):
        origin = read_manifest(later).inputs.rescored_from
        assert origin is not None
        assert origin.run_id == read_manifest(run).run_id


def test_rescoring_with_the_same_scorer_gives_the_same_records(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", [[RIGHT, SHAPELESS], [WRONG, ""]])
    again = rescored(run, "final-int", tmp_path / "again")
    assert (run / "records.jsonl").read_bytes() == (again / "records.jsonl").read_bytes()
    assert (run / "examples.jsonl").read_bytes() == (again / "examples.jsonl").read_bytes()


def test_what_was_never_drawn_stays_a_failure_and_what_crashed_the_scorer_is_judged(
    tmp_path: Path, lenient: str
) -> None:
    run = make_run(tmp_path, "a", [None, "crash", RIGHT], scorer=lenient)
    codes = [getattr(record.result, "code", None) for record in records(run)]
    assert codes == [FailureCode.MISSING_COMPLETION, FailureCode.SCORER_RAISED, None]
    after = records(rescored(run, "final-int", tmp_path / "again"))
    assert [getattr(record.result, "code", None) for record in after] == [FailureCode.MISSING_COMPLETION, None, None]


def test_a_scorer_that_cannot_judge_an_answer_is_refused_before_anything_is_written(
    tmp_path: Path, lenient: str
) -> None:
    dataset = tmp_path / "eight.jsonl"
    dataset.write_text('{"id":"ex-0000","prompt":"4+4?","expected_answer":8}\n')
    run = make_run(tmp_path, "a", [RIGHT], dataset=str(dataset))
    with pytest.raises(BadInput, match=r"examples.jsonl:1: id 'ex-0000': lenient cannot judge the expected answer '8'"):
        rescored(run, lenient, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_tampered_run_is_not_rescored(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", [RIGHT])
    (run / "records.jsonl").write_text("")
    with pytest.raises(Tampered):
        rescored(run, "permissive", tmp_path / "again")


def test_a_run_and_its_rescored_copy_are_one_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", [RIGHT])
    again = rescored(run, "final-int", tmp_path / "again")
    with pytest.raises(NotComparable, match="are one run"):
        compare([run, again], CompareOptions())


def test_rescored_runs_meet_in_one_room(tmp_path: Path, lenient: str) -> None:
    a = make_run(tmp_path, "a", [RIGHT, WRONG])
    b = make_run(tmp_path, "b", [RIGHT, RIGHT + " "], scorer=lenient)
    outs = [tmp_path / "a2", tmp_path / "b2"]
    rescore_all([a, b], outs, RescoreConfig(scorer="final-int"))
    assert compare(outs, CompareOptions()).against[0].numbers.difference == 0


def test_the_difference_is_split_exactly_into_model_and_instrument(tmp_path: Path, lenient: str) -> None:
    # final-int on A: 2 of 4. lenient on B: 4 of 4, of which final-int accepts 3.
    a = make_run(tmp_path, "a", [RIGHT, RIGHT, WRONG, WRONG])
    b = make_run(tmp_path, "b", [RIGHT, RIGHT, RIGHT, RIGHT + " "], scorer=lenient)
    outs = (tmp_path / "a2", tmp_path / "b2")
    rescore_all([a, b], outs, RescoreConfig(scorer="final-int"))
    split = split_change((a, b), outs, "pass", 5)
    assert (split.as_published, split.model_changed, split.instrument_changed) == (0.5, 0.25, 0.25)
    assert (split.instrument_on_a, split.instrument_on_b) == (0.0, 0.25)
    assert split.flips[0].flipped == 0
    assert split.flips[1].ids == {"correct → malformed": ["ex-0003"]}
    text = render_split(split, "pass")
    assert "| instrument changed                         |         +0.2500 |" in text
    assert "- correct → malformed: ex-0003" in text


def test_only_examples_judged_all_four_times_enter_the_split(tmp_path: Path, lenient: str) -> None:
    a = make_run(tmp_path, "a", [None, RIGHT, WRONG])
    b = make_run(tmp_path, "b", [RIGHT, "crash", RIGHT], scorer=lenient)
    outs = (tmp_path / "a2", tmp_path / "b2")
    rescore_all([a, b], outs, RescoreConfig(scorer="final-int"))
    assert split_change((a, b), outs, "pass", 5).examples == 1
