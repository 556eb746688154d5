"""Reader of the completion tables that TRL writes with `log_completions=True`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lockedroom.adapters.exported import completion_text
from lockedroom.adapters.logs_jsonl import in_step_order, prompt_id
from lockedroom.adapters.reading import (
    NO_ANSWER,
    Asked,
    Attempt,
    Log,
    listed,
    not_drawn,
    question_of,
    require,
    scored,
    whole_text,
)
from lockedroom.adapters.writing import not_scored
from lockedroom.errors import BadInput, MissingExtra
from lockedroom.records import Completion, Failure, Score

ANSWER = "expected_answer"  # our exported reward function adds this column
NOT_REWARDS = {"step", "prompt", "completion", "advantage", "code", "id"}


def read_trl(path: Path, asked: Asked) -> Log:
    """Read `completions_*.parquet`, or a folder of them. The one column of numbers is the score, or the one asked for."""
    files = sorted(path.glob("*.parquet"), key=in_step_order) if path.is_dir() else [path]
    if not files:
        raise BadInput(f"{path}: holds no .parquet file; name the trainer's completions folder")
    field = asked.answer_field or ANSWER
    attempts: list[Attempt] = []
    scores: dict[str, None] = {}
    others: dict[str, None] = {}
    repeated, before = 0, None
    for file in files:
        table = _table(file)
        require(dict.fromkeys(table.column_names), ("step", "prompt", "completion"), str(file), "TRL completions")
        if asked.answer_field is not None:
            require(dict.fromkeys(table.column_names), (field,), str(file), "TRL completions with that column")
        score, left_out = _reward_column(file, table, field, asked.score)
        scores |= {} if score is None else {score: None}
        others |= dict.fromkeys(left_out)
        drawn = table.drop_columns(["step"])
        if before is not None and table.num_rows and drawn.equals(before):
            repeated += 1
        before = drawn
        attempts += _attempts(file, table, field, score)
    about = [f"files that repeat the one before: {repeated} (TRL logs a generation at each step that trains on it)"]
    return Log(
        attempts,
        files,
        {"policy": {"trainer": "trl"}},
        ", ".join(scores) or None,
        [*(about if repeated else []), *_columns_left_out(scores, others)],
    )


def _attempts(file: Path, table: Any, field: str, score: str | None) -> Iterator[Attempt]:
    for number, row in enumerate(_rows(file, table), 1):
        yield _attempt(row, f"{file}: row {number}", field, score)


def _attempt(row: dict[str, Any], where: str, field: str, score: str | None) -> Attempt:
    prompt, step = whole_text(row["prompt"]), row["step"]
    said = completion_text(row["completion"])
    if prompt is None or not isinstance(step, int) or isinstance(step, bool) or step < 0:
        raise BadInput(f"{where}: step and prompt: expected a whole number and a text or messages")
    result: Score | Failure
    if said is None:
        result = not_drawn("the row has no text of an assistant")
    else:
        result = not_scored("no single column of numbers") if score is None else scored(row[score])
    drawn = None if said is None else Completion(said)
    return Attempt(
        where,
        prompt_id(prompt),
        prompt,
        row.get(field, NO_ANSWER),
        drawn,
        result,
        step,
        question=question_of(row["prompt"]),
    )


def _reward_column(file: Path, table: Any, field: str, asked: str | None) -> tuple[str | None, list[str]]:
    """Return the column that is the score, if one is, and the other columns of numbers.

    A reward function may log columns of its own, and several may stand there, whose weights the table does not hold.
    """
    import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types

    def of_numbers(kind: Any) -> bool:
        is_of = pa.types
        return bool(is_of.is_floating(kind) or is_of.is_integer(kind) or is_of.is_boolean(kind) or is_of.is_null(kind))

    names = [
        column.name for column in table.schema if of_numbers(column.type) and column.name not in {*NOT_REWARDS, field}
    ]
    if asked is not None and asked not in names:
        raise BadInput(f"{file}: --score {asked!r}: no such column of numbers; it has: {listed(names)}")
    score = asked or (names[0] if len(names) == 1 else None)
    return score, [name for name in names if name != score]


def _columns_left_out(scores: Iterable[str], others: Iterable[str]) -> list[str]:
    names = [name for name in others if name not in set(scores)]
    what = f"columns of numbers left out: {listed(names)} (--score NAME takes one as the log's score)"
    return [what] if names else []


def _table(file: Path) -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq  # type: ignore[import-untyped]
    except ImportError:
        raise MissingExtra(f"{file}: reading Parquet", "parquet") from None
    try:
        return pq.read_table(file, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, error) from None


def _rows(file: Path, table: Any) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = table.to_pylist()
    except UnicodeDecodeError as error:
        raise _unreadable(file, error) from None
    return rows


def _unreadable(file: Path, error: Exception) -> BadInput:
    first = str(error).splitlines()[0]
    return BadInput(f"{file}: not a Parquet file that can be read: {first}; check --from and the file")
