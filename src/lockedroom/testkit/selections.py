"""Small pools of draws: what tests of selection begin with."""

from __future__ import annotations

from collections.abc import Sequence

from lockedroom.records import Completion, Example, Failure, FailureCode, Record, Score
from lockedroom.scorer.final_int import score


def records_of(
    example_id: str, drawn: Sequence[str | Completion | None], answer: int = 2
) -> tuple[Example, list[Record], list[Score | Failure]]:
    """Return an example, its draws judged by final-int (None: no completion was drawn), and what was said of them."""
    example = Example(id=example_id, prompt=f"What is {answer} + 0?", expected_answer=answer)
    records = []
    for draw, one in enumerate(drawn):
        completion = Completion(one) if isinstance(one, str) else one
        missing = Failure(FailureCode.MISSING_COMPLETION, "none was drawn")
        result = missing if completion is None else score(example, completion.text)
        records.append(Record(example_id, draw, completion, result))
    return example, records, [record.result for record in records]
