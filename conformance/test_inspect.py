"""The real Inspect AI: our exported scorer in an eval of recorded outputs, its log in, and a run of ours out."""

# ruff: noqa: ARG001  (the shape of a solver)
from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from exported_cases import cases, expected, exported
from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import read_eval_log, write_eval_log
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import Score as InspectScore
from inspect_ai.scorer import choice, includes, mean, scorer
from inspect_ai.solver import generate, multiple_choice, solver

from lockedroom import EvaluateConfig, evaluate
from lockedroom.adapters.export_run import export_run
from lockedroom.adapters.importing import import_log
from lockedroom.errors import BadInput
from lockedroom.jsonl import read_batches
from lockedroom.records import Failure, Record, Score

CRASHING = """
def score(example, completion):
    if "crash" in completion:
        raise RuntimeError("no verdict")
    return {"reward": float(completion == example.expected_answer), "details": {}}
"""


def _eval(folder: Path, module: Any, rows: list[tuple[str, str, str, str]], **settings: Any) -> Any:
    """Run a real eval over (id, prompt, answer, completion); the outputs are recorded ones."""
    said = {name: text for name, _, _, text in rows}

    @solver
    def recorded() -> Any:
        async def solve(state: Any, generate: Any) -> Any:
            if said[str(state.sample_id)] == "explode":
                raise ValueError("the tool broke")
            state.output = ModelOutput.from_content("recorded", said[str(state.sample_id)])
            return state

        return solve

    samples = [Sample(id=name, input=prompt, target=answer) for name, prompt, answer, _ in rows]
    task = Task(dataset=MemoryDataset(samples), solver=recorded(), scorer=module.lockedroom_scorer(), name="goldens")
    logs = inspect_eval(
        task, model="mockllm/model", log_dir=str(folder / "logs"), display="none", log_format="eval", **settings
    )
    return read_eval_log(logs[0].location)


