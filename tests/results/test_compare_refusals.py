"""What may not be compared: each refusal names what differs and what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from comparing import DECLARED, RIGHT, WRONG, make_run, reseal

from lockedroom.errors import BadInput, LockedroomError, NotComparable, Tampered
from lockedroom.results.compare import CompareOptions, compare, compare_anyway
from lockedroom.results.comparison.rendering import render_anyway, render_certificate
from lockedroom.safeguards.manifest import read_manifest


def refusal(*runs: Path, kind: type[LockedroomError] = NotComparable, **options: tuple[str, ...]) -> str:
    with pytest.raises(kind) as caught:
        compare(runs, CompareOptions(**options))  # type: ignore[arg-type]  # the options given here are all tuples
    assert type(caught.value) is kind
    return str(caught.value)


def without(*fields: str) -> tuple[str, ...]:
    return tuple(line for line in DECLARED if line.partition("=")[0] not in fields)


def changed(**values: str) -> tuple[str, ...]:
    named = {f"sampling.{key}": value for key, value in values.items()}
    return (*without(*named), *(f"{key}={value}" for key, value in named.items()))


def test_every_differing_field_is_named_with_both_values_and_what_to_do(tmp_path: Path) -> None:
    a = make_run(tmp_path, "a", [RIGHT])
    b = make_run(tmp_path, "b", [RIGHT], declare=changed(temperature="0.0", max_tokens="32"), scorer="permissive")
    message = refusal(a, b)
    assert message.startswith(f"not comparable: {a} (A) and {b} (B) are not in one room; 5 fields are not known")
    for line in (
        "sampling.temperature: 0.8 in A, 0.0 in B",
        "sampling.max_tokens: 16 in A, 32 in B",
        "scorer.name: final-int in A, permissive in B",
        f"lockedroom compare --rescore SCORER {a} {b}",
        "draw those of one run again with the other's settings",
        "--not-comparable",
    ):
        assert line in message


def test_undeclared_equals_nothing_not_even_undeclared(tmp_path: Path) -> None:
    declare = without("sampling.top_k")
    a, b = (make_run(tmp_path, name, [RIGHT], declare=declare) for name in "ab")
    message = refusal(a, b)
    assert "sampling.top_k: undeclared in A, undeclared in B" in message
    assert "--assume-equal sampling.top_k" in message


@pytest.mark.parametrize("stated", ["sampling", "sampling.top_k"])
def test_what_a_person_states_is_assumed_and_stands_in_the_certificate(tmp_path: Path, stated: str) -> None:
    a = make_run(tmp_path, "a", [RIGHT], declare=without("sampling.top_k"))
    b = make_run(tmp_path, "b", [RIGHT])
    text = render_certificate(compare([a, b], CompareOptions(assume_equal=(stated,))))
    assert (
        "A person states, and nothing here shows, that sampling.top_k is the same in A and B (undeclared in A, 0 in B)"
        in text
    )
    assert "| sampling.top_k       | stated, not known: see below |" in text


def test_two_declared_values_that_differ_cannot_be_assumed_equal(tmp_path: Path) -> None:
    a, b = make_run(tmp_path, "a", [RIGHT]), make_run(tmp_path, "b", [RIGHT], declare=changed(temperature="1.0"))
    for stated in ("sampling", "sampling.temperature"):
        assert "it cannot be assumed equal" in refusal(a, b, assume_equal=(stated,))


def test_an_unknown_field_cannot_be_assumed(tmp_path: Path) -> None:
    a, b = (make_run(tmp_path, name, [RIGHT]) for name in "ab")
    assert "sampling.temperature" in refusal(a, b, kind=BadInput, assume_equal=("sampling.heat",))


def test_a_field_that_only_one_run_declares_is_undeclared_in_the_other(tmp_path: Path) -> None:
    a = make_run(tmp_path, "a", [RIGHT], declare=(*DECLARED, "prompts.few_shot_seed=3"))
    b = make_run(tmp_path, "b", [RIGHT])
    assert "prompts.few_shot_seed: 3 in A, undeclared in B" in refusal(a, b)


def test_a_room_with_missing_sections_is_refused_not_taken_for_equal(tmp_path: Path) -> None:
    a, b = (make_run(tmp_path, name, [RIGHT], declare=()) for name in "ab")
    message = refusal(a, b)
    assert message.count("undeclared in A, undeclared in B") == 7


def test_unavailable_hashes_equal_nothing(tmp_path: Path) -> None:
    scorer = tmp_path / "own.py"
    scorer.write_text("def score(example, completion):\n    return {'reward': 1, 'details': {}}\n")
    runs = [make_run(tmp_path, name, [RIGHT], scorer=f"{scorer}:score") for name in "ab"]
    for run in runs:
        room = read_manifest(run).room
        reseal(run, room=type(room)(room.dataset, room.prompts,
                                    type(room.scorer)(room.scorer.name, 0, room.scorer.source_sha256, "unavailable"),
                                    room.sampling))  # fmt: skip
    assert "scorer.fingerprint: unavailable in A, unavailable in B" in refusal(*runs)
    assert compare(runs, CompareOptions(assume_equal=("scorer",))).against[0].assumed[0].field == "scorer.fingerprint"


def test_numbers_are_equal_as_numbers_and_truth_is_no_number(tmp_path: Path) -> None:
    a = make_run(tmp_path, "a", [RIGHT], declare=(*changed(temperature="1"), 'sampling.x={a=[1, "t"], b=true}'))
    b = make_run(tmp_path, "b", [RIGHT], declare=(*changed(temperature="1.0"), 'sampling.x={b=true, a=[1.0, "t"]}'))
    c = make_run(
        tmp_path, "c", [RIGHT], declare=(*changed(temperature="true"), 'sampling.x={a=["undeclared"], b=true}')
    )
    compare([a, b], CompareOptions())
    message = refusal(a, c)
    assert "sampling.temperature: 1 in A, true in B" in message
    assert 'sampling.x: {"a": [1, "t"], "b": true} in A, {"a": ["undeclared"], "b": true} in B' in message


def test_hostile_declarations_cannot_reach_the_terminal(tmp_path: Path) -> None:
    a = make_run(tmp_path, "a", [RIGHT])
    b = make_run(tmp_path, "b", [RIGHT], declare=(*DECLARED, "sampling.\x1b[2J=\x1b[31m"))
    message = refusal(a, b)
    assert "\x1b" not in message
    assert "␛[2J" in message


def test_partially_overlapping_examples_are_refused_with_a_count_of_what_is_shared(tmp_path: Path) -> None:
    a = make_run(tmp_path, "a", [RIGHT] * 3)
    other = tmp_path / "other" / "seven.jsonl"
    other.parent.mkdir()
    rows = [("ex-0001", "3+4?"), ("ex-0002", "what is 3+4?"), ("new", "3+4?")]
    other.write_text("".join(json.dumps({"id": i, "prompt": p, "expected_answer": 7}) + "\n" for i, p in rows))
    b = make_run(tmp_path, "b", [RIGHT] * 3, dataset=str(other))
    message = refusal(a, b, assume_equal=("dataset",))
    assert "A has 3 examples, B 3; 2 ids are in both, 1 of them with the same content" in message
    assert "only in A: 'ex-0000', …; only in B: 'new', …" in message


def test_the_same_examples_in_another_order_are_said_to_be_so(tmp_path: Path) -> None:
    a = make_run(tmp_path, "a", [RIGHT] * 2)
    (tmp_path / "r").mkdir()
    lines = (tmp_path / "seven.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "r" / "seven.jsonl").write_text("".join(reversed(lines)))
    b = make_run(tmp_path, "b", [RIGHT] * 2, dataset=str(tmp_path / "r" / "seven.jsonl"))
    assert "they stand in another order" in refusal(a, b)


def test_another_name_for_the_split_is_another_room(tmp_path: Path) -> None:
    a, b = make_run(tmp_path, "a", [RIGHT]), make_run(tmp_path, "b", [RIGHT], split="dev")
    message = refusal(a, b)
    assert "dataset.split: seven in A, dev in B" in message
    assert "--split" in message


def test_a_run_is_not_compared_with_itself_or_its_copy(tmp_path: Path) -> None:
    a = make_run(tmp_path, "a", [RIGHT])
    copy = tmp_path / "renamed"
    shutil.copytree(a, copy)
    for other in (a, copy):
        assert "are one run" in refusal(a, other)


def test_one_run_is_nothing_to_compare(tmp_path: Path) -> None:
    assert "at least two runs" in refusal(make_run(tmp_path, "a", [RIGHT]), kind=BadInput)


def test_an_unfinished_run_is_bad_input(tmp_path: Path) -> None:
    a, b = (make_run(tmp_path, name, [RIGHT]) for name in "ab")
    (b / "manifest.json").unlink()
    assert "not a finished run" in refusal(a, b, kind=BadInput)


def test_a_run_of_a_newer_format_is_bad_input(tmp_path: Path) -> None:
    a, b = (make_run(tmp_path, name, [RIGHT]) for name in "ab")
    reseal(b, format="lockedroom.run/9")
    assert "upgrade lockedroom" in refusal(a, b, kind=BadInput)


def _flip_a_byte(run: Path) -> None:
    path = run / "records.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"reward":1.0', b'"reward":0.0', 1))


def _drop_a_line(run: Path) -> None:
    path = run / "records.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))


def _raise_a_number(run: Path) -> None:
    path = run / "summary.json"
    path.write_text(path.read_text().replace('"value": 0.5', '"value": 0.9', 1))


def _claim_another_policy(run: Path) -> None:
    path = run / "manifest.json"
    path.write_text(path.read_text().replace('"model": "b"', '"model": "z"'))


def _claim_another_answer(run: Path) -> None:
    path = run / "examples.jsonl"
    path.write_text(path.read_text().replace('"expected_answer":7', '"expected_answer":8', 1))


def _forget_the_sums(run: Path) -> None:
    (run / "SHA256SUMS").unlink()


def _reseal_a_summary(run: Path) -> None:
    _raise_a_number(run)
    from lockedroom.safeguards.manifest import measure_file

    files = {**read_manifest(run).files, "summary.json": measure_file(run / "summary.json")}
    reseal(run, files=files)


@pytest.mark.parametrize(
    "tamper",
    [_flip_a_byte, _drop_a_line, _raise_a_number, _claim_another_policy, _claim_another_answer, _forget_the_sums,
     _reseal_a_summary],
)  # fmt: skip
@pytest.mark.parametrize("position", [0, 1])
def test_a_tampered_run_is_never_compared(tmp_path: Path, tamper: Callable[[Path], None], position: int) -> None:
    a, b = make_run(tmp_path, "a", [RIGHT, WRONG]), make_run(tmp_path, "b", [RIGHT, WRONG])
    tamper(b)
    runs = [a, b] if position else [b, a]
    assert "does not verify" in refusal(*runs, kind=Tampered)
    with pytest.raises(Tampered):
        compare_anyway(runs)


def test_runs_that_are_not_comparable_are_shown_stamped_and_without_a_verdict(tmp_path: Path) -> None:
    a, b = make_run(tmp_path, "a", [RIGHT, WRONG]), make_run(tmp_path, "b", [RIGHT, RIGHT], scorer="permissive")
    text = render_anyway(compare_anyway([a, b]))
    assert text.startswith("# NOT COMPARABLE\n")
    assert text.endswith("NOT COMPARABLE\n")
    assert "0.5000" in text
    assert "- scorer.name: final-int in A, permissive in B" in text
    assert not any(word in text for word in ("BETTER", "WORSE", "EQUIVALENT", "INCONCLUSIVE"))


def test_comparable_runs_shown_without_a_verdict_are_said_to_be_comparable(tmp_path: Path) -> None:
    a, b = (make_run(tmp_path, name, [RIGHT]) for name in "ab")
    assert "leave out --not-comparable to compare them" in render_anyway(compare_anyway([a, b]))


def test_options_that_no_comparison_can_have_are_bad_input(tmp_path: Path) -> None:
    a, b = (make_run(tmp_path, name, [RIGHT]) for name in "ab")
    for options in (CompareOptions(metric="f1"), CompareOptions(confidence=0.5), CompareOptions(margin=0.0),
                    CompareOptions(margin=float("nan"))):  # fmt: skip
        with pytest.raises(BadInput):
            compare([a, b], options)
