"""Reader of the completion tables that TRL writes with `log_completions=True`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lockedroom.adapters.exported import completion_text
from lockedroom.adapters.logs_jsonl import prompt_id
from lockedroom.adapters.reading import NO_ANSWER, Attempt, Log, not_drawn, require, scored, whole_text
from lockedroom.adapters.writing import not_scored
from lockedroom.errors import BadInput, MissingExtra
from lockedroom.records import Completion

ANSWER = "expected_answer"  # our exported reward function adds this column
NOT_REWARDS = {"step", "prompt", "completion", "advantage", "code", "id"}


def read_trl(path: Path, answer_field: str | None) -> Log:
    """Read `completions_*.parquet`, or a folder of them. One reward column is taken for the score."""
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise BadInput(f"{path}: holds no .parquet file; name the trainer's completions folder")
    field = answer_field or ANSWER
    attempts: list[Attempt] = []
    scores: dict[str, None] = {}
    for file in files:
        for number, row in enumerate(_rows(file), 1):
            where = f"{file}: row {number}"
            require(row, ("step", "prompt", "completion"), where, "TRL completions")
            if answer_field is not None:
                require(row, (answer_field,), where, "TRL completions with that column")
            score = _reward_column(row, field)
            if score is not None:
                scores.setdefault(score)
            attempts.append(_attempt(row, where, field, score))
    return Log(attempts, files, {"policy": {"trainer": "trl"}}, ", ".join(scores) or None)


def _attempt(row: dict[str, Any], where: str, field: str, score: str | None) -> Attempt:
    prompt = whole_text(row["prompt"])
    said = completion_text(row["completion"])
    if prompt is None or not isinstance(row["step"], int):
        raise BadInput(f"{where}: step and prompt: expected a whole number and a text or messages")
    if said is None:
        result = not_drawn("the row has no text of an assistant")
    else:
        result = not_scored("no single reward column") if score is None else scored(row[score])  # type: ignore[assignment]
    drawn = None if said is None else Completion(said)
    return Attempt(where, prompt_id(prompt), prompt, row.get(field, NO_ANSWER), drawn, result, row["step"])


def _reward_column(row: dict[str, Any], field: str) -> str | None:
    numbers = [name for name, value in row.items() if name not in {*NOT_REWARDS, field} and not isinstance(value, str)]
    return numbers[0] if len(numbers) == 1 else None


def _rows(file: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types
        import pyarrow.parquet as pq  # type: ignore[import-untyped]
    except ImportError:
        raise MissingExtra(f"{file}: reading Parquet", "parquet") from None
    try:
        rows: list[dict[str, Any]] = pq.read_table(file, partitioning=None).to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0]
        raise BadInput(f"{file}: not a Parquet file that can be read: {first}; check --from and the file") from None
    return rows
