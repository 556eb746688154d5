"""Taking over what an interrupted run finished, after checking that it belongs to the inputs of today."""

from __future__ import annotations

from collections.abc import Sequence

from lockedroom.errors import BadInput
from lockedroom.policy.recorded import RecordedPolicy
from lockedroom.protocols import Policy
from lockedroom.records import Completion, Example, Failure, Record, Sampling
from lockedroom.results.evaluation.tally import pair_with_examples


def take_over(policy: Policy, examples: Sequence[Example], records: list[Record], draws: range) -> list[Record]:
    """Return the records of an interrupted run, after checking that they are these examples' and these completions.

    A recorded policy moves on past these examples. Raises BadInput at the first record that does not belong here.
    """
    misplaced = pair_with_examples(records, examples, len(draws))
    if misplaced is None and isinstance(policy, RecordedPolicy):
        drawn = policy.complete(examples, draws, Sampling())
        pairs = zip(records, drawn, strict=True)
        misplaced = next((i for i, (record, now) in enumerate(pairs) if _drawn_then(record) != now), None)
    if misplaced is not None:
        if not records:
            raise BadInput("cannot resume: records.jsonl does not hold what it should; start a new run")
        record = records[min(misplaced, len(records) - 1)]
        raise BadInput(
            f"cannot resume: the record of id {record.id!r}, draw {record.draw} does not belong to these inputs; "
            "restore the dataset and completions, or start a new run in another folder"
        )
    return records


def _drawn_then(record: Record) -> Completion | Failure | None:
    """What the policy gave for this record, when it was made."""
    if record.completion is not None:
        return record.completion
    return record.result if isinstance(record.result, Failure) else None
