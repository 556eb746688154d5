from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockedroom.dataset.load import canonical_line, read_examples
from lockedroom.dataset.splits import check_disjoint
from lockedroom.errors import BadInput, CannotWrite, MissingExtra, NotComparable, Sealed, Tampered
from lockedroom.loops.evaluate import evaluate
from lockedroom.loops.evaluating.configuration import EvaluateConfig
from lockedroom.loops.look import Look, LookOptions, SealOptions, look, seal_dataset
from lockedroom.records import Example, Sampling
from lockedroom.safeguards.coarse import Answer
from lockedroom.safeguards.holdout import (
    in_holdout,
    open_key,
    read_answers,
    read_header,
    read_prompts,
    read_status,
    seal,
)
from lockedroom.safeguards.manifest import read_manifest
from lockedroom.safeguards.sealing import decrypt, encrypt, make_key, read_key, write_durably
from lockedroom.testkit.small_run import write_rows

SECRET = 8_675_309


def examples(count: int) -> list[Example]:
    return [
        Example(id=f"e{i}", prompt=f"question {i}", expected_answer=SECRET + i, metadata={"hint": f"hidden-{i}"})
        for i in range(count)
    ]


class Lab:
    """A folder with a dataset of `count` examples and what it takes to seal and look."""

    def __init__(self, folder: Path, count: int = 40) -> None:
        self.folder, self.count = folder, count
        self.dataset = write_rows(folder / "data.jsonl", examples(count))
        self.sealed, self.key = folder / "sealed", folder / "keys" / "a.key"

    def seal(self, **options: Any) -> Any:
        return seal_dataset(self.dataset, self.sealed, self.key, SealOptions(**options), who="ann", reason="sealed")

    def completions(self, right: int, *, leave_out: int = 0) -> Path:
        rows = [
            {"id": f"e{i}", "completion": f"Final: {SECRET + i if i < right else 0}"}
            for i in range(self.count - leave_out)
        ]
        return write_rows(self.folder / f"completions-{right}.jsonl", rows)

    def look(self, right: int = 20, **options: Any) -> Look:
        if not {"completions", "policy"} & options.keys():
            options["completions"] = str(self.completions(right))
        return look(self.sealed, self.key, LookOptions(**options), who="ann", reason="to see")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


# --- sealing


def test_no_answer_stands_in_the_sealed_folder(lab: Lab) -> None:
    lab.seal()
    lab.look()
    content = b"".join(path.read_bytes() for path in lab.sealed.iterdir())
    assert not [i for i in range(lab.count) if str(SECRET + i).encode() in content]
    assert b"hidden" not in content
    assert b"question 7" in content


def test_only_the_key_opens_the_answers(lab: Lab) -> None:
    header = lab.seal()
    key = open_key(lab.sealed, lab.key, header)
    assert read_answers(lab.sealed, header, key) == examples(lab.count)
    assert stat.S_IMODE(lab.key.stat().st_mode) == 0o600
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in lab.key.parent.iterdir())


def test_the_key_does_not_show_itself(lab: Lab) -> None:
    key = make_key(lab.key)
    assert key.encrypting.hex() not in repr(key)
    assert repr(key) == f"Key({lab.key}, {key.id})"


def test_the_commitment_is_salted_so_that_small_answers_cannot_be_tried_out(lab: Lab) -> None:
    first = lab.seal()
    lab.sealed.rename(lab.folder / "first")
    second = lab.seal()
    assert first.commitment != second.commitment
    plain = hashlib.sha256(lab.dataset.read_bytes()).hexdigest()
    assert plain not in (lab.sealed / "sealed.json").read_text()


def test_answers_of_any_size_and_shape_survive(lab: Lab) -> None:
    rows = [
        {"id": "big", "prompt": "a", "expected_answer": "9" * 6000},
        {"id": "ünï", "prompt": "b\u2028c", "expected_answer": "-1", "metadata": {"x": [1e-5, None, {"é": True}]}},
    ]
    lab.dataset = write_rows(lab.folder / "odd.jsonl", rows)
    header = lab.seal()
    opened = read_answers(lab.sealed, header, read_key(lab.key))
    assert opened == [row for batch in read_examples(lab.dataset) for row in batch]


