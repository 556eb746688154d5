"""What a trainer's reward function judged, as a run folder. The real trainer runs in conformance/."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from exported_cases import exported

from lockedroom.adapters.training_log import TrainingLog, folder_of
from lockedroom.errors import BadInput
from lockedroom.jsonl import read_batches
from lockedroom.records import Example, Failure, Record
from lockedroom.results.verify import verify

DECLARED: dict[str, dict[str, Any]] = {"policy": {"model": "tiny (in training)"}, "sampling": {"temperature": 1.0}}


def _step(module: ModuleType, step: int, texts: list[Any]) -> list[float | None]:
    """Ask as TRL does: each prompt once for each of its two completions."""
    prompts = [f"{i // 2}+1?" for i in range(len(texts))]
    found: list[float | None] = module.reward_func(
        prompts=prompts,
        completions=texts,
        completion_ids=[[1, 2]] * len(texts),
        trainer_state=SimpleNamespace(global_step=step),
        expected_answer=[i // 2 + 1 for i in range(len(texts))],
    )
    return found


def _records(run: Path) -> list[Record]:
    return [row for batch in read_batches(run / "records.jsonl", Record) for row in batch.rows]


def test_every_completion_that_was_judged_is_a_record_of_a_run_that_verifies(tmp_path: Path) -> None:
    module, run = exported(tmp_path, "trl"), tmp_path / "run"
    module.LOG.begin(run, step=0)
    paid = _step(module, 0, ["Final: 1", "Final: 2", "Final: 2", "no"]) + _step(module, 1, ["Final: 1", "Final: 1"])

    module.LOG.close(run, draws=2, declared=DECLARED)

    checked = verify(run)
    assert (checked.attempts, checked.rescored) == (6, 6)
    assert [getattr(row.result, "reward", None) for row in _records(run)] == paid
    assert checked.manifest.room.sampling["temperature"] == 1.0
    assert checked.manifest.policy.name == "tiny (in training)"
    examples = [row for batch in read_batches(run / "examples.jsonl", Example) for row in batch.rows]
    assert [example.metadata["step"] for example in examples if example.metadata] == [0, 0, 1]


def test_nothing_is_kept_before_it_begins_or_while_the_model_is_evaluated(tmp_path: Path) -> None:
    module, run = exported(tmp_path, "trl"), tmp_path / "run"
    training = [True]
    _step(module, 0, ["Final: 1", "Final: 1"])
    module.LOG.begin(run, step=0, training=lambda: training[0])
    _step(module, 0, ["Final: 1", "Final: 1"])
    training[0] = False
    _step(module, 1, ["Final: 1", "Final: 1"])

    module.LOG.close(run, draws=2, declared=DECLARED)

    assert len(_records(run)) == 2


def test_of_a_training_that_is_continued_the_steps_after_the_checkpoint_count_once(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = exported(tmp_path / "first", "trl")
    first.LOG.begin(run, step=0)
    for step in (0, 1, 2):
        _step(first, step, ["Final: 1", "no"])
    second = exported(tmp_path / "second", "trl")
    with open(next(run.with_name("run.rollouts").glob("*.jsonl")), "ab") as file:
        file.write(b'{"step":3,"id":"torn by a ki')
    second.LOG.begin(run, step=2)
    for step in (2, 3):
        _step(second, step, ["Final: 1", "Final: 1"])

    second.LOG.close(run, draws=2, declared=DECLARED)

    examples = [row for batch in read_batches(run / "examples.jsonl", Example) for row in batch.rows]
    assert [example.metadata["step"] for example in examples if example.metadata] == [0, 1, 2, 3]


def test_several_processes_make_one_run(tmp_path: Path) -> None:
    module, run = exported(tmp_path, "trl"), tmp_path / "run"
    logs = [TrainingLog(module.SCORER) for _ in range(2)]
    for process, log in enumerate(logs):
        log.begin(run, step=0, process=process, processes=2)
        log.add(
            0,
            prompts=["1+1?"],
            completions=["Final: 2"],
            completion_ids=None,
            answers=[2],
            results=module.SCORER.judge(["Final: 2"], [2]),
        )

    logs[0].close(run, draws=2, declared=DECLARED)

    assert [(row.draw, type(row.result).__name__) for row in _records(run)] == [(0, "Score"), (1, "Score")]


def test_a_completion_without_text_is_a_failure_of_the_run(tmp_path: Path) -> None:
    module, run = exported(tmp_path, "trl"), tmp_path / "run"
    module.LOG.begin(run, step=0)
    assert (
        _step(module, 0, [[{"role": "assistant", "content": "Final: 1"}], [{"role": "tool", "content": "x"}]])[1]
        is None
    )

    module.LOG.close(run, draws=2, declared=DECLARED)

    assert isinstance(_records(run)[1].result, Failure)


def test_a_reward_that_cannot_be_made_again_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "calls = []\n"
        "def score(example, completion):\n"
        "    calls.append(1)\n"
        "    lucky = completion == 'x' and len(calls) % 2 == 0\n"
        "    return {'reward': float(lucky), 'details': {}}\n"
    )
    module, run = exported(tmp_path, "trl", str(tmp_path / "mine.py")), tmp_path / "run"
    module.LOG.begin(run, step=0)
    _step(module, 0, ["x"] * 5)

    with pytest.raises(BadInput, match="not the ones made now"):
        module.LOG.close(run, draws=5, declared=DECLARED)
    module.SCORER.close()


@pytest.mark.parametrize("what", ["run", "rollouts"])
def test_what_another_training_left_is_never_written_into(what: str, tmp_path: Path) -> None:
    module, run = exported(tmp_path, "trl"), tmp_path / "run"
    if what == "run":
        run.mkdir()
    else:
        folder_of(run).mkdir()
        (folder_of(run) / "process-00000.jsonl").touch()

    with pytest.raises(BadInput, match=r"exists already|another training"):
        module.LOG.begin(run, step=0)


def test_a_training_that_judged_nothing_has_no_run(tmp_path: Path) -> None:
    module, run = exported(tmp_path, "trl"), tmp_path / "run"
    module.LOG.begin(run, step=0)

    with pytest.raises(BadInput, match="nothing was judged"):
        module.LOG.close(run, draws=2, declared=DECLARED)
    assert not run.exists()
