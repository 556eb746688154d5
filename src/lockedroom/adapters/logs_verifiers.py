"""Reader of verifiers logs: `traces.jsonl` of version 1, and `results.jsonl` of the classic one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lockedroom.adapters.exported import completion_text
from lockedroom.adapters.reading import (
    NO_ANSWER,
    Attempt,
    Log,
    as_dict,
    dicts_in,
    known,
    name_of,
    not_drawn,
    read_rows,
    require,
    scored,
    whole_text,
)
from lockedroom.adapters.writing import not_scored
from lockedroom.errors import BadInput
from lockedroom.records import Completion, Failure, FinishReason, Score

ANSWER = "answer"


def read(path: Path, answer_field: str | None) -> Log:
    """Read a file of either version, told apart by its lines; of a folder, the file of that name inside it."""
    if path.is_dir():
        inside = [path / name for name in ("traces.jsonl", "results.jsonl") if (path / name).is_file()]
        if not inside:
            raise BadInput(f"{path}: holds neither traces.jsonl nor results.jsonl; name a run of verifiers")
        path = inside[0]
    attempts: list[Attempt] = []
    sampling: dict[str, Any] = {}
    model: Any = None
    classic = False
    for where, row in read_rows(path):
        if "traces" in row or "nodes" in row:
            for trace in _traces(row, where):
                attempts.append(_of_trace(trace, where, answer_field or ANSWER))
                model, sampling = _calls(trace, model, sampling)
        else:
            classic = True
            require(row, ("example_id", "prompt", "completion", "reward"), where, "verifiers")
            attempts.append(_of_result(row, where, answer_field or ANSWER))
    if classic:
        model, sampling = _metadata(path)
    return Log(attempts, [path], {"policy": known({"model": model}), "sampling": _sampling(sampling)}, "reward")


def _traces(row: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    traces = row.get("traces", [row])
    if not isinstance(traces, list) or not all(isinstance(trace, dict) and "task" in trace for trace in traces):
        raise BadInput(f"{where}: traces: expected a list of traces, each with its task")
    # An episode that broke before any agent ran is an attempt too: it was asked for, and nothing was drawn.
    return traces or [{"task": row.get("task", {}), "errors": row.get("errors", []), "nodes": []}]


def _of_trace(trace: Mapping[str, Any], where: str, field: str) -> Attempt:
    data = as_dict(as_dict(trace["task"]).get("data"))
    said = [as_dict(node.get("message")) for node in dicts_in(trace.get("nodes")) if node.get("sampled")]
    errors = dicts_in(trace.get("errors"))
    name = data.get("id") if data.get("id") is not None else data.get("idx")
    written = completion_text(said)
    broke = str(errors[-1].get("message", "")) if errors else ""
    result: Score | Failure
    if written is None:
        result = not_drawn(broke or "no reply of the model")
    elif errors:
        result = not_scored(f"the trace ended with an error: {broke}")
    else:
        result = _reward(trace.get("rewards"))
    return Attempt(
        where,
        None if name is None else name_of(name, where, "id"),
        whole_text(data.get("prompt")),
        data.get(field, NO_ANSWER),
        None if written is None else Completion(written, finish_reason=_finish(trace)),
        result,
    )


def _reward(rewards: Any) -> Score | Failure:
    """Return the weighted sum of the rewards; where one did not run (None, or left out), there is no score."""
    parts = list(rewards.values()) if isinstance(rewards, dict) else []
    if not parts or not all(isinstance(part, dict) and "score" in part for part in parts):
        return not_scored("the trace holds no reward: scoring did not run")
    numbers = [(part["score"], part.get("weight", 1.0)) for part in parts]
    if not all(isinstance(value, int | float) for pair in numbers for value in pair):
        return not_scored("the trace holds a reward that is no number")
    return scored(sum(value * weight for value, weight in numbers))


def _finish(trace: Mapping[str, Any]) -> FinishReason | None:
    calls = [call for call in dicts_in(trace.get("calls")) if not call.get("error")]
    reason = calls[-1].get("finish_reason") if calls else None
    return {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}.get(str(reason))


def _calls(trace: Mapping[str, Any], model: Any, sampling: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the model and the sampling of the calls; where calls differ, neither is declared."""
    for call in dicts_in(trace.get("calls")):
        here = as_dict(call.get("sampling"))
        model = call.get("model") if model in (None, call.get("model")) else "several models"
        if sampling and here != sampling:
            return model, {"differing": True}
        sampling = here
    return model, sampling


def _of_result(row: Mapping[str, Any], where: str, field: str) -> Attempt:
    written = completion_text(row["completion"])
    error = row.get("error")
    result: Score | Failure
    if written is None:
        result = not_drawn(str(error) if error else "no text of an assistant")
    else:  # a rollout that broke has reward 0.0 there
        result = not_scored(f"the rollout ended with an error: {error}") if error else scored(row["reward"])
    truncated = row.get("is_truncated")
    finish = FinishReason.LENGTH if truncated is True else FinishReason.STOP if truncated is False else None
    drawn = None if written is None else Completion(written, finish_reason=finish)
    return Attempt(
        where,
        name_of(row["example_id"], where, "example_id"),
        whole_text(row["prompt"]),
        row.get(field, NO_ANSWER),
        drawn,
        result,
    )


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