def test_a_fraction_is_chosen_by_content_and_the_rest_is_disjoint(lab: Lab) -> None:
    rest = lab.folder / "rest.jsonl"
    header = lab.seal(fraction=0.4, rest=rest)
    left = [row for batch in read_examples(rest) for row in batch]
    inside = read_answers(lab.sealed, header, read_key(lab.key))
    assert sorted(row.id for row in (*left, *inside)) == sorted(row.id for row in examples(lab.count))
    assert [row for row in examples(lab.count) if in_holdout(row, 0.4)] == inside
    check_disjoint([rest, write_rows(lab.folder / "inside.jsonl", inside)])


@given(st.integers(0, 999), st.integers(0, 999), st.integers(), st.floats(0.01, 0.99))
@settings(max_examples=50, deadline=None)
def test_a_question_stays_on_one_side_whatever_its_id_answer_or_order_of_operands(
    a: int, b: int, wrong: int, fraction: float
) -> None:
    one = Example(id="1", prompt=f"What is {a}+{b}?", expected_answer=a + b)
    other = Example(id="2", prompt=f"What is {b}+{a}?", expected_answer=wrong)
    assert in_holdout(one, fraction) == in_holdout(other, fraction)


def test_about_that_fraction_is_taken() -> None:
    taken = sum(in_holdout(example, 0.2) for example in examples(5000))
    assert 900 < taken < 1100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 0.5}, "--fraction and --rest go together"),
        ({"rest": Path("x.jsonl")}, "--fraction and --rest go together"),
        ({"fraction": 0.0, "rest": Path("x.jsonl")}, "--fraction 0.0: must lie between"),
        ({"fraction": float("nan"), "rest": Path("x.jsonl")}, "--fraction nan: must lie between"),
        ({"fraction": 1e-9, "rest": Path("x.jsonl")}, "leaves nothing on one side"),
        ({"fraction": 1 - 1e-9, "rest": Path("x.jsonl")}, "leaves nothing on one side"),
        ({"budget": 0}, "--budget 0"),
        ({"budget": 201}, "--budget 201"),
        ({"confidence": 1.0}, "--confidence 1.0"),
        ({"confidence": float("nan")}, "--confidence nan"),
        ({"step": 0.3}, "--step 0.3"),
        ({"step": 0.0}, "--step 0.0"),
        ({"step": -0.1}, "--step -0.1"),
        ({"step": float("nan")}, "--step nan"),
        ({"step": 1.0}, "--step 1.0"),
        ({"answers": "threshold"}, "needs --threshold"),
        ({"answers": "threshold", "threshold": 1.0}, "needs --threshold"),
        ({"answers": "threshold", "threshold": 0.5, "step": 0.1}, "needs --threshold"),
        ({"threshold": 0.5}, "--threshold goes with"),
        ({"scorer": "x"}, "unknown scorer"),
    ],
)
def test_terms_that_no_holdout_can_have_are_refused(lab: Lab, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=re.escape(message)):
        lab.seal(**options)
    assert not lab.sealed.exists()
    assert not lab.key.exists()


def test_answers_that_the_scorer_cannot_judge_are_not_sealed(lab: Lab) -> None:
    lab.dataset = write_rows(lab.folder / "d.jsonl", [{"id": "a", "prompt": "p", "expected_answer": "x"}])
    with pytest.raises(BadInput, match="final-int cannot judge"):
        lab.seal()


@pytest.mark.parametrize("where", ["sealed/a.key", "sealed/deep/a.key", "link/a.key"])
def test_a_key_inside_the_folder_is_refused(lab: Lab, where: str) -> None:
    (lab.folder / "link").symlink_to(lab.sealed)
    lab.key = lab.folder / where
    with pytest.raises(BadInput, match="the key lies inside the sealed folder"):
        lab.seal()
    assert not lab.sealed.exists()


