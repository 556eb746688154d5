"""Asking scorers about saved completions: do two of them agree, and is one still what its lock says?"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.dataset.load import read_examples
from lockedroom.errors import BadInput
from lockedroom.jsonl import read_batches
from lockedroom.loops.attempt import judge
from lockedroom.loops.opening.named import UNAVAILABLE, identify, open_scorer
from lockedroom.policy.declared import read_declared
from lockedroom.policy.recorded import RecordedPolicy
from lockedroom.protocols import BatchScorer, Scorer
from lockedroom.records import Completion, Example, Failure, FailureCode, Sampling, Score
from lockedroom.results.comparison.instrument import Flips, count_flips, outcome_of
from lockedroom.results.evaluation.inspection import read_pairs
from lockedroom.results.run_folder import write_atomically
from lockedroom.results.verify import verify
from lockedroom.safeguards import scorer_lock as locks
from lockedroom.safeguards.manifest import measure_file
from lockedroom.scorer.battery import BATTERY
from lockedroom.scorer.identity import fingerprint, verdict_line
from lockedroom.visible import visible

CHUNK = 1024
_TOO_SLOW = (
    "the scorer ran out of time, which depends on the machine and cannot be locked; raise --scorer-timeout, or make the "
    "scorer faster"
)


class Limits(msgspec.Struct, frozen=True):
    """What one call of a person's scorer may spend."""

    timeout_s: float = 5.0
    memory_mb: int = 512


class Case(msgspec.Struct, frozen=True):
    """A question with its completion, one a line: all that a scorer needs. Other fields are not read."""

    expected_answer: Any
    completion: Any
    id: str = ""
    prompt: str = ""


class Change(msgspec.Struct, frozen=True):
    """One completion on which two scorers differ."""

    id: str
    expected_answer: Any
    completion: str
    old: Score | Failure
    new: Score | Failure


class ScorerDiff(msgspec.Struct, frozen=True):
    """`differing` counts completions with another reward, code, outcome or parsed text; `flips` other outcomes."""

    old: str
    new: str
    judged: int
    differing: int
    flips: Flips
    changes: list[Change]


def diff_scorers(
    old: str, new: str, sources: Sequence[Path], *, dataset: Path | None, limits: Limits, show: int
) -> ScorerDiff:
    """Judge the completions of runs or files with two scorers. Raises BadInput, and Tampered for a changed run."""
    changes: list[Change] = []
    outcomes: list[tuple[str, str, str]] = []
    differing = 0
    with (
        open_scorer(old, timeout_s=limits.timeout_s, memory_mb=limits.memory_mb) as old_scorer,
        open_scorer(new, timeout_s=limits.timeout_s, memory_mb=limits.memory_mb) as new_scorer,
    ):
        cases = (case for source in sources for case in _cases_of(source, dataset))
        while chunk := list(itertools.islice(cases, CHUNK)):
            examples, drawn = [example for example, _ in chunk], [Completion(text) for _, text in chunk]
            verdicts = zip(judge(old_scorer, examples, drawn), judge(new_scorer, examples, drawn), strict=True)
            for (example, text), (before, after) in zip(chunk, verdicts, strict=True):
                outcomes.append((example.id, outcome_of(before), outcome_of(after)))
                if verdict_line(before) != verdict_line(after):
                    differing += 1
                    if len(changes) < show:
                        changes.append(Change(example.id, example.expected_answer, text, before, after))
        names = [f"{scorer.spec.name} version {scorer.spec.version}" for scorer in (old_scorer, new_scorer)]
    if not outcomes:
        raise BadInput("--on: there is no completion to judge")
    return ScorerDiff(names[0], names[1], len(outcomes), differing, count_flips("all", outcomes, show), changes)


class LockResult(msgspec.Struct, frozen=True):
    """`written`: the lock file now holds the scorer as it is."""

    name: str
    version: int
    checked: locks.Checked
    written: bool


