"""The real lm-evaluation-harness: our task over recorded generations, its samples in, and a run of ours out."""

# ruff: noqa: ARG002  (the shape of the harness's models)
from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from exported_cases import cases, expected
from lm_eval.api.model import LM
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

from lockedroom import EvaluateConfig, evaluate
from lockedroom.adapters.export_run import export_run
from lockedroom.adapters.export_scorer import export_scorer
from lockedroom.adapters.importing import import_log
from lockedroom.dataset.load import canonical_line
from lockedroom.errors import BadInput
from lockedroom.jsonl import read_batches
from lockedroom.records import Example, Record

CRASHING = """
def score(example, completion):
    if "crash" in completion:
        raise RuntimeError("no verdict")
    return {"reward": float(completion == str(example.expected_answer)), "details": {}}
"""


class Recorded(LM):
    """A model that says what was recorded for a prompt."""

    def __init__(self, said: dict[str, str]) -> None:
        super().__init__()
        self.said = said

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        return [self.said[request.args[0]] for request in requests]

    def loglikelihood(self, requests: list[Any]) -> Any:
        raise NotImplementedError

    def loglikelihood_rolling(self, requests: list[Any]) -> Any:
        raise NotImplementedError


def _run(folder: Path, asked: list[tuple[Example, str]], scorer: str = "final-int") -> tuple[Any, Path]:
    """Run the exported task; return the results and the samples file that the harness saved."""
    examples = folder / "examples.jsonl"
    rows = [Example(id=e.id, prompt=e.prompt, expected_answer=str(e.expected_answer)) for e, _ in asked]
    examples.write_bytes(canonical_line(rows))
    (folder / "task").mkdir()
    written = export_scorer(scorer, "lm-eval", folder / "task" / "our_reward.py")
    yaml = written[1]
    yaml.write_text(yaml.read_text().replace("test: examples.jsonl", f"test: {examples}"))
    name = next(line for line in yaml.read_text().splitlines() if line.startswith("task: ")).removeprefix("task: ")
    tracker = EvaluationTracker(output_path=str(folder / "out"))
    results = lm_eval.simple_evaluate(
        model=Recorded({example.prompt: text for example, text in asked}),
        tasks=[name],
        task_manager=TaskManager(include_path=str(folder / "task"), include_defaults=False),
        log_samples=True,
        evaluation_tracker=tracker,
        bootstrap_iters=0,
    )
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    tracker.save_results_samples(task_name=name, samples=samples[name])
    return results["results"][name], next((folder / "out").rglob("samples_*.jsonl"))


def test_the_harness_gives_our_verdict_and_its_samples_come_in_with_it(tmp_path: Path) -> None:
    asked = cases()

    results, samples = _run(tmp_path, asked)
    done = import_log(samples, "lm-eval", tmp_path / "in")

    rows = [row for batch in read_batches(tmp_path / "in/completions.jsonl", Record) for row in batch.rows]
    assert [row.completion.text for row in rows] == [text for _, text in asked]
    assert [row.result.reward for row in rows] == expected(asked)
    assert results["reward,none"] == pytest.approx(sum(expected(asked)) / len(asked))
    assert results["could_not_judge,none"] == 0.0
    assert (done.examples, done.without_score) == (len(asked), 0)
    assert "temperature = 0.0" in (tmp_path / "in/completions.meta.toml").read_text()


def test_our_verdicts_on_what_the_harness_saved_are_the_same_again(tmp_path: Path) -> None:
    asked = cases()
    _, samples = _run(tmp_path, asked)
    import_log(samples, "lm-eval", tmp_path / "in")

    evaluate(
        EvaluateConfig(dataset=str(tmp_path / "in/examples.jsonl"), completions=str(tmp_path / "in/completions.jsonl")),
        tmp_path / "run",
    )

    rows = [row for batch in read_batches(tmp_path / "run/records.jsonl", Record) for row in batch.rows]
    assert [row.result.reward for row in rows] == expected(asked)


def test_what_cannot_be_judged_is_left_out_of_the_mean_and_counted(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CRASHING)
    asked = [
        (Example(id=str(i), prompt=f"{i}?", expected_answer="4"), text) for i, text in enumerate(["4", "crash", "5"])
    ]

    results, samples = _run(tmp_path, asked, str(tmp_path / "mine.py"))
    done = import_log(samples, "lm-eval", tmp_path / "in")

    assert results["reward,none"] == 0.5
    assert results["reward_failures_as_zero,none"] == pytest.approx(1 / 3)
    assert results["could_not_judge,none"] == pytest.approx(1 / 3)
    assert not math.isnan(results["reward,none"])
    assert (done.attempts, done.without_score, done.theirs) == (3, 1, 0.5)