def test_a_key_that_was_moved_inside_later_opens_nothing(lab: Lab) -> None:
    lab.seal()
    lab.key = Path(shutil.move(lab.key, lab.sealed / "a.key"))
    with pytest.raises(BadInput, match="the key lies inside"):
        lab.look()


def test_nothing_is_sealed_into_an_existing_folder_or_over_an_existing_rest(lab: Lab) -> None:
    lab.sealed.mkdir()
    with pytest.raises(CannotWrite, match="exists already"):
        lab.seal()
    lab.sealed.rmdir()
    with pytest.raises(BadInput, match="exists already"):
        lab.seal(fraction=0.5, rest=lab.dataset)


def test_one_key_may_serve_several_holdouts(lab: Lab) -> None:
    lab.seal(budget=1)
    lab.look()
    lab.sealed = lab.folder / "second"
    lab.seal(budget=1)
    assert lab.look().number == 1


# --- the key


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"lockedroom-key-1:", b"lockedroom-key-1:AAAA", b"A" * 44, b"lockedroom-key-1:*"]
)
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    write_durably(tmp_path / "k", content, mode=0o600)
    with pytest.raises(BadInput, match="not a key of lockedroom"):
        read_key(tmp_path / "k")


def test_a_key_that_others_can_read_is_refused(lab: Lab) -> None:
    lab.seal()
    lab.key.chmod(0o640)
    with pytest.raises(BadInput, match="chmod 600"):
        lab.look()


def test_a_missing_key_is_refused_not_made(lab: Lab) -> None:
    lab.seal()
    lab.key = lab.folder / "none.key"
    with pytest.raises(BadInput, match="no such file"):
        lab.look()
    assert not lab.key.exists()


def test_another_key_is_refused(lab: Lab) -> None:
    lab.seal()
    lab.key = make_key(lab.folder / "other.key").path
    with pytest.raises(BadInput, match="not the key of"):
        lab.look()


def test_a_new_key_never_replaces_a_file(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "precious", [])
    with pytest.raises(CannotWrite, match="File exists"):
        make_key(path)
    assert path.read_bytes() == b""


def test_without_cryptography_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cryptography.hazmat.primitives.hashes", "cryptography.hazmat.primitives.kdf.hkdf"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=re.escape("pip install 'lockedroom[holdout]'")):
        make_key(tmp_path / "k")


# --- a look


def test_a_look_answers_rounded_and_says_what_is_left(lab: Lab) -> None:
    lab.seal(budget=3, step=0.1)
    done = lab.look(right=21)
    said = done.entry.answer
    assert said == Answer("rounded", 0.5, None, 0.45, 0.55, 0)
    assert (done.number, done.left) == (1, 2)
    assert done.intervals.planned == done.intervals.adaptive  # nothing was seen before the first look


def test_the_exact_result_is_written_nowhere(lab: Lab) -> None:
    lab.seal(step=0.1)
    assert lab.look(right=21).entry.answer == lab.look(right=19).entry.answer
    lines = (lab.sealed / "ledger.jsonl").read_text()
    assert "0.525" not in lines
    assert "0.475" not in lines


def test_what_the_ledger_keeps_of_a_look(lab: Lab) -> None:
    header = lab.seal()
    entry = lab.look(declare=("sampling.temperature=0.8",)).entry
    path = lab.completions(20)
    assert entry.submitted is not None
    assert (entry.submitted.name, entry.submitted.run_id, entry.submitted.seed) == (str(path), None, None)
    assert entry.submitted.completions_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (entry.who, entry.reason, entry.event, entry.draws) == ("ann", "to see", "look", 1)
    assert entry.room["commitment"] == header.commitment
    assert entry.room["sampling"]["temperature"] == 0.8
    assert entry.room["prompts"] == {"template": "undeclared"}


