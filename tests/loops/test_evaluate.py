"""Loop A: what it measures, what it refuses, and that the records depend on the inputs alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lockedroom.errors import BadInput
from lockedroom.jsonl import read_batches
from lockedroom.loops.attempt import attempt
from lockedroom.loops.evaluate import Evaluated, evaluate
from lockedroom.loops.evaluating.configuration import EvaluateConfig, check_config, read_config
from lockedroom.loops.opening.named import identify, open_scorer
from lockedroom.policy.scripted import ScriptedPolicy
from lockedroom.records import Completion, Details, Example, Failure, FailureCode, Outcome, Record, Sampling, Score
from lockedroom.results.verify import verify
from lockedroom.scorer.builtin import find_builtin
from lockedroom.testkit.small_run import (
    additions,
    lockedroom,
    write_additions,
    write_answers,
    write_rows,
    write_samples,
)

COUNT = 40


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    write_additions(tmp_path, COUNT)
    write_answers(tmp_path, COUNT)
    write_samples(tmp_path, COUNT, 3)
    return tmp_path


def _config(folder: Path, **more: Any) -> EvaluateConfig:
    given = {"dataset": str(folder / "sums.jsonl"), **more}
    if "policy" not in given:
        given.setdefault("completions", str(folder / "answers.jsonl"))
    return msgspec.convert(given, EvaluateConfig)


def _run(folder: Path, name: str = "run", workers: int = 1, **more: Any) -> Evaluated:
    return evaluate(_config(folder, **more), folder / name, workers=workers)


def _records(run: Path) -> list[Record]:
    return [record for batch in read_batches(run / "records.jsonl", Record) for record in batch.rows]


def _scorer(folder: Path, body: str, name: str = "mine.py") -> str:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    (folder / name).write_text(f"import os, sys, time\ndef score(example, completion):\n{lines}")
    return f"{folder / name}:score"


# --- what it measures -------------------------------------------------------------------------------------------------


def test_every_attempt_becomes_one_record_in_order(inputs: Path) -> None:
    done = _run(inputs, completions=str(inputs / "samples.jsonl"))
    found = [(record.id, record.draw) for record in _records(done.path)]
    assert found == [(f"e{i}", draw) for i in range(COUNT) for draw in range(3)]
    assert done.summary.attempts == 3 * COUNT


def test_the_rewards_are_those_of_the_scorer(inputs: Path) -> None:
    scorer = find_builtin("final-int")
    assert scorer is not None
    for record, example in zip(_records(_run(inputs).path), additions(COUNT), strict=True):
        assert record.completion is not None
        assert record.result == scorer.score(example, record.completion.text)


def test_a_scripted_policy_is_measured_live(inputs: Path) -> None:
    done = _run(inputs, policy="scripted:Final: 7", draws=2)
    rate = done.summary.pass_rate
    assert rate is not None
    assert rate.value == 1 / COUNT
    assert done.manifest.inputs.completions is None


def test_missing_completions_are_failures_and_extra_ones_are_counted(inputs: Path) -> None:
    rows = [{"id": f"e{i}", "completion": "Final: 1"} for i in range(30)] + [{"id": "zz", "completion": "x"}]
    done = _run(inputs, completions=str(write_rows(inputs / "part.jsonl", rows)))
    assert (done.summary.scored, done.summary.failed) == (30, 10)
    assert done.manifest.inputs.missing_completions == 10
    assert done.manifest.inputs.missing_first == ("e30", "e31", "e32")
    assert (done.manifest.inputs.extra_ids, done.manifest.inputs.extra_first) == (1, ("zz",))
    verify(done.path)


def test_a_limit_takes_the_first_examples(inputs: Path) -> None:
    done = _run(inputs, limit=7)
    assert [record.id for record in _records(done.path)] == [f"e{i}" for i in range(7)]
    assert done.manifest.inputs.extra_ids == 0


def test_fewer_draws_than_recorded_are_the_first_ones(inputs: Path) -> None:
    all_three = _records(_run(inputs, completions=str(inputs / "samples.jsonl")).path)
    first_two = _records(_run(inputs, "two", completions=str(inputs / "samples.jsonl"), draws=2).path)
    assert first_two == [record for record in all_three if record.draw < 2]


def test_the_completions_of_a_run_can_be_judged_again(inputs: Path) -> None:
    first = _run(inputs, completions=str(inputs / "samples.jsonl"))
    again = _run(inputs, "again", completions=str(first.path), workers=2)
    assert (again.path / "records.jsonl").read_bytes() == (first.path / "records.jsonl").read_bytes()


def test_an_answer_of_a_million_digits_is_judged(tmp_path: Path) -> None:
    digits = "7" * 1_000_000
    (tmp_path / "sums.jsonl").write_text(f'{{"id":"a","prompt":"","expected_answer":{digits}}}\n')
    write_rows(tmp_path / "answers.jsonl", [{"id": "a", "completion": f"Final: {digits}"}])
    done = _run(tmp_path)
    assert done.summary.pass_rate is not None
    assert done.summary.pass_rate.value == 1.0
    verify(done.path)


HOSTILE = {"escapes": "\x1b[31m\x1b]0;owned\x07", "script": "<script>alert(1)</script>", "nul": "a\0b",
           "surrogates": "\ud800x\udfff", "bidi": "\u202egnp.exe", "long": "long " * 2_000_000}  # fmt: skip


def test_hostile_completions_are_recorded_as_they_are_and_verify(tmp_path: Path) -> None:
    write_rows(tmp_path / "sums.jsonl", [Example(id=name, prompt="?", expected_answer=1) for name in HOSTILE])
    write_rows(tmp_path / "answers.jsonl", [{"id": name, "completion": text} for name, text in HOSTILE.items()])
    run = _run(tmp_path).path
    texts = {record.id: record.completion.text for record in _records(run) if record.completion is not None}
    assert texts == HOSTILE
    verify(run)


# --- the records depend on the inputs alone ---------------------------------------------------------------------------


def test_two_runs_have_the_same_records(inputs: Path) -> None:
    one, two = _run(inputs, "one"), _run(inputs, "two")
    for name in ("records.jsonl", "examples.jsonl", "summary.json", "summary.md", "config.toml"):
        assert (one.path / name).read_bytes() == (two.path / name).read_bytes()


@pytest.mark.parametrize("shape", ["answers", "samples", "shuffled", "run", "ragged run"])
def test_the_number_of_workers_changes_nothing(inputs: Path, shape: str) -> None:
    completions = inputs / "answers.jsonl"
    if shape == "samples":
        completions = inputs / "samples.jsonl"
    elif shape == "shuffled":
        lines = completions.read_bytes().splitlines(keepends=True)
        completions = inputs / "shuffled.jsonl"
        completions.write_bytes(b"".join(lines[::2] + lines[1::2]))
    elif "run" in shape:
        completions = _run(inputs, "source", completions=str(inputs / "samples.jsonl")).path
    if shape == "ragged run":
        lines = (completions / "records.jsonl").read_bytes().splitlines(keepends=True)
        completions = inputs / "ragged.jsonl"
        completions.write_bytes(b"".join(line for i, line in enumerate(lines) if i not in (0, 1, 2, 7, 50, 51)))
    runs = [_run(inputs, f"w{n}", n, completions=str(completions)).path for n in (1, 2, 3)]
    for name in ("records.jsonl", "examples.jsonl", "summary.json", "summary.md"):
        assert len({(run / name).read_bytes() for run in runs}) == 1


def test_the_hash_seed_and_the_locale_change_nothing(inputs: Path) -> None:
    found = set()
    shuffled = (inputs / "answers.jsonl").read_bytes().splitlines(keepends=True)[::-1]
    (inputs / "answers.jsonl").write_bytes(b"".join(shuffled))
    for i, env in enumerate(
        ({"PYTHONHASHSEED": "0"}, {"PYTHONHASHSEED": "1", "LC_ALL": "C"}, {"PYTHONUTF8": "0", "LC_ALL": "POSIX"})
    ):
        out = inputs / f"run{i}"
        done = lockedroom(
            "evaluate", "--dataset", "sums.jsonl", "--completions", "answers.jsonl", "--out", out, cwd=inputs, env=env
        )
        assert done.returncode == 0, done.stderr
        found.add(b"".join((out / name).read_bytes() for name in ("records.jsonl", "summary.json", "summary.md")))
    assert len(found) == 1


# --- what it refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"dataset": "absent.jsonl"}, "absent.jsonl: no such file"),
        ({"dataset": "."}, "this is a folder, but not one that datasets.save_to_disk wrote"),
        ({"dataset": "folder.jsonl"}, "this is a folder"),
        ({"dataset": "empty.jsonl"}, "holds no examples"),
        ({"dataset": "broken.jsonl"}, "broken.jsonl:2: "),
        ({"completions": "absent.jsonl"}, "absent.jsonl: no such file"),
        ({"completions": "folder.jsonl"}, "records.jsonl: no such file"),
        ({"completions": "empty.jsonl"}, "the file is empty"),
        ({"completions": "sums.jsonl"}, "not a completions file"),
        ({"completions": "others.jsonl"}, "completions for another dataset"),
        ({"completions": None}, "either --completions FILE or --policy NAME"),
        ({"policy": "scripted:x", "completions": "answers.jsonl"}, "either --completions FILE or --policy NAME"),
        ({"policy": "gpt-17"}, "unknown policy"),
        ({"scorer": "exact-match"}, "unknown scorer"),
        ({"scorer": "absent.py:score"}, "absent.py"),
        ({"draws": 0}, "--draws 0: must be at least 1"),
        ({"draws": 9}, "--draws 9: answers.jsonl records 1 an example"),
        ({"limit": 0}, "--limit 0: must be at least 1"),
        ({"limit": 41}, "--limit 41: sums.jsonl holds only 40 examples"),
        ({"confidence": 1.0}, "--confidence 1.0"),
        ({"confidence": float("nan")}, "--confidence nan"),
        ({"scorer_timeout": float("nan")}, "--scorer-timeout"),
        ({"scorer_memory": 0}, "--scorer-memory"),
        ({"scorer_sha256": "0" * 64}, "not the scorer that this configuration pins"),
        ({"declare": ("temperature=1",)}, "SECTION.KEY=VALUE"),
    ],
)  # fmt: skip
def test_bad_input_has_one_message_and_leaves_nothing_behind(
    inputs: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(inputs)
    (inputs / "folder.jsonl").mkdir()
    (inputs / "empty.jsonl").write_bytes(b"")
    (inputs / "broken.jsonl").write_text('{"id":"a","prompt":"","expected_answer":1}\n{"id":\n')
    write_rows(inputs / "others.jsonl", [{"id": f"x{i}", "completion": "y"} for i in range(50)])
    given: dict[str, Any] = {
        "dataset": "sums.jsonl",
        "completions": None if "policy" in more else "answers.jsonl",
        **more,
    }
    with pytest.raises(BadInput) as caught:
        evaluate(EvaluateConfig(**given), Path("run"))
    assert message in str(caught.value)
    assert not Path("run").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_dataset_that_turns_bad_late_leaves_nothing_behind(inputs: Path, workers: int) -> None:
    with (inputs / "sums.jsonl").open("a") as file:
        file.write('{"id":"e3","prompt":"","expected_answer":1}\n')
    with pytest.raises(BadInput, match=r"sums\.jsonl:41: id: .e3. appears twice"):
        _run(inputs, workers=workers)
    assert not (inputs / "run").exists()


def test_a_costly_run_reads_the_whole_dataset_before_it_spends_anything(inputs: Path) -> None:
    scorer = _scorer(inputs, f"open({str(inputs / 'asked')!r}, 'a').write(example.id + ' ')\nreturn {{'reward': 1.0}}")
    with (inputs / "sums.jsonl").open("a") as file:
        file.write("not JSON\n")
    with pytest.raises(BadInput, match=r"sums\.jsonl:41"):
        _run(inputs, scorer=scorer)
    assert " e0 " not in (inputs / "asked").read_text()
    assert not (inputs / "run").exists()


def test_a_costly_run_refuses_a_limit_beyond_the_data_before_it_begins(inputs: Path) -> None:
    with pytest.raises(BadInput, match="holds only 40 examples"):
        _run(inputs, policy="scripted:x", limit=41)
    assert not (inputs / "run").exists()


def test_no_workers_at_all_is_refused(inputs: Path) -> None:
    with pytest.raises(BadInput, match="--workers 0"):
        check_config(_config(inputs), 0)


def test_an_existing_run_is_left_as_it_is(inputs: Path) -> None:
    run = _run(inputs).path
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(BadInput, match="a finished run is here already"):
        _run(inputs)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


@pytest.mark.parametrize(
    ("text", "message"),
    [('dataset = "d"\ncolour = 1\n', "colour: unknown field"), ("x = ", "not TOML"), ("", "--dataset is missing"),
     ("dataset = 1\n", "dataset: expected a string")],
)  # fmt: skip
def test_a_saved_configuration_that_cannot_be_used_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(BadInput, match=message):
        read_config({}, {}, file=None, resumed=tmp_path)


def test_a_policy_that_gives_too_few_results_is_not_padded() -> None:
    class Short(ScriptedPolicy):
        def complete(self, prompts: Any, draws: range, sampling: Sampling) -> Any:
            return iter([Completion("x")])

    scorer = find_builtin("final-int")
    assert scorer is not None
    with pytest.raises(BadInput, match="gave 1 result for 4 asked"):
        attempt(Short({}), scorer, additions(2), range(2), Sampling())


# --- a person's scorer ------------------------------------------------------------------------------------------------

_HOSTILE_SCORERS = {
    "hang": ("time.sleep(60)", FailureCode.SCORER_TIMEOUT),
    "sys.exit": ("sys.exit(0)", FailureCode.SCORER_RAISED),
    "os._exit": ("os._exit(0)", FailureCode.SCORER_DIED),
    "raise": ("raise ValueError(completion)", FailureCode.SCORER_RAISED),
    "allocate": ("return len(bytearray(8 << 30))", FailureCode.SCORER_MEMORY),
    "nonsense": ("return {'reward': 'high'}", FailureCode.SCORER_INVALID_RESULT),
    "nan": ("return {'reward': float('nan'), 'details': {}}", FailureCode.SCORER_INVALID_RESULT),
}


@pytest.mark.parametrize("kind", _HOSTILE_SCORERS)
def test_a_hostile_scorer_is_a_failure_on_its_record_and_the_run_goes_on(inputs: Path, kind: str) -> None:
    body, code = _HOSTILE_SCORERS[kind]
    scorer = _scorer(inputs, f"if example.id == 'e3':\n    {body}\nreturn {{'reward': 0.5, 'details': {{}}}}")
    done = _run(inputs, scorer=scorer, scorer_timeout=0.4)
    records = _records(done.path)
    failures = {record.id: record.result.code for record in records if isinstance(record.result, Failure)}
    assert failures == {"e3": code}
    three = done.summary.with_failures
    assert three is not None
    assert (three.mean_scored, three.mean_failures_as_zero) == (0.5, 0.5 * 39 / 40)
    verify(done.path)


def test_a_scorer_that_hangs_on_everything_does_not_hold_up_the_run_for_the_battery(inputs: Path) -> None:
    done = _run(inputs, scorer=_scorer(inputs, "time.sleep(60)"), scorer_timeout=0.05, limit=3)
    assert done.summary.failed == 3
    assert done.manifest.room.scorer.fingerprint == "unavailable"


def test_a_scorer_changed_while_it_judges_is_noticed(inputs: Path) -> None:
    body = f"if example.id == 'e20':\n    open({str(inputs / 'mine.py')!r}, 'a').write('#')\nreturn {{'reward': 1.0, 'details': {{}}}}"
    with pytest.raises(BadInput, match="changed while it judged"):
        _run(inputs, scorer=_scorer(inputs, body))


def test_a_scorer_written_in_python_that_raises_is_recorded_in_process_too() -> None:
    class Raising:
        spec = msgspec.structs.replace(_final_int_spec(), codes=())

        def accepts(self, expected_answer: Any) -> bool:
            return True

        def score(self, example: Example, completion: str) -> Score | Failure:
            if completion == "b":
                raise RuntimeError("\x1b[31mred")
            return Score(1.0, Details("fine", Outcome.CORRECT, None, ""))

    policy = ScriptedPolicy({"e0": ["a"], "e1": ["b"]})
    results = [record.result for record in attempt(policy, Raising(), additions(3), range(1), Sampling())]
    assert isinstance(results[0], Score)
    assert results[1] == Failure(FailureCode.SCORER_RAISED, "RuntimeError: ␛[31mred")
    assert isinstance(results[2], Failure)
    assert results[2].code is FailureCode.MISSING_COMPLETION
    assert identify(Raising()).fingerprint == "unavailable"


def _final_int_spec() -> Any:
    with open_scorer("final-int", timeout_s=1, memory_mb=100) as scorer:
        return scorer.spec


# --- size -------------------------------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_number_of_records(tmp_path: Path) -> None:
    count = 300_000
    with (tmp_path / "sums.jsonl").open("w") as sums, (tmp_path / "answers.jsonl").open("w") as answers:
        for i in range(count):
            sums.write(f'{{"id":"e{i:07d}","prompt":"What is {i} + 1?","expected_answer":{i + 1}}}\n')
            answers.write(f'{{"id":"e{i:07d}","completion":"Final: {i + 1 + i % 2}"}}\n')
    # VmHWM and not ru_maxrss, which a child takes over from the process that started it.
    code = (
        "import sys\nfrom pathlib import Path\nfrom lockedroom.cli.main import main\n"
        "code = main(['evaluate', '--dataset', 'sums.jsonl', '--completions', 'answers.jsonl', '--out', 'run', '--json'])\n"
        "print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0], file=sys.stderr)\nsys.exit(code)\n"
    )
    (tmp_path / "measure.py").write_text(code)
    done = subprocess.run([sys.executable, "measure.py"], cwd=tmp_path, capture_output=True, check=False)
    assert json.loads(done.stdout)["summary"]["attempts"] == count
    assert int(done.stderr) / 1024 < 60