def lock_scorer(scorer_name: str, lock: Path, goldens: Sequence[Path], *, limits: Limits, check: bool) -> LockResult:
    """Check a scorer against its lock file; unless `check`, write the lock, except over a change without a new version.

    Without `goldens`, those that the lock names are used. Raises BadInput when `check` finds no lock to check.
    """
    held = locks.read_lock(lock)
    with open_scorer(scorer_name, timeout_s=limits.timeout_s, memory_mb=limits.memory_mb) as scorer:
        identity = identify(scorer)
        if identity.fingerprint == UNAVAILABLE:
            raise BadInput(f"{scorer_name}: {_TOO_SLOW}")
        locked = held.scorers.get(identity.name)
        if check and locked is None:
            raise BadInput(
                f"{lock}: holds no lock of {visible(identity.name, 80)}; write one: lockedroom scorer lock SCORER --lock {lock}"
            )
        names = [os.path.relpath(path, lock.parent) for path in goldens]
        battery = locks.Asked(BATTERY, _ask(scorer, [(example, text) for example, text in BATTERY]))
        asked = {
            name: (measure_file(lock.parent / name).sha256, _golden(scorer, lock.parent / name))
            for name in names or (locked.goldens if locked else ())
        }
    identity = msgspec.structs.replace(identity, fingerprint=fingerprint(battery.verdicts))
    current = locks.make_entry(identity, battery, asked)
    checked = locks.Checked([], [], [])
    if locked is not None:
        checked = locks.check_entry(identity.name, locked, current, battery, asked)
    written = not check and not checked.behaviour
    if written:
        scorers = {**held.scorers, identity.name: current}
        write_atomically(lock, locks.encode_lock(locks.LockFile(locks.FORMAT, scorers)))
    return LockResult(identity.name, identity.version, checked, written)


def _golden(scorer: Scorer, path: Path) -> locks.Asked:
    cases = list(_read_cases(path))
    if isinstance(scorer, BatchScorer):
        odd = next((i for i, (_, completion) in enumerate(cases) if not isinstance(completion, str)), None)
        if odd is not None:
            raise BadInput(
                f"{path}:{odd + 1}: completion: expected a string; your own scorer is only ever given strings"
            )
    return locks.Asked(cases, _ask(scorer, cases))


def _ask(scorer: Scorer, cases: Sequence[tuple[Example, Any]]) -> list[Score | Failure]:
    results = judge(scorer, [example for example, _ in cases], [Completion(completion) for _, completion in cases])
    for (example, _), result in zip(cases, results, strict=True):
        if isinstance(result, Failure) and result.code is FailureCode.SCORER_TIMEOUT:
            raise BadInput(f"{visible(scorer.spec.name, 80)}, case {visible(example.id, 60)!r}: {_TOO_SLOW}")
    return results


def _cases_of(source: Path, dataset: Path | None) -> Iterator[tuple[Example, str]]:
    if source.is_dir():
        manifest = verify(source).manifest
        for example, record in read_pairs(source, manifest.draws):
            if record.completion is not None:
                yield example, record.completion.text
        return
    if dataset is None:
        for position, (example, completion) in enumerate(_read_cases(source)):
            if not isinstance(completion, str):
                raise BadInput(f"{source}:{position + 1}: completion: expected a string; remove the line")
            yield example, completion
        return
    policy = RecordedPolicy(source, read_declared(source))
    draws = range(max(1, policy.draws_recorded()))
    for examples in read_examples(dataset):
        asked = [example for example in examples for _ in draws]
        for example, drawn in zip(asked, policy.complete(examples, draws, Sampling()), strict=True):
            if isinstance(drawn, Completion):
                yield example, drawn.text


def _read_cases(path: Path) -> Iterator[tuple[Example, Any]]:
    line = 0
    try:
        for batch in read_batches(path, Case):
            for row in batch.rows:
                line += 1
                yield (
                    Example(id=row.id or f"line {line}", prompt=row.prompt, expected_answer=row.expected_answer),
                    row.completion,
                )
    except BadInput as error:
        raise BadInput(
            f"{error} (each line needs expected_answer and completion; for a completions file, name its --dataset)"
        ) from None