def test_past_the_budget_nothing_is_answered(lab: Lab) -> None:
    lab.seal(budget=2)
    lab.look()
    lab.look()
    before = (lab.sealed / "ledger.jsonl").read_bytes()
    with pytest.raises(Sealed, match="all 2 looks are spent") as caught:
        lab.look()
    assert caught.value.exit_code == 5
    assert (lab.sealed / "ledger.jsonl").read_bytes() == before


def test_a_live_policy_is_not_asked_when_the_budget_is_spent(lab: Lab) -> None:
    lab.seal(budget=1)
    entry = lab.look(policy="scripted:Final: 8675310", draws=2, sampling=Sampling(seed=7)).entry
    assert entry.draws == 2
    assert entry.submitted is not None
    assert entry.submitted.seed == 7
    with pytest.raises(Sealed):
        lab.look(policy="no such policy")


@pytest.mark.parametrize("leave_out", [1, 39])
def test_a_part_of_the_completions_is_refused_and_costs_no_look(lab: Lab, leave_out: int) -> None:
    lab.seal(budget=1)
    with pytest.raises(BadInput, match=f"{leave_out} of 40 completions are missing .*no look was spent"):
        lab.look(completions=str(lab.completions(20, leave_out=leave_out)))
    assert lab.look().left == 0


def test_completions_of_others_may_stand_in_the_file(lab: Lab) -> None:
    lab.seal(fraction=0.5, rest=lab.folder / "rest.jsonl", step=0.5)
    assert lab.look(right=40).entry.answer == Answer("rounded", 1.0, None, 0.75, 1.0, 0)


def test_failures_count_as_not_passed_and_widen_the_answer(lab: Lab) -> None:
    lab.seal(step=0.1, scorer=str(_scorer(lab.folder, "if completion == 'Final: 0': raise ValueError")))
    said = lab.look(right=20).entry.answer
    assert said == Answer("rounded", 0.5, None, 0.45, 1.0, 20)


def _scorer(folder: Path, body: str) -> str:
    path = folder / "own.py"
    path.write_text(
        f"def score(example, completion):\n    {body}\n"
        "    right = completion == f'Final: {example.expected_answer}'\n"
        "    return {'reward': float(right), 'details': {}}\n"
    )
    return f"{path}:score"


def test_a_changed_scorer_may_not_look(lab: Lab) -> None:
    lab.seal(scorer=_scorer(lab.folder, "pass"))
    _scorer(lab.folder, "print(example.expected_answer)")
    with pytest.raises(NotComparable, match="look with the scorer it was sealed for"):
        lab.look()
    with pytest.raises(NotComparable, match="this is permissive version 1"):
        lab.look(scorer="permissive")


def test_a_scorer_that_only_moved_may_look(lab: Lab) -> None:
    name = _scorer(lab.folder, "pass")
    lab.seal(scorer=name)
    moved = lab.folder / "moved"
    moved.mkdir()
    shutil.move(lab.folder / "own.py", moved / "own.py")
    assert lab.look(scorer=f"{moved / 'own.py'}:score").number == 1


# --- looks at runs


def _run(lab: Lab, dataset: Path, right: int = 20, draws: int = 1) -> Path:
    out = lab.folder / "run"
    rows = [{"id": f"e{i}", "samples": [f"Final: {SECRET + i if i < right else 0}"] * draws} for i in range(lab.count)]
    config = EvaluateConfig(dataset=str(dataset), completions=str(write_rows(lab.folder / "c.jsonl", rows)))
    evaluate(config, out)
    return out


def test_a_run_is_pinned_by_its_manifest(lab: Lab) -> None:
    lab.seal()
    run = _run(lab, lab.dataset, draws=3)
    entry = lab.look(completions=str(run)).entry
    assert entry.submitted is not None
    assert entry.submitted.run_id == read_manifest(run).run_id
    assert entry.submitted.manifest_sha256 == hashlib.sha256((run / "manifest.json").read_bytes()).hexdigest()
    assert entry.draws == 3
    assert entry.answer is not None
    assert entry.answer.value == 0.5


