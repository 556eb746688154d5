"""Finding records in a finished run, side by side with their examples."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec

from lockedroom.errors import BadInput
from lockedroom.jsonl import read_batches
from lockedroom.records import Example, Outcome, Record, Score
from lockedroom.results.evaluation.summary import Summary
from lockedroom.results.run_folder import EXAMPLES, RECORDS, SUMMARY_JSON
from lockedroom.safeguards.manifest import read_manifest
from lockedroom.visible import visible

SHOWN, SHOWN_OF_EACH = 10, 2


class Wanted(msgspec.Struct, frozen=True):
    """Which records: of one code, failures only, of some ids; all that is given must hold. Nothing given: a few of each code."""

    code: str | None = None
    failures: bool = False
    ids: tuple[str, ...] = ()


def read_summary(run: Path) -> Summary:
    """Return the saved summary. Raises BadInput when the run is unfinished or the file is not a summary."""
    read_manifest(run)
    try:
        return msgspec.json.decode((run / SUMMARY_JSON).read_bytes(), type=Summary)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{run / SUMMARY_JSON}: cannot be read: {error}; run lockedroom verify {run}") from None


def read_pairs(run: Path, draws: int) -> Iterator[tuple[Example, Record]]:
    """Yield every record with its example, in order."""
    records = (record for batch in read_batches(run / RECORDS, Record) for record in batch.rows)
    for batch in read_batches(run / EXAMPLES, Example):
        for example in batch.rows:
            for record in itertools.islice(records, draws):
                if record.id != example.id:
                    raise BadInput(f"{run}: records and examples do not line up; run lockedroom verify {run}")
                yield example, record


class ExampleRate(msgspec.Struct, frozen=True):
    """One example's pass rate over its judged draws; None when none of them could be judged."""

    id: str
    prompt: str
    scored: int
    correct: int
    pass_rate: float | None


def example_rates(run: Path) -> Iterator[ExampleRate]:
    """Yield the pass rate of every example of a finished run, in dataset order."""
    draws = read_summary(run).draws
    pairs = read_pairs(run, draws)
    while group := list(itertools.islice(pairs, draws)):
        outcomes = [record.result.details.outcome for _, record in group if isinstance(record.result, Score)]
        correct = outcomes.count(Outcome.CORRECT)
        example = group[0][0]
        rate = correct / len(outcomes) if outcomes else None
        yield ExampleRate(example.id, example.prompt, len(outcomes), correct, rate)


def find_records(run: Path, wanted: Wanted, show: int | None = None) -> list[tuple[Example, Record]]:
    """Return the first `show` matching records; without a filter, the first `show` of every code, grouped by code.

    `show` None stands for 2 of every code, 10 of one code or of the failures, and all records of the ids asked for.

    Raises BadInput for a code or an id that the run does not hold, naming what it does hold.
    """
    summary = read_summary(run)
    pairs = read_pairs(run, summary.draws)
    if wanted.ids:
        return _of_ids(run, pairs, wanted, summary.draws)[:show]
    counts = {code.code: code.count for code in summary.codes} | {one.code: one.count for one in summary.failures}
    if wanted.code is not None and wanted.code not in counts:
        held = ", ".join(f"{name} ({count:,})" for name, count in counts.items())
        raise BadInput(f"--code {wanted.code!r}: no record of {run} has this code; it holds {held}")
    if wanted.code is None and not wanted.failures:
        return _first_of_each(pairs, {name: min(count, show or SHOWN_OF_EACH) for name, count in counts.items()})
    return list(itertools.islice((pair for pair in pairs if _matches(pair[1], wanted)), show or SHOWN))


def code_of(record: Record) -> str:
    """Return the code of a record, of a score or of a failure."""
    result = record.result
    return result.details.code if isinstance(result, Score) else result.code.value


def _names(record: Record) -> tuple[str, str]:
    """A record's code alone, and with its outcome, as the summary names a code that came with several outcomes."""
    result = record.result
    return (
        code_of(record),
        f"{code_of(record)} ({result.details.outcome.value if isinstance(result, Score) else 'failure'})",
    )


def _matches(record: Record, wanted: Wanted) -> bool:
    return (wanted.code is None or wanted.code in _names(record)) and not (
        wanted.failures and isinstance(record.result, Score)
    )


def _first_of_each(pairs: Iterator[tuple[Example, Record]], quota: dict[str, int]) -> list[tuple[Example, Record]]:
    found: dict[str, list[tuple[Example, Record]]] = {name: [] for name in quota}
    missing = Counter(quota)
    for pair in pairs:
        name = next((name for name in _names(pair[1]) if missing.get(name, 0)), None)
        if name is not None:
            found[name].append(pair)
            missing[name] -= 1
            if not any(missing.values()):
                break
    return [pair for group in found.values() for pair in group]


def _of_ids(
    run: Path, pairs: Iterator[tuple[Example, Record]], wanted: Wanted, draws: int
) -> list[tuple[Example, Record]]:
    asked = set(wanted.ids)
    met: set[str] = set()
    found = []
    remaining = len(asked) * draws
    for pair in pairs:
        if pair[0].id in asked:
            met.add(pair[0].id)
            remaining -= 1
            if _matches(pair[1], wanted):
                found.append(pair)
            if remaining == 0:
                return found
    absent = sorted(asked - met)
    shown = ", ".join(repr(visible(name, 60)) for name in absent[:5])
    raise BadInput(f"--id {shown}: no such example in {run}")
