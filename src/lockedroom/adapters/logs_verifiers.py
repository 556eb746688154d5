"""Reader of verifiers logs: `traces.jsonl` of version 1, and `results.jsonl` of the classic one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lockedroom.adapters.exported import completion_text, last_reply
from lockedroom.adapters.logs_jsonl import prompt_id
from lockedroom.adapters.reading import (
    NO_ANSWER,
    Asked,
    Attempt,
    Log,
    as_dict,
    dicts_in,
    known,
    listed,
    name_of,
    not_drawn,
    once,
    question_of,
    read_rows,
    require,
    scored,
    whole_text,
)
from lockedroom.adapters.writing import not_scored
from lockedroom.errors import BadInput
from lockedroom.records import Completion, Failure, FinishReason, Score
from lockedroom.visible import visible

ANSWER = "answer"


def read(path: Path, asked: Asked) -> Log:
    """Read a file of either version, told apart by its lines; of a folder, the file of that name inside it."""
    path = _file_in(path)
    field = asked.answer_field or ANSWER
    attempts: list[Attempt] = []
    traces: list[dict[str, Any]] = []
    named: list[tuple[str, str]] = []
    agents: dict[str, int] = {}
    first = None
    for where, row in read_rows(path):
        is_trace = "traces" in row or "nodes" in row
        if first not in (None, is_trace):
            raise BadInput(f"{where}: a line of another version of verifiers than the first; import each log by itself")
        first = is_trace
        if not is_trace:
            require(row, ("prompt", "completion", "reward"), where, "verifiers")
            attempts.append(_of_result(row, where, field, asked.score))
            continue
        for trace in _traces(row, where):
            agent = _agent(trace)
            agents[agent] = agents.get(agent, 0) + 1
            if asked.agent in (None, agent):
                attempts.append(_of_trace(trace, where, field, asked.score))
                traces.append(trace)
                named += [(f"trace {trace['id']!r}", where)] if "id" in trace else []
    notes = _other_agents(path, agents, asked.agent) if first is not False else _no_agents(path, asked.agent)
    once(path, named)
    _refuse_unknown_score(path, attempts, asked.score)
    model, sampling = _metadata(path) if first is False else _calls(traces)
    declared = {"policy": known({"model": model}), "sampling": _sampling(sampling)}
    return Log(attempts, [path], declared, asked.score or "reward", notes)


def _file_in(path: Path) -> Path:
    if not path.is_dir():
        return path
    inside = [path / name for name in ("traces.jsonl", "results.jsonl") if (path / name).is_file()]
    if not inside:
        raise BadInput(f"{path}: holds neither traces.jsonl nor results.jsonl; name a run of verifiers")
    if len(inside) > 1:
        raise BadInput(f"{path}: holds traces.jsonl and results.jsonl; name one of the two files")
    return inside[0]


def _agent(trace: Mapping[str, Any]) -> str:
    return str(as_dict(trace.get("agent")).get("name", "agent"))


def _other_agents(path: Path, agents: Mapping[str, int], asked: str | None) -> list[str]:
    """Return a line about the traces of other agents. Raises BadInput where several wrote and none was named."""
    if asked is None and len(agents) > 1:
        raise BadInput(f"{path}: holds traces of several agents; name one with --agent: {listed(agents)}")
    if asked is not None and agents and asked not in agents:
        raise BadInput(f"{path}: --agent {asked!r}: the log has no such agent; it has: {listed(agents)}")
    others = [f"{count} of {name}" for name, count in agents.items() if name != asked]
    return [f"traces left out: {listed(others)}"] if asked is not None and others else []


def _no_agents(path: Path, asked: str | None) -> list[str]:
    if asked is not None:
        raise BadInput(f"{path}: --agent: results of the classic verifiers name no agents; leave the flag out")
    return []


def _refuse_unknown_score(path: Path, attempts: Sequence[Attempt], asked: str | None) -> None:
    """A misspelt name would look like a log in which nothing was scored."""
    if asked is not None and attempts and not any(isinstance(attempt.result, Score) for attempt in attempts):
        raise BadInput(f"{path}: --score {asked!r}: no attempt of the log has a number of this name; check the name")


def _traces(row: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    traces = row.get("traces", [row])
    if not isinstance(traces, list) or not all(isinstance(trace, dict) and "task" in trace for trace in traces):
        raise BadInput(f"{where}: traces: expected a list of traces, each with its task")
    # An episode that broke before any agent ran is an attempt too: it was asked for, and nothing was drawn.
    return traces or [{"task": row.get("task", {}), "errors": row.get("errors", []), "nodes": []}]


def _of_trace(trace: Mapping[str, Any], where: str, field: str, score: str | None) -> Attempt:
    task = as_dict(trace["task"])
    data = as_dict(task.get("data"))
    errors = dicts_in(trace.get("errors"))
    written = _reply(trace)
    broke = str(errors[-1].get("message", "")) if errors else ""
    result: Score | Failure
    if written is None:
        result = not_drawn(broke or "no reply of the model")
    elif errors:
        result = not_scored(visible(f"the trace ended with an error: {broke}", 300))
    else:
        result = _reward(trace.get("rewards"), score)
    prompt = _prompt(data)
    return Attempt(
        where,
        _name(data, task, where),
        whole_text(prompt),
        data.get(field, NO_ANSWER),
        None if written is None else Completion(written, finish_reason=_finish(trace)),
        result,
        question=question_of(prompt),
    )


def _reply(trace: Mapping[str, Any]) -> str | None:
    """Return the text of the last message of the model, or of its root agent."""
    sampled = [as_dict(node.get("message")) for node in dicts_in(trace.get("nodes")) if node.get("sampled")]
    said = [message for message in sampled if message.get("role") == "assistant"]
    root = trace.get("root_reply")
    return last_reply([completion_text([message]) for message in said], root if isinstance(root, str) else None)


def _name(data: Mapping[str, Any], task: Mapping[str, Any], where: str) -> str | None:
    for name, field in ((data.get("id"), "id"), (data.get("idx"), "idx"), (task.get("key"), "key")):
        if name is not None:
            return name_of(name, where, field)
    return None


def _prompt(data: Mapping[str, Any]) -> Any:
    """Return what was asked; a system prompt stands in a field of its own."""
    prompt, system = data.get("prompt"), data.get("system_prompt")
    if prompt is None or not isinstance(system, str):
        return prompt
    asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return [{"role": "system", "content": system}, *asked] if isinstance(asked, list) else prompt


def _reward(rewards: Any, name: str | None) -> Score | Failure:
    """Return the weighted sum of the rewards, or one; where one did not run (None, or left out), there is no score."""
    parts = as_dict(rewards)
    if name is not None:
        return scored(as_dict(parts.get(name)).get("score"))
    if not parts or not all(isinstance(part, dict) and "score" in part for part in parts.values()):
        return not_scored("the trace holds no reward: scoring did not run")
    numbers = [(part["score"], part.get("weight", 1.0)) for part in parts.values()]
    if not all(isinstance(value, int | float) for pair in numbers for value in pair):
        return not_scored("the trace holds a reward that is no number")
    return scored(sum(value * weight for value, weight in numbers))


def _finish(trace: Mapping[str, Any]) -> FinishReason | None:
    calls = [call for call in dicts_in(trace.get("calls")) if not call.get("error")]
    reason = calls[-1].get("finish_reason") if calls else None
    return {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}.get(str(reason))


def _calls(traces: Sequence[Mapping[str, Any]]) -> tuple[Any, dict[str, Any]]:
    """Return the model and the sampling of the calls; where calls differ, or say nothing, neither is declared."""
    calls = [call for trace in traces for call in dicts_in(trace.get("calls"))]
    configured = (as_dict(as_dict(trace.get("agent")).get("config")).get("model") for trace in traces)
    models = dict.fromkeys(str(name) for name in ([call.get("model") for call in calls] or configured) if name)
    sampling = [as_dict(call.get("sampling")) for call in calls]
    same = sampling[0] if sampling and all(one == sampling[0] for one in sampling) else {}
    return next(iter(models)) if len(models) == 1 else ("several models" if models else None), same


def _of_result(row: Mapping[str, Any], where: str, field: str, score: str | None) -> Attempt:
    written = completion_text(row["completion"])
    broke = _error_text(row.get("error"))
    result: Score | Failure
    if written is None:
        result = not_drawn(broke or "no text of an assistant")
    elif broke:  # a rollout that broke has reward 0.0 there
        result = not_scored(visible(f"the rollout ended with an error: {broke}", 300))
    else:
        result = scored(row["reward"] if score is None else _metric(row, score))
    truncated = row.get("is_truncated")
    finish = FinishReason.LENGTH if truncated is True else FinishReason.STOP if truncated is False else None
    drawn = None if written is None else Completion(written, finish_reason=finish)
    prompt = whole_text(row["prompt"])
    # Before 0.1.6 the number in `id` was counted per saved line and not per example, so the prompt names the example.
    name = name_of(row["example_id"], where, "example_id") if "example_id" in row else prompt and prompt_id(prompt)
    return Attempt(where, name, prompt, row.get(field, NO_ANSWER), drawn, result, question=question_of(row["prompt"]))


def _metric(row: Mapping[str, Any], name: str) -> Any:
    """Return what one reward function of the rubric gave; older logs keep it beside the other fields."""
    metrics = as_dict(row.get("metrics"))
    return metrics[name] if name in metrics else row.get(name)


def _error_text(error: Any) -> str:
    """Return an error as text: classic verifiers writes a text, or the chain of what was raised."""
    if isinstance(error, dict):
        error = error.get("error_chain_str") or error.get("error") or error
    return str(error) if error else ""


def _metadata(path: Path) -> tuple[Any, dict[str, Any]]:
    """Return the model and sampling arguments that `metadata.json` beside the results declares."""
    beside = path.with_name("metadata.json")
    if not beside.is_file():
        return None, {}
    try:
        metadata = as_dict(json.loads(beside.read_bytes()))
    except ValueError as error:
        raise BadInput(f"{beside}: not JSON: {error}; remove it, or restore it") from None
    return metadata.get("model"), as_dict(metadata.get("sampling_args"))


def _sampling(found: Mapping[str, Any]) -> dict[str, Any]:
    tokens = found.get("max_tokens", found.get("max_completion_tokens"))
    names = ("temperature", "top_p", "top_k", "stop")
    return known({**{name: found.get(name) for name in names}, "max_tokens": tokens})