def test_a_tampered_run_may_not_be_submitted(lab: Lab) -> None:
    lab.seal()
    run = _run(lab, lab.dataset)
    path = run / "records.jsonl"
    path.write_bytes(path.read_bytes().replace(b"Final: 0", b"Final: 1"))
    with pytest.raises(Tampered):
        lab.look(completions=str(run))


def test_a_run_on_other_prompts_may_not_be_submitted(lab: Lab) -> None:
    lab.seal(budget=1)
    rows = [msgspec.structs.replace(row, prompt=f"{row.prompt}, please") for row in examples(lab.count)]
    run = _run(lab, write_rows(lab.folder / "other.jsonl", rows))
    with pytest.raises(BadInput, match="drawn for another prompt"):
        lab.look(completions=str(run))
    assert lab.look().number == 1


# --- what was changed on the disk


def _edit_json(path: Path, **changes: Any) -> None:
    value = json.loads(path.read_text())
    for name, change in changes.items():
        (value["terms"] if name in value["terms"] else value)[name] = change
    path.write_text(json.dumps(value, indent=2))


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a larger budget": (lambda x: _edit_json(x / "sealed.json", budget=50), "changed after it was signed"),
    "finer answers": (
        lambda x: _edit_json(x / "sealed.json", answers={"kind": "rounded", "step": 0.001, "threshold": None}),
        "changed after it was signed",
    ),
    "another commitment": (lambda x: _edit_json(x / "sealed.json", commitment="0" * 64), "changed after it was signed"),
    "an unknown field": (lambda x: _edit_json(x / "sealed.json", unknown=1), "not a valid header"),
    "no JSON": (lambda x: (x / "sealed.json").write_text("{"), "not a valid header"),
    "another prompt": (
        lambda x: (
            (x / "prompts.sealed.jsonl").write_bytes(
                (x / "prompts.sealed.jsonl").read_bytes().replace(b"question 7", b"question 9")
            )
            and None
        ),
        "not the prompts that were sealed",
    ),
    "no prompts": (lambda x: (x / "prompts.sealed.jsonl").unlink(), "not the prompts that were sealed"),
    "no answers": (lambda x: (x / "answers.sealed").unlink(), "cannot be read"),
    "an empty file of answers": (lambda x: (x / "answers.sealed").write_bytes(b""), "not the bytes"),
    "answers cut short": (lambda x: os.truncate(x / "answers.sealed", 60), "not the bytes"),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_changed_folder_is_detected_and_costs_no_look(lab: Lab, how: str) -> None:
    lab.seal()
    copy = lab.folder / "copy"
    shutil.copytree(lab.sealed, copy)
    change, message = CHANGES[how]
    change(lab.sealed)
    with pytest.raises(Tampered, match=message):
        lab.look()
    shutil.rmtree(lab.sealed)
    copy.rename(lab.sealed)
    assert lab.look().number == 1


@pytest.mark.parametrize("place", [0, 30, 45, 200, -1])
def test_a_flipped_byte_in_the_answers_is_detected(lab: Lab, place: int) -> None:
    lab.seal()
    path = lab.sealed / "answers.sealed"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(Tampered, match="not the bytes that were sealed"):
        lab.look()


def test_other_answers_under_the_same_commitment_are_detected(lab: Lab) -> None:
    header = lab.seal()
    other = b'{"salt":"00"}\n' + canonical_line(examples(lab.count))
    bound_to = f"lockedroom.sealed/1 {header.seal} {header.commitment}".encode()
    (lab.sealed / "answers.sealed").write_bytes(encrypt(read_key(lab.key), other, bound_to))
    with pytest.raises(Tampered, match="not those of the commitment"):
        lab.look()


def test_a_stranger_who_is_given_salt_and_examples_can_check_the_commitment(lab: Lab) -> None:
    header = lab.seal()
    bound_to = f"lockedroom.sealed/1 {header.seal} {header.commitment}".encode()
    path = lab.sealed / "answers.sealed"
    salt, _, canonical = decrypt(read_key(lab.key), path.read_bytes(), bound_to, path).partition(b"\n")
    assert hashlib.sha256(bytes.fromhex(json.loads(salt)["salt"]) + canonical).hexdigest() == header.commitment