def test_an_exported_run_has_the_hashes_and_fields_of_the_harness(tmp_path: Path) -> None:
    from lm_eval.utils import hash_string

    asked = [(Example(id=f"e{i}", prompt=f"{i}+1?", expected_answer=str(i + 1)), f"Final: {i + 1}") for i in range(3)]
    _, samples = _run(tmp_path, asked)
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"id": e.id, "completion": t}) + "\n" for e, t in asked))
    config = EvaluateConfig(dataset=str(tmp_path / "examples.jsonl"), completions=str(tmp_path / "c.jsonl"))
    evaluate(config, tmp_path / "run")

    export_run(tmp_path / "run", "lm-eval", tmp_path / "samples_ours.jsonl")

    theirs = [json.loads(line) for line in samples.read_text().splitlines()]
    ours = [json.loads(line) for line in (tmp_path / "samples_ours.jsonl").read_text().splitlines()]
    for mine, other in zip(ours, theirs, strict=True):
        assert set(mine) >= set(other) - {"reward_failures_as_zero"}
        for field in (
            "doc_id",
            "doc",
            "target",
            "resps",
            "filtered_resps",
            "doc_hash",
            "prompt_hash",
            "target_hash",
            "reward",
        ):
            assert mine[field] == other[field]
        assert mine["prompt_hash"] == hash_string(mine["doc"]["prompt"])


TASK = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {rows}
test_split: test
doc_to_text: "{{{{prompt}}}}"
"""
REPEATED = """
output_type: generate_until
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"], do_sample: true, temperature: 0.5}
repeats: 3
filter_list:
  - name: strict
    filter: [{function: regex, regex_pattern: "Final: ([0-9]+)"}, {function: take_first}]
  - name: loose
    filter: [{function: regex, regex_pattern: "([0-9]+)"}, {function: majority_vote}, {function: take_first}]
metric_list: [{metric: exact_match}]
"""
OF_CHOICES = """
output_type: multiple_choice
doc_to_choice: choices
doc_to_target: gold
metric_list: [{metric: acc}]
"""


class Counting(LM):
    """A model that says another number each time, and is sure of the first choice."""

    said = 0

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        self.said += len(requests)
        return [f"Final: {self.said + i}" for i in range(len(requests))]

    def loglikelihood(self, requests: list[Any]) -> Any:
        return [(-float(i), i == 0) for i in range(len(requests))]

    def loglikelihood_rolling(self, requests: list[Any]) -> Any:
        raise NotImplementedError


def _samples(folder: Path, body: str) -> Path:
    rows = [{"prompt": f"{i}+1?", "answer": str(i + 1), "choices": ["1", "2"], "gold": i} for i in range(2)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "task.yaml").write_text(TASK.format(name="asked", rows=folder / "rows.jsonl") + body)
    tracker = EvaluationTracker(output_path=str(folder / "out"))
    results = lm_eval.simple_evaluate(
        model=Counting(),
        tasks=["asked"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        log_samples=True,
        evaluation_tracker=tracker,
        bootstrap_iters=0,
    )
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)  # which names the folder of the samples, too
    tracker.save_results_samples(task_name="asked", samples=samples["asked"])
    return next((folder / "out").rglob("samples_*.jsonl"))


def test_repeats_are_draws_and_each_document_is_taken_once_whatever_the_filters(tmp_path: Path) -> None:
    log = _samples(tmp_path, REPEATED)

    done = import_log(log, "lm-eval", tmp_path / "in")

    assert (done.examples, done.attempts, done.without_score) == (2, 6, 6)
    assert done.notes == ["filters left out: loose (--score METRIC,FILTER)"]
    rows = [row for batch in read_batches(tmp_path / "in/completions.jsonl", Record) for row in batch.rows]
    assert len({row.completion.text for row in rows if row.completion}) == 6
    assert import_log(log, "lm-eval", tmp_path / "loose", score="exact_match,loose").attempts == 6


def test_a_task_of_choices_has_no_completions_and_says_so(tmp_path: Path) -> None:
    log = _samples(tmp_path, OF_CHOICES)

    with pytest.raises(BadInput, match="log-likelihoods are no completions"):
        import_log(log, "lm-eval", tmp_path / "in")
