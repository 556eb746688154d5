"""From names on a command line to the policy and the scorer they mean (`policy` knows the policies)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import msgspec

from lockedroom.dataset.load import first_refused_by
from lockedroom.errors import BadInput
from lockedroom.loops.opening.policy import NamesPolicy, open_policy
from lockedroom.policy.declared import Declared
from lockedroom.policy.recorded import RecordedPolicy
from lockedroom.protocols import BatchScorer, Policy, Scorer
from lockedroom.records import Failure, FailureCode, Score
from lockedroom.results.run_folder import EXAMPLES, RunFolder
from lockedroom.safeguards.room import DatasetIdentity, Room, ScorerIdentity, prompts_sha256
from lockedroom.scorer.battery import BATTERY
from lockedroom.scorer.builtin import BUILTIN, BuiltinScorer, find_builtin
from lockedroom.scorer.identity import fingerprint, source_sha256

UNAVAILABLE = "unavailable"


class Named(NamesPolicy, Protocol):
    """The part of a loop's configuration that names things."""

    @property
    def scorer(self) -> str: ...
    @property
    def scorer_timeout(self) -> float: ...
    @property
    def scorer_memory(self) -> int: ...


class Opened(msgspec.Struct, frozen=True):
    """What the names meant. `costly`: attempts are worth keeping one by one (a live policy, a person's scorer)."""

    policy: Policy
    scorer: Scorer
    first_refused: Callable[[Sequence[Any]], int | None]
    declared: Declared
    draws: int
    costly: bool


@contextlib.contextmanager
def open_named(names: Named) -> Iterator[Opened]:
    """Open the policy and the scorer that a configuration names; a person's scorer is stopped on the way out."""
    policy, declared, draws = open_policy(names)
    with open_scorer(names.scorer, timeout_s=names.scorer_timeout, memory_mb=names.scorer_memory) as scorer:
        batches = isinstance(scorer, BatchScorer)
        yield Opened(
            policy=policy,
            scorer=scorer,
            first_refused=(
                scorer.first_refused
                if isinstance(scorer, BatchScorer | BuiltinScorer)
                else first_refused_by(scorer.accepts)
            ),
            declared=declared,
            draws=draws,
            costly=batches or not isinstance(policy, RecordedPolicy),
        )


@contextlib.contextmanager
def open_scorer(name: str, *, timeout_s: float, memory_mb: int) -> Iterator[Scorer]:
    """Yield the built-in scorer of this name, or a person's `path/to/file.py:function` in its own process."""
    builtin = find_builtin(name)
    if builtin is not None:
        yield builtin
    elif ".py" in name:
        from lockedroom.scorer.custom import IsolatedScorer

        with IsolatedScorer(name, timeout_s=timeout_s, memory_mb=memory_mb) as scorer:
            yield scorer
    else:
        raise BadInput(
            f"--scorer {name!r}: unknown scorer; use {' or '.join(BUILTIN)}, or your own as path/to/file.py:function"
        )


def identify(scorer: Scorer) -> ScorerIdentity:
    """Return what the room keeps of a scorer: name, version, hash of its source, fingerprint of its behaviour.

    The fingerprint of a scorer that runs out of time on the battery is `unavailable`: that depends on the machine.
    """
    if isinstance(scorer, BuiltinScorer):
        verdicts: list[Score | Failure] = [scorer.score(example, completion) for example, completion in BATTERY]
        source = source_sha256(scorer.source)
    elif isinstance(scorer, BatchScorer):
        source = source_sha256(scorer.source)
        verdicts = []
        for example, completion in BATTERY:
            verdict = scorer.score_batch([example], [completion])[0]
            if isinstance(verdict, Failure) and verdict.code is FailureCode.SCORER_TIMEOUT:
                return ScorerIdentity(scorer.spec.name, scorer.spec.version, source, UNAVAILABLE)
            verdicts.append(verdict)
    else:
        return ScorerIdentity(scorer.spec.name, scorer.spec.version, UNAVAILABLE, UNAVAILABLE)
    return ScorerIdentity(scorer.spec.name, scorer.spec.version, source, fingerprint(verdicts))


def room_of(opened: Opened, run: RunFolder, split: str, scorer: ScorerIdentity) -> Room:
    """Return the room of a run whose examples are all written, with its prompts as declared or as the lab rendered them."""
    prompts = opened.declared.prompts
    if not isinstance(opened.policy, RecordedPolicy):
        prompts = {**prompts, "sha256": prompts_sha256(run.path / EXAMPLES)}
    dataset = DatasetIdentity(run.examples.digest.hexdigest(), split, run.examples.lines)
    return Room(dataset, prompts, scorer, opened.declared.sampling)