def test_what_would_not_open_to_the_same_examples_is_not_sealed(lab: Lab) -> None:
    terms = lab.seal().terms
    odd = [Example(id="a", prompt="p", expected_answer=1, metadata={"x": (1, 2)})]  # JSON has no tuples
    with pytest.raises(CannotWrite, match="does not open to the same examples"):
        seal(odd, lab.folder / "odd", lab.key, terms, who="ann", reason="odd")
    assert not (lab.folder / "odd").exists()


def test_answers_of_another_holdout_with_the_same_key_do_not_fit(lab: Lab) -> None:
    lab.seal()
    other = lab.folder / "first"
    lab.sealed.rename(other)
    lab.seal()
    shutil.copy(other / "answers.sealed", lab.sealed)
    with pytest.raises(Tampered, match="not the bytes that were sealed"):
        lab.look()


def test_a_header_and_ledger_of_two_holdouts_do_not_fit(lab: Lab) -> None:
    lab.seal(budget=1)
    other = lab.folder / "first"
    lab.sealed.rename(other)
    lab.seal(budget=9)
    shutil.copy(other / "ledger.jsonl", lab.sealed)
    with pytest.raises(Tampered):
        lab.look()
    with pytest.raises(Tampered, match="not the terms under which"):
        read_status(lab.sealed, None)


def test_a_copied_folder_gives_no_more_looks(lab: Lab) -> None:
    lab.seal(budget=1)
    shutil.copytree(lab.sealed, lab.folder / "copy")
    lab.look()
    lab.sealed = lab.folder / "copy"
    with pytest.raises(Tampered, match="1 entry is missing from the end"):
        lab.look()


def test_a_newer_format_is_not_read(lab: Lab) -> None:
    lab.seal()
    _edit_json(lab.sealed / "sealed.json", format="lockedroom.sealed/2")
    with pytest.raises(BadInput, match="upgrade lockedroom"):
        read_header(lab.sealed)


def test_what_is_no_sealed_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a sealed holdout"):
        read_header(tmp_path)


def test_without_the_key_status_checks_the_chain_alone(lab: Lab) -> None:
    lab.seal()
    lab.look()
    path = lab.sealed / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0])
    assert len(read_status(lab.sealed, None)[1]) == 1
    with pytest.raises(Tampered, match="missing from the end"):
        read_status(lab.sealed, lab.key)
    path.write_bytes(lines[0] + lines[1][:-1])
    with pytest.raises(Tampered, match="cut short"):
        read_status(lab.sealed, None)


# --- other ways in


@pytest.mark.parametrize("name", ["", "prompts.sealed.jsonl", "answers.sealed"])
def test_nothing_else_reads_a_sealed_holdout(lab: Lab, name: str) -> None:
    lab.seal()
    with pytest.raises(Sealed, match="lockedroom holdout open"):
        list(read_examples(lab.sealed / name))


def test_sealed_prompts_are_known_by_their_content_too(lab: Lab) -> None:
    lab.seal()
    renamed = shutil.copy(lab.sealed / "prompts.sealed.jsonl", lab.folder / "train.jsonl")
    with pytest.raises(Sealed, match="holdout open FOLDER"):
        evaluate(EvaluateConfig(dataset=str(renamed), policy="scripted:x"), lab.folder / "run")
    assert not (lab.folder / "run").exists()


def test_a_sealed_holdout_is_no_run(lab: Lab) -> None:
    lab.seal()
    with pytest.raises(Sealed):
        read_manifest(lab.sealed)


def test_the_prompts_hold_no_answers(lab: Lab) -> None:
    prompts = read_prompts(lab.sealed, lab.seal())
    assert [msgspec.structs.asdict(row).keys() for row in prompts] == [{"sealed", "id", "prompt"}] * lab.count
