"""Logs of other projects as examples and completions of ours, so that people can audit, re-score and compare them.

A reader turns a log into attempts. An attempt belongs to an example: of a data set that was given, by id or else by
prompt; or of the log itself, which then has to hold prompts and answers. A log is held in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from lockedroom.adapters import logs_inspect, logs_jsonl, logs_tables, logs_verifiers
from lockedroom.adapters.reading import NO_ANSWER, Asked, Attempt, Log
from lockedroom.adapters.writing import Source, Written, write_import
from lockedroom.dataset.load import read_examples
from lockedroom.errors import BadInput
from lockedroom.jsonl import open_for_reading
from lockedroom.records import Example, Record
from lockedroom.visible import visible
from lockedroom.wording import counted

Reader = Callable[[Path, Asked], Log]


READERS: dict[str, Reader] = {
    "inspect": logs_inspect.read,
    "lm-eval": logs_jsonl.read_lm_eval,
    "verifiers": logs_verifiers.read,
    "human-eval": logs_jsonl.read_human_eval,
    "trl": logs_tables.read_trl,
    "verl": logs_jsonl.read_verl,
}


def import_log(
    path: Path,
    format_: str,
    out: Path,
    *,
    dataset: Path | None = None,
    answer_field: str | None = None,
    score: str | None = None,
    agent: str | None = None,
) -> Written:
    """Read a log and write the folder `out`.

    `answer_field` names where the log keeps its expected answers, `score` which of its scores to take (default: the first,
    or all that it adds up itself), `agent` whose traces, where several agents wrote into one log.
    Raises BadInput for a log of another format, a broken line, an empty log, or attempts that no example can be found for.
    """
    if format_ not in READERS:
        raise BadInput(f"--from {format_!r}: unknown format; use one of {', '.join(READERS)}")
    if not path.exists():
        raise BadInput(f"{path}: no such file; check the path")
    if not path.is_dir():
        open_for_reading(path).close()  # a pipe, or a file that may not be read
    if agent is not None and format_ != "verifiers":
        raise BadInput("--agent: only verifiers names the agents of its traces; leave the flag out")
    log = READERS[format_](path, Asked(answer_field, score, agent))
    if not log.attempts:
        raise BadInput(f"{path}: the log holds no attempt; nothing was imported")
    examples, records = _of_log(log) if dataset is None else _of_dataset(log, dataset)
    source = Source(format_, [str(file) for file in log.files], log.score, log.notes)
    return write_import(out, examples, records, source, log.declared)


def _of_log(log: Log) -> tuple[list[Example], list[Record]]:
    """Make the examples that the log itself describes."""
    examples: dict[str, Example] = {}
    draws: dict[str, int] = {}
    records = []
    for attempt in log.attempts:
        if attempt.expected_answer is NO_ANSWER or attempt.prompt is None or attempt.id is None:
            missing = "id" if attempt.id is None else "prompt" if attempt.prompt is None else "expected answer"
            raise BadInput(
                f"{attempt.where}: the log holds no {missing}; name the data set with --dataset FILE"
                + (
                    ", or the field that holds the answer with --answer-field NAME"
                    if missing == "expected answer"
                    else ""
                )
            )
        example = _at_step(
            Example(
                id=attempt.id,
                prompt=attempt.prompt,
                expected_answer=attempt.expected_answer,
                metadata=attempt.metadata,
            ),
            attempt.step,
        )
        known = examples.setdefault(example.id, example)
        if known != example:
            raise BadInput(
                f"{attempt.where}: id {visible(example.id, 60)!r} stands for two different examples in this log; "
                "import each data set's log by itself"
            )
        records.append(_record(example.id, draws, attempt))
    return list(examples.values()), records


def _of_dataset(log: Log, dataset: Path) -> tuple[list[Example], list[Record]]:
    """Find each attempt's example in a data set: by id, or else by its prompt, whole or its one user message."""
    asked = [example for batch in read_examples(dataset) for example in batch]
    by_id = {example.id: example for example in asked}
    by_prompt: dict[str, list[Example]] = {}
    for example in asked:
        by_prompt.setdefault(example.prompt, []).append(example)
    found: dict[str, Example] = {}
    draws: dict[str, int] = {}
    records = []
    for attempt in log.attempts:
        example = _at_step(_example_of(attempt, by_id, by_prompt, dataset), attempt.step)
        found.setdefault(example.id, example)
        records.append(_record(example.id, draws, attempt))
    if all(attempt.step is None for attempt in log.attempts):
        return asked, records
    return list(found.values()), records


def _example_of(
    attempt: Attempt, by_id: Mapping[str, Example], by_prompt: Mapping[str, Sequence[Example]], dataset: Path
) -> Example:
    if attempt.id is not None and attempt.id in by_id:
        return by_id[attempt.id]
    asked = (text for text in (attempt.prompt, attempt.question) if text is not None and text in by_prompt)
    same = by_prompt.get(next(asked, ""), [])
    if len(same) == 1:
        return same[0]
    named = f"id {visible(attempt.id, 60)!r}" if attempt.id is not None else "no id"
    why = f"{counted(len(same), 'example has', 'examples have')} its prompt" if same else "no example has its prompt"
    raise BadInput(
        f"{attempt.where}: {named}: not an example of {dataset}, and {why}; name the data set that the log was made from"
    )


def _at_step(example: Example, step: int | None) -> Example:
    """A training log asks the same prompt at several steps, of another policy each time."""
    if step is None:
        return example
    metadata = {**(example.metadata or {}), "step": step, "example": example.id}
    return msgspec.structs.replace(example, id=f"step-{step:06d}/{example.id}", metadata=metadata)


def _record(example_id: str, draws: dict[str, int], attempt: Attempt) -> Record:
    draw = draws.get(example_id, 0)
    draws[example_id] = draw + 1
    return Record(example_id, draw, attempt.completion, attempt.result)
