"""Readers of JSON Lines logs: samples of lm-evaluation-harness, human-eval completions, rollouts that verl dumps."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lockedroom.adapters.reading import (
    NO_ANSWER,
    Asked,
    Attempt,
    Log,
    as_dict,
    chosen,
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
    text,
    whole_text,
)
from lockedroom.adapters.writing import not_scored
from lockedroom.errors import BadInput
from lockedroom.records import Completion, Failure, Score
from lockedroom.wording import counted

LM_EVAL = ("doc_id", "doc", "target", "arguments", "resps")


def read_lm_eval(path: Path, asked: Asked) -> Log:
    """Read a `samples_*.jsonl`; with several filters a document stands there once for each, and is taken once.

    `--score METRIC,FILTER` takes another than the first, as the harness writes it in its results.
    """
    metric, _, filter_ = (asked.score or "").rpartition(",") if "," in (asked.score or "") else (asked.score, "", None)
    attempts: list[Attempt] = []
    documents: list[tuple[str, str]] = []
    filters: dict[str, None] = {}
    metrics: dict[str, None] = {}
    settings: dict[str, Any] = {}
    for where, row in read_rows(path):
        require(row, LM_EVAL, where, "lm-eval samples")
        named = str(row.get("filter", "none"))
        filters.setdefault(named)
        if named != (filter_ or next(iter(filters))):
            continue
        metrics |= dict.fromkeys(_lm_eval_metrics(row))
        asked_for, settings = _lm_eval_request(row, where)
        said = _lm_eval_answers(row, where)
        score = metric or next(iter(metrics), None)
        result = _lm_eval_score(row, score, len(said))
        name = f"doc-{name_of(row['doc_id'], where, 'doc_id')}"
        documents.append((f"document {row['doc_id']!r}", where))
        target = _lm_eval_target(row, asked.answer_field, where)
        prompt, question = whole_text(asked_for), question_of(asked_for)
        attempts += [Attempt(where, name, prompt, target, *_or_nothing(one, result), question=question) for one in said]
    once(path, documents)
    if filter_ is not None and filter_ not in filters and filters:
        raise BadInput(f"{path}: --score {asked.score!r}: the log has no such filter; it has: {listed(filters)}")
    taken, notes = chosen(path, metric, metrics) if attempts else (None, [])
    if taken is not None and len(filters) > 1:
        first = filter_ or next(iter(filters))
        taken = f"{taken} after the filter {first}"
        notes += [f"filters left out: {listed(name for name in filters if name != first)} (--score METRIC,FILTER)"]
    declared = {"policy": _lm_eval_model(path), "sampling": _lm_eval_sampling(settings)}
    return Log(attempts, [path], declared, taken, notes)


def _lm_eval_metrics(row: Mapping[str, Any]) -> list[str]:
    named = row.get("metrics")
    return [name for name in named if isinstance(name, str)] if isinstance(named, list) else []


def _lm_eval_score(row: Mapping[str, Any], name: str | None, generations: int) -> Score | Failure:
    if generations > 1:
        return not_scored("the harness scores the generations of a document together")
    return not_scored("the sample names no metric") if name is None else scored(row.get(name))


def _or_nothing(said: str | None, result: Score | Failure) -> tuple[Completion | None, Score | Failure]:
    """Return a completion and its score; a null stays an attempt, of which nothing was drawn."""
    return (None, not_drawn("it is null")) if said is None else (Completion(said), result)


def _lm_eval_request(row: Mapping[str, Any], where: str) -> tuple[Any, dict[str, Any]]:
    """Return the prompt, a text or messages, and the generation settings: the arguments of the first request."""
    arguments = row["arguments"]
    if isinstance(arguments, dict):  # as saved to disk; in memory they are a list
        arguments = [list(request.values()) for request in arguments.values() if isinstance(request, dict)]
    if not isinstance(arguments, list) or not arguments or not isinstance(arguments[0], list) or not arguments[0]:
        raise BadInput(
            f"{where}: arguments: expected a prompt and its generation settings; is this a generate_until task?"
        )
    prompt, settings = arguments[0][0], arguments[0][1] if len(arguments[0]) > 1 else None
    if isinstance(prompt, list) and len(prompt) == 1:  # a chat, in a tuple of the harness's own, as JSON
        prompt = prompt[0]
        with contextlib.suppress(ValueError, RecursionError, TypeError):
            prompt = json.loads(prompt)
    if not isinstance(prompt, str) and not (prompt and len(dicts_in(prompt)) == len(prompt)):
        raise BadInput(f"{where}: arguments: expected a prompt, which is a text or a list of messages")
    if not isinstance(settings, dict):
        raise BadInput(
            f"{where}: not a generate_until task: log-likelihoods are no completions, so there is nothing to judge"
        )
    return prompt, settings


def _lm_eval_answers(row: Mapping[str, Any], where: str) -> list[str | None]:
    resps = row["resps"]
    if isinstance(resps, list) and len(resps) > 1:
        raise BadInput(
            f"{where}: resps: {counted(len(resps), 'request')} of one document; only the repeats of one are completions"
        )
    said = resps[0] if isinstance(resps, list) and resps and isinstance(resps[0], list) else None
    if said is None or not all(one is None or isinstance(one, str) for one in said):
        raise BadInput(f"{where}: resps: expected a list of lists of texts; is this a generate_until task?")
    return said or [None]  # a document without a generation is an attempt too


def _lm_eval_target(row: Mapping[str, Any], answer_field: str | None, where: str) -> Any:
    if answer_field is None:
        return row["target"]
    if not isinstance(row["doc"], dict) or answer_field not in row["doc"]:
        raise BadInput(f"{where}: --answer-field {answer_field!r}: the document has no such field")
    return row["doc"][answer_field]


def _lm_eval_sampling(settings: Mapping[str, Any]) -> dict[str, Any]:
    greedy = settings.get("do_sample") is False
    stop = settings.get("until")
    return known(
        {
            "temperature": 0.0 if greedy else settings.get("temperature"),
            "top_p": settings.get("top_p"),
            "top_k": settings.get("top_k"),
            "max_tokens": settings.get("max_gen_toks"),
            "stop": [stop] if isinstance(stop, str) else stop,
        }
    )


def _lm_eval_model(path: Path) -> dict[str, Any]:
    """Return what `results_DATE.json` beside the samples says of the model."""
    date = re.search(r"_(\d{4}-\d{2}-\d{2}T[\d.-]+)\.jsonl$", path.name)
    beside = path.with_name(f"results_{date[1]}.json") if date else None
    if beside is None or not beside.is_file():
        return {}
    try:
        results = as_dict(json.loads(beside.read_bytes()))
    except ValueError as error:
        raise BadInput(f"{beside}: not JSON: {error}; remove it, or restore it") from None
    config = as_dict(results.get("config"))
    return known(
        {
            "model": results.get("model_name") or config.get("model"),
            "model_args": str(config["model_args"]) if config.get("model_args") else None,
            "harness": f"lm-eval {results['lm_eval_version']}" if "lm_eval_version" in results else None,
        }
    )


def read_human_eval(path: Path, asked: Asked) -> Log:
    """Read `{"task_id", "completion"}` lines; a results file also says whether each passed."""
    if asked.answer_field is not None:
        raise BadInput("--answer-field: human-eval lines hold no answers; name the data set with --dataset FILE")
    if asked.score is not None:
        raise BadInput("--score: human-eval lines have one verdict, passed, or none; leave the flag out")
    attempts = []
    passed = False
    for where, row in read_rows(path):
        require(row, ("task_id", "completion"), where, "human-eval")
        passed = passed or "passed" in row
        result = scored(row["passed"]) if "passed" in row else not_scored("a completion that was not judged")
        name = name_of(row["task_id"], where, "task_id")
        said = None if row["completion"] is None else text(row, "completion", where)
        attempts.append(Attempt(where, name, None, NO_ANSWER, *_or_nothing(said, result)))
    return Log(attempts, [path], {}, "passed" if passed else None)


def read_verl(path: Path, asked: Asked) -> Log:
    """Read what `trainer.rollout_data_dir` collects: a folder of `STEP.jsonl`, or one of them."""
    files = sorted(path.glob("*.jsonl"), key=in_step_order) if path.is_dir() else [path]
    if not files:
        raise BadInput(f"{path}: holds no .jsonl file; name the folder given as trainer.rollout_data_dir")
    field, score = asked.answer_field or "gts", asked.score or "score"
    attempts = []
    for file in files:
        for where, row in read_rows(file):
            require(row, ("input", "output", score, "step", field), where, "verl rollouts")
            step = row["step"]
            if not isinstance(step, int) or isinstance(step, bool) or step < 0:
                raise BadInput(f"{where}: step: expected a whole number, got {step!r}")
            prompt = text(row, "input", where)
            said = Completion(text(row, "output", where))
            attempts.append(Attempt(where, prompt_id(prompt), prompt, row[field], said, scored(row[score]), step))
    return Log(attempts, files, {"policy": {"trainer": "verl"}}, score)


def in_step_order(file: Path) -> tuple[int, str]:
    """Sort files by the step in their names, padded with zeros or not."""
    return len(file.stem), file.stem


def prompt_id(prompt: str) -> str:
    """Return a name for a prompt that has none: the first 16 digits of its sha256."""
    import hashlib

    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:16]
