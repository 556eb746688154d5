"""The real Inspect AI: our exported scorer in an eval of recorded outputs, its log in, and a run of ours out."""

# ruff: noqa: ARG001  (the shape of a solver)
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from exported_cases import cases, expected, exported
from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import read_eval_log
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.solver import generate, solver

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


@pytest.mark.parametrize(
    ("name", "content"),
    [("x.eval", b"PK\x03\x04junk"), ("x.json", b"{"), ("x.json", b'{"a": 1}'), ("x.txt", b""), ("x.eval", b"")],
)
def test_what_is_no_inspect_log_is_one_message(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(BadInput, match="check --from"):
        import_log(tmp_path / name, "inspect", tmp_path / "in")