@pytest.fixture(scope="module")
def goldens(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The log of a real eval over all goldens and hostile texts."""
    folder = tmp_path_factory.mktemp("goldens")
    rows = [(example.id, example.prompt, str(example.expected_answer), text) for example, text in cases()]
    return _eval(folder, exported(folder, "inspect"), rows)


def test_inspect_gives_our_verdict_on_every_golden_and_hostile_text(goldens: Any) -> None:
    asked = cases()

    assert goldens.status == "success"
    found = {sample.id: next(iter(sample.scores.values())).value for sample in goldens.samples}
    assert [found[example.id] for example, _ in asked] == expected(asked)
    assert {next(iter(sample.scores)) for sample in goldens.samples} == {"lockedroom_final_int"}


def test_a_mock_model_is_driven_and_scored(tmp_path: Path) -> None:
    module = exported(tmp_path, "inspect")
    task = Task(
        dataset=MemoryDataset([Sample(input="2+2?", target="4")]), solver=generate(), scorer=module.lockedroom_scorer()
    )
    said = ModelOutput.from_content("mockllm/model", "Final: 4")
    said.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)  # else it downloads a tokenizer to count
    model = get_model("mockllm/model", custom_outputs=[said])

    log = inspect_eval(task, model=model, log_dir=str(tmp_path / "logs"), display="none")[0]

    assert log.results.scores[0].metrics["accuracy"].value == 1.0


def test_what_cannot_be_judged_is_unscored_and_not_zero(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CRASHING)
    rows = [("a", "?", "4", "4"), ("b", "?", "4", "crash"), ("c", "?", "4", "5")]

    log = _eval(tmp_path, exported(tmp_path, "inspect", str(tmp_path / "mine.py")), rows)

    scores = log.results.scores[0]
    assert (scores.scored_samples, scores.unscored_samples) == (2, 1)
    assert scores.metrics["accuracy"].value == 0.5


def test_a_log_comes_in_and_every_verdict_is_ours_again(goldens: Any, tmp_path: Path) -> None:
    asked = cases()

    done = import_log(Path(goldens.location), "inspect", tmp_path / "in")
    run = evaluate(
        EvaluateConfig(dataset=str(tmp_path / "in/examples.jsonl"), completions=str(tmp_path / "in/completions.jsonl")),
        tmp_path / "run",
    )

    assert (done.attempts, done.without_score) == (len(asked), 0)
    ours = [row.result.reward for batch in read_batches(tmp_path / "run/records.jsonl", Record) for row in batch.rows]
    assert ours == expected(asked)
    assert run.summary.mean_reward.value == pytest.approx(done.theirs)


def test_a_sample_that_broke_stays_in_the_denominator(tmp_path: Path) -> None:
    rows = [("a", "2+2?", "4", "Final: 4"), ("b", "3+3?", "6", "explode"), ("c", "1+1?", "2", "Final: 3")]
    log = _eval(tmp_path, exported(tmp_path, "inspect"), rows, fail_on_error=False)

    done = import_log(Path(log.location), "inspect", tmp_path / "in")
    run = evaluate(
        EvaluateConfig(dataset=str(tmp_path / "in/examples.jsonl"), completions=str(tmp_path / "in/completions.jsonl")),
        tmp_path / "run",
    )

    assert (done.attempts, done.without_completion) == (3, 1)
    assert (run.summary.attempts, run.summary.scored) == (3, 2)


def test_a_run_goes_out_and_comes_back_with_the_same_records(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text(
        "".join(json.dumps({"id": f"e{i}", "prompt": f"{i}+1?", "expected_answer": i + 1}) + "\n" for i in range(4))
    )
    said = [["Final: 1", "Final: 9"], ["Final: 2"], ["4", "Final: 3"], ["Final: 4 ", "Final: 4\n"]]
    (tmp_path / "c.jsonl").write_text(
        "".join(json.dumps({"id": f"e{i}", "samples": samples}) + "\n" for i, samples in enumerate(said))
    )
    config = EvaluateConfig(dataset=str(tmp_path / "d.jsonl"), completions=str(tmp_path / "c.jsonl"))
    evaluate(config, tmp_path / "run")

    for name in ("out.eval", "out.json"):
        assert export_run(tmp_path / "run", "inspect", tmp_path / name) == 8
        back = import_log(tmp_path / name, "inspect", tmp_path / f"back-{name}")
        assert (back.examples, back.attempts, back.without_completion) == (4, 8, 1)
        rows = [
            row for batch in read_batches(tmp_path / f"back-{name}/completions.jsonl", Record) for row in batch.rows
        ]
        original = [row for batch in read_batches(tmp_path / "run/records.jsonl", Record) for row in batch.rows]
        for theirs, ours in zip(rows, original, strict=True):
            assert (theirs.id, theirs.draw) == (ours.id, ours.draw)
            assert (theirs.completion and theirs.completion.text) == (ours.completion and ours.completion.text)
            if isinstance(ours.result, Score):
                assert isinstance(theirs.result, Score)
                assert theirs.result.reward == ours.result.reward
            else:
                assert isinstance(theirs.result, Failure)


def _said(text: str) -> ModelOutput:
    output = ModelOutput.from_content("mockllm/model", text)
    output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    return output


def _logged(folder: Path, scorers: Any, samples: list[Sample], solvers: Any = None, **settings: Any) -> Path:
    """Run a real eval of a mock model that always says `Final: 4`; return the log."""
    task = Task(dataset=MemoryDataset(samples), solver=solvers or generate(), scorer=scorers)
    model = get_model("mockllm/model", custom_outputs=[_said("Final: 4") for _ in range(20)])
    logs = inspect_eval(task, model=model, log_dir=str(folder / "logs"), display="none", **settings)
    return Path(logs[0].location)


def _records(folder: Path) -> list[Record]:
    return [row for batch in read_batches(folder / "completions.jsonl", Record) for row in batch.rows]


@scorer(metrics=[mean()])
def raising() -> Any:
    async def score(state: Any, target: Any) -> Any:
        raise RuntimeError("no verdict")

    return score


@scorer(metrics=[mean()])
def of_two_values() -> Any:
    async def score(state: Any, target: Any) -> Any:
        return InspectScore(value={"right": 1, "short": 0})

    return score


SAMPLES = [Sample(id=f"s{i}", input=f"{i}+1?", target=str(i + 1)) for i in range(3)]


def test_what_was_written_before_a_scorer_raised_is_kept(tmp_path: Path) -> None:
    log = _logged(tmp_path, raising(), SAMPLES, fail_on_error=False)

    done = import_log(log, "inspect", tmp_path / "in")

    assert (done.attempts, done.without_completion, done.without_score) == (3, 0, 3)
    for record in _records(tmp_path / "in"):
        assert record.completion is not None
        assert record.completion.text == "Final: 4"
        assert isinstance(record.result, Failure)
        assert "no verdict" in record.result.message


def test_of_several_scorers_any_can_be_taken_and_the_others_are_told(tmp_path: Path) -> None:
    log = _logged(tmp_path, [includes(), of_two_values()], SAMPLES)

    first = import_log(log, "inspect", tmp_path / "first")
    named = import_log(log, "inspect", tmp_path / "named", score="of_two_values.right")

    assert (first.score, first.theirs) == ("includes", 0.0)
    assert first.notes == ["scores left out: of_two_values.right, of_two_values.short (--score NAME takes another)"]
    assert (named.score, named.theirs) == ("of_two_values.right", 1.0)
    with pytest.raises(BadInput, match=r"no such score; it has: includes, of_two_values\.right, of_two_values\.short"):
        import_log(log, "inspect", tmp_path / "none", score="include")


def test_the_sampling_is_that_of_the_calls(tmp_path: Path) -> None:
    said = _logged(tmp_path / "said", includes(), SAMPLES, temperature=0.7, max_tokens=11, seed=3)
    overridden = _logged(tmp_path / "own", includes(), SAMPLES, generate(temperature=0.2), temperature=0.7)

    for log, folder, expected_meta in (
        (said, tmp_path / "a", {"temperature": 0.7, "max_tokens": 11, "seed_scheme": "inspect seed 3"}),
        (overridden, tmp_path / "b", {"temperature": 0.2}),
    ):
        import_log(log, "inspect", folder)
        assert tomllib.loads((folder / "completions.meta.toml").read_text())["sampling"] == expected_meta


def test_choices_stand_in_the_metadata_and_epochs_are_draws(tmp_path: Path) -> None:
    samples = [Sample(id="m", input="Which is even?", choices=["3", "4"], target="B")]
    log = _logged(tmp_path, choice(), samples, multiple_choice(), epochs=2)

    done = import_log(log, "inspect", tmp_path / "in")

    assert (done.examples, done.attempts) == (1, 2)
    row = json.loads((tmp_path / "in/examples.jsonl").read_text())
    assert (row["expected_answer"], row["metadata"]) == ("B", {"choices": ["3", "4"]})


def test_an_eval_that_was_cut_short_says_how_much_is_missing(tmp_path: Path) -> None:
    whole = read_eval_log(str(_logged(tmp_path, includes(), SAMPLES, epochs=2)))
    whole.status, whole.samples, whole.results = "cancelled", whole.samples[:4], None
    write_eval_log(whole, str(tmp_path / "cut.eval"))
    rows = "".join(json.dumps({"id": s.id, "prompt": s.input, "expected_answer": 1}) + "\n" for s in SAMPLES)
    (tmp_path / "asked.jsonl").write_text(rows)

    done = import_log(tmp_path / "cut.eval", "inspect", tmp_path / "in", dataset=tmp_path / "asked.jsonl")

    assert (done.examples, done.attempts) == (3, 4)
    assert done.notes == ["2 of 6 attempts are not in the log (cancelled); --dataset FILE counts them as missing"]


def test_a_log_whose_bytes_were_changed_is_one_message(goldens: Any, tmp_path: Path) -> None:
    content = bytearray(Path(goldens.location).read_bytes())
    (tmp_path / "cut.eval").write_bytes(content[: len(content) // 2])
    refused = 0
    for position in range(200, len(content) - 200, len(content) // 25):
        changed = bytearray(content)
        changed[position : position + 8] = b"\xff" * 8
        (tmp_path / "x.eval").write_bytes(changed)
        try:
            import_log(tmp_path / "x.eval", "inspect", tmp_path / f"in-{position}")
        except BadInput:  # anything else fails the test
            refused += 1

    assert refused > 5
    with pytest.raises(BadInput, match="cut short"):
        import_log(tmp_path / "cut.eval", "inspect", tmp_path / "in")


@pytest.mark.parametrize(
    ("name", "content"),
    [("x.eval", b"PK\x03\x04junk"), ("x.json", b"{"), ("x.json", b'{"a": 1}'), ("x.txt", b""), ("x.eval", b"")],
)
def test_what_is_no_inspect_log_is_one_message(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(BadInput, match="check --from"):
        import_log(tmp_path / name, "inspect", tmp_path / "in")
