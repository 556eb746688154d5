"""The real verifiers, version 1: our reward in a task, and traces written by verifiers itself, in."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import verifiers.v1 as vf
from exported_cases import cases, expected, exported
from verifiers.v1.configs.agent import WireAgentConfig
from verifiers.v1.utils.trace_store import write_episode

from lockedroom.adapters.importing import import_log
from lockedroom.errors import BadInput
from lockedroom.jsonl import read_batches
from lockedroom.records import Failure, Record, Score

CRASHING = """
def score(example, completion):
    if "crash" in completion:
        raise RuntimeError("no verdict")
    return {"reward": float(completion == str(example.expected_answer)), "details": {}}
"""


class Data(vf.TaskData):
    answer: int | str


def _task(module: Any, data: Data) -> Any:
    class Asked(vf.Task[Data]):
        @vf.reward
        async def verified(self, trace: Any) -> float:
            return await module.verify_trace(self.data.answer, trace)

    return Asked(data)


def _trace(task: Any, text: str) -> Any:
    nodes = [
        vf.MessageNode(message={"role": "user", "content": task.data.prompt}),
        vf.MessageNode(parent=0, sampled=True, message={"role": "assistant", "content": text}),
    ]
    call = vf.ModelCall(node=1, model="tiny", finish_reason="stop")
    agent = vf.AgentInfo(config=WireAgentConfig(model="tiny"))
    described = vf.TraceTask(type="Asked", data=task.data)
    return vf.Trace[Data, vf.State, WireAgentConfig](task=described, agent=agent, nodes=nodes, calls=[call])


async def _score(task: Any, trace: Any) -> None:
    """Score as a rollout does: an error of the task is recorded on its trace."""
    try:
        await task.score(trace)
        trace.ok = True
    except vf.RolloutError as error:
        trace.record_error(error)


def _episodes(folder: Path, tasks: list[Any], texts: list[str]) -> list[Any]:
    traces = [_trace(task, text) for task, text in zip(tasks, texts, strict=True)]

    async def all_of_them() -> None:
        for task, trace in zip(tasks, traces, strict=True):
            await _score(task, trace)

    asyncio.run(all_of_them())
    folder.mkdir(exist_ok=True)
    for task, trace in zip(tasks, traces, strict=True):
        described = vf.TraceTask(type="Asked", data=task.data)
        write_episode(folder, vf.Episode[Data, vf.State, WireAgentConfig](task=described, traces=[trace], ok=trace.ok))
    return traces


def test_verifiers_gives_our_verdict_and_its_traces_come_in_with_it(tmp_path: Path) -> None:
    module = exported(tmp_path, "verifiers")
    asked = cases()
    tasks = [
        _task(module, Data(id=example.id, prompt=example.prompt, answer=example.expected_answer))
        for example, _ in asked
    ]

    traces = _episodes(tmp_path / "run", tasks, [text for _, text in asked])
    done = import_log(tmp_path / "run", "verifiers", tmp_path / "in")

    assert [trace.reward for trace in traces] == expected(asked)
    rows = [row for batch in read_batches(tmp_path / "in/completions.jsonl", Record) for row in batch.rows]
    assert [row.completion.text for row in rows] == [text for _, text in asked]
    assert [row.result.reward for row in rows] == expected(asked)
    assert (done.examples, done.without_score) == (len(asked), 0)
    assert 'model = "tiny"' in (tmp_path / "in/completions.meta.toml").read_text()


def test_what_cannot_be_judged_has_no_reward_and_an_error(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CRASHING)
    module = exported(tmp_path, "verifiers", str(tmp_path / "mine.py"))
    tasks = [_task(module, Data(id=str(i), prompt="?", answer=4)) for i in range(3)]

    traces = _episodes(tmp_path / "run", tasks, ["4", "crash", "5"])
    done = import_log(tmp_path / "run", "verifiers", tmp_path / "in")

    assert [trace.rewards["verified"] and trace.rewards["verified"].score for trace in traces] == [1.0, None, 0.0]
    assert "could not judge" in traces[1].last_error.message
    assert (done.attempts, done.without_score, done.theirs) == (3, 1, 0.5)
    rows = [row for batch in read_batches(tmp_path / "in/completions.jsonl", Record) for row in batch.rows]
    assert [type(row.result) for row in rows] == [Score, Failure, Score]
    module.SCORER.close()


def test_an_episode_that_broke_before_any_reply_stays_an_attempt(tmp_path: Path) -> None:
    task = vf.TraceTask(type="Asked", data=Data(id="x", prompt="2+2?", answer=4))
    broken = vf.Episode[Data, vf.State, WireAgentConfig](
        task=task, errors=[vf.Error(type="EnvError", message="no box")]
    )
    write_episode(tmp_path, broken)

    done = import_log(tmp_path / "traces.jsonl", "verifiers", tmp_path / "in")

    assert (done.attempts, done.without_completion) == (1, 1)
    row = json.loads((tmp_path / "in/completions.jsonl").read_text())
    assert "no box" in row["result"]["message"]


def test_a_root_agent_a_judge_and_a_system_prompt_come_in_as_they_were(tmp_path: Path) -> None:
    module = exported(tmp_path, "verifiers")
    task = _task(module, Data(id="x", prompt="2+2?", system_prompt="Be brief.", answer=4))
    solved = _trace(task, "Final: 4\n")
    branch = {"role": "assistant", "content": "I searched."}
    solved.nodes.append(vf.MessageNode(sampled=True, message=branch))
    solved.root_reply = "Final: 4"
    solved.agent.name = "solver"
    judge_task = _task(module, Data(idx=0, prompt="Is it right?", answer="yes"))
    judged = _trace(judge_task, "It is.")
    judged.agent.name, judged.ok = "judge", True
    asyncio.run(_score(task, solved))
    described = vf.TraceTask(type="Asked", data=task.data)
    both = vf.Episode[Data, vf.State, WireAgentConfig](task=described, traces=[solved, judged], ok=True)
    write_episode(tmp_path, both)

    with pytest.raises(BadInput, match="several agents; name one with --agent: solver, judge"):
        import_log(tmp_path / "traces.jsonl", "verifiers", tmp_path / "in")
    done = import_log(tmp_path / "traces.jsonl", "verifiers", tmp_path / "in", agent="solver", score="verified")

    assert (done.theirs, done.notes) == (1.0, ["traces left out: 1 of judge"])
    (record,) = [row for batch in read_batches(tmp_path / "in/completions.jsonl", Record) for row in batch.rows]
    assert record.completion is not None
    assert record.completion.text == "Final: 4\n"
    assert "Be brief." in json.loads((tmp_path / "in/examples.jsonl").read_text())["prompt"]
