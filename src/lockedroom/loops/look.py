"""Sealing a holdout, and a look at one: completions in, one coarse answer out, on the record.

The exact result lives only in `look`: nothing of it is written, and the answer is in the ledger before it is returned.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from lockedroom.dataset.load import canonical_line, first_refused_by, read_examples
from lockedroom.errors import BadInput, NotComparable
from lockedroom.jsonl import read_batches
from lockedroom.loops.attempt import judge
from lockedroom.loops.evaluating.configuration import EvaluateConfig, check_config
from lockedroom.loops.opening.named import Opened, identify, open_named, open_scorer
from lockedroom.policy.recorded import RecordedPolicy
from lockedroom.protocols import BatchScorer, Scorer
from lockedroom.records import Completion, Example, Failure, FailureCode, Outcome, Sampling, Score
from lockedroom.results.run_folder import EXAMPLES
from lockedroom.results.verify import verify
from lockedroom.safeguards import holdout
from lockedroom.safeguards.coarse import LookIntervals, Measured, answer, intervals, make_rule
from lockedroom.safeguards.ledger import Entry, Submitted
from lockedroom.safeguards.manifest import NAME as MANIFEST
from lockedroom.safeguards.room import ScorerIdentity
from lockedroom.safeguards.sealing import write_durably
from lockedroom.scorer.builtin import find_builtin
from lockedroom.visible import visible
from lockedroom.wording import counted


class SealOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`fraction` None seals the whole file; else `rest` is the file that gets what is not sealed."""

    fraction: float | None = None
    rest: Path | None = None
    budget: int = 5
    confidence: float = 0.95
    answers: str = "rounded"
    step: float | None = None
    threshold: float | None = None
    scorer: str = "final-int"


class LookOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`completions` is a file or a finished run; `scorer` says where the sealed scorer's file is now."""

    completions: str | None = None
    policy: str | None = None
    draws: int | None = None
    declare: tuple[str, ...] = ()
    scorer: str | None = None
    scorer_timeout: float = 5.0
    scorer_memory: int = 512
    sampling: Sampling = Sampling()


class Look(msgspec.Struct, frozen=True):
    """The entry in the ledger, what it says of new examples, and how many looks are left."""

    entry: Entry
    number: int
    left: int
    header: holdout.Header
    intervals: LookIntervals


def seal_dataset(
    dataset: Path, folder: Path, key: Path, options: SealOptions, *, who: str, reason: str
) -> holdout.Header:
    """Seal a dataset, or the part of it that hashes below `fraction`. Raises BadInput for what cannot be sealed."""
    if (options.fraction is None) != (options.rest is None):
        raise BadInput("--fraction and --rest go together: a part to seal, and a file for the rest")
    if options.fraction is not None and not 0 < options.fraction < 1:
        raise BadInput(f"--fraction {options.fraction}: must lie between 0 and 1; leave it out to seal the whole file")
    with open_scorer(options.scorer, timeout_s=5.0, memory_mb=512) as scorer:
        refused = scorer.first_refused if isinstance(scorer, BatchScorer) else first_refused_by(scorer.accepts)
        rows = [row for batch in read_examples(dataset, refused, scorer_name=scorer.spec.name) for row in batch]
        identity = identify(scorer)
    fraction = options.fraction
    inside = [row for row in rows if fraction is None or holdout.in_holdout(row, fraction)]
    sealed = {row.id for row in inside}
    rest = [row for row in rows if row.id not in sealed]
    if not inside or (fraction is not None and not rest):
        raise BadInput(
            f"--fraction {fraction}: leaves nothing on one side of {counted(len(rows), 'example')}; choose another"
        )
    terms = holdout.Terms(
        name=dataset.stem,
        budget=options.budget,
        confidence=options.confidence,
        answers=make_rule(options.answers, len(inside), step=options.step, threshold=options.threshold),
        scorer=options.scorer,
        scorer_identity=identity,
    )
    holdout.check_terms(terms)
    if options.rest is not None and options.rest.exists():
        raise BadInput(f"--rest {options.rest}: exists already; choose another file")
    header = holdout.seal(inside, folder, key, terms, who=who, reason=reason)
    if options.rest is not None:
        write_durably(options.rest, canonical_line(rest), new=True)
    return header


def look(folder: Path, key_path: Path, options: LookOptions, *, who: str, reason: str) -> Look:
    """Judge completions for every sealed prompt, and answer as the holdout's terms allow.

    A look is spent when, and only when, its entry is in the ledger. Raises Sealed when none is left, Tampered when the
    folder or its ledger was changed, NotComparable for another scorer, BadInput for completions that do not fit.
    """
    header = holdout.read_header(folder)
    key = holdout.open_key(folder, key_path, header)
    with holdout.open_book(folder, key, header) as book:
        holdout.require_budget(folder, header, book.entries)  # before anything is drawn
    prompts = holdout.read_prompts(folder, header)
    with _open(folder, header, options) as (opened, identity):
        drawn = list(opened.policy.complete(prompts, range(opened.draws), options.sampling))
        _refuse_incomplete(folder, prompts, drawn, opened.draws)
        submitted, room = _submitted(options, opened, prompts, header, identity)
        with holdout.open_book(folder, key, header) as book:
            number = holdout.require_budget(folder, header, book.entries)
            examples = holdout.read_answers(folder, header, key)
            earlier = [entry.answer for entry in holdout.looks(book.entries) if entry.answer is not None]
            said = answer(
                header.terms.answers,
                _measure(opened.scorer, examples, drawn, opened.draws),
                earlier[-1].value if earlier else None,
            )
            entry = book.append(
                Entry(
                    index=0,
                    event="look",
                    time=datetime.now(UTC).isoformat(timespec="seconds"),
                    who=who,
                    reason=reason,
                    seal=header.seal,
                    submitted=submitted,
                    room=room,
                    draws=opened.draws,
                    answer=said,
                    previous="",
                )
            )
    found = intervals_of(header, entry, number)
    return Look(entry, number, header.terms.budget - number, header, found)


def intervals_of(header: holdout.Header, entry: Entry, number: int) -> LookIntervals:
    """Return the intervals of a look in the ledger, `number` counted from 1."""
    terms = header.terms
    assert entry.answer is not None
    return intervals(
        terms.answers, entry.answer, header.examples, look=number, budget=terms.budget, confidence=terms.confidence
    )


@contextlib.contextmanager
def _open(folder: Path, header: holdout.Header, options: LookOptions) -> Iterator[tuple[Opened, ScorerIdentity]]:
    config = EvaluateConfig(
        dataset=str(folder),
        completions=options.completions,
        policy=options.policy,
        scorer=options.scorer or header.terms.scorer,
        draws=options.draws,
        declare=options.declare,
        scorer_timeout=options.scorer_timeout,
        scorer_memory=options.scorer_memory,
        sampling=options.sampling,
    )
    check_config(config, workers=1)
    with open_named(config) as opened:
        found, sealed = identify(opened.scorer), header.terms.scorer_identity
        if find_builtin(sealed.name) is not None:
            # A release may touch the source; name, version and verdicts are what the holdout was sealed for.
            found = msgspec.structs.replace(found, source_sha256=sealed.source_sha256)
        if found != sealed:
            raise NotComparable(
                f"{folder}: was sealed for the scorer {sealed.name} version {sealed.version} (source "
                f"{sealed.source_sha256[:12]}…, fingerprint {sealed.fingerprint[:12]}…), this is {found.name} version "
                f"{found.version} ({found.source_sha256[:12]}…, {found.fingerprint[:12]}…); look with the scorer it was "
                "sealed for (--scorer says where its file is), or seal anew"
            )
        yield opened, found


def _refuse_incomplete(
    folder: Path, prompts: Sequence[holdout.SealedPrompt], drawn: Sequence[Completion | Failure], draws: int
) -> None:
    """A submission for a few examples would turn a coarse answer into an exact one about them."""
    missing = [
        prompts[i // draws].id
        for i, one in enumerate(drawn)
        if isinstance(one, Failure) and one.code is FailureCode.MISSING_COMPLETION
    ]
    if missing:
        shown = ", ".join(visible(name, 60) for name in dict.fromkeys(missing[:3]))
        raise BadInput(
            f"{folder}: {len(missing)} of {counted(len(drawn), 'completion is', 'completions are')} missing (first: {shown}); a look judges all or "
            "nothing; complete them, no look was spent"
        )


def _submitted(
    options: LookOptions,
    opened: Opened,
    prompts: Sequence[holdout.SealedPrompt],
    header: holdout.Header,
    identity: ScorerIdentity,
) -> tuple[Submitted, dict[str, object]]:
    """Say whose completions these are, and in what room they are judged."""
    declared_prompts, declared_sampling = opened.declared.prompts, opened.declared.sampling
    name = options.completions or options.policy or ""
    spec = opened.policy.spec
    submitted = Submitted(name=name, policy=spec.name, identity=spec.identity)
    if options.completions is not None and Path(options.completions).is_dir():
        run = Path(options.completions)
        manifest = verify(run).manifest
        _refuse_other_prompts(run, prompts)
        declared_prompts, declared_sampling = manifest.room.prompts, manifest.room.sampling
        digest = hashlib.sha256((run / MANIFEST).read_bytes()).hexdigest()
        submitted = Submitted(
            name=name,
            policy=manifest.policy.name,
            identity=manifest.policy.identity,
            run_id=manifest.run_id,
            manifest_sha256=digest,
        )
    elif isinstance(opened.policy, RecordedPolicy):
        submitted = msgspec.structs.replace(submitted, completions_sha256=opened.policy.sha256())
    else:
        submitted = msgspec.structs.replace(submitted, seed=options.sampling.seed)
    return submitted, {
        "commitment": header.commitment,
        "prompts_sha256": header.prompts_sha256,
        "prompts": declared_prompts,
        "sampling": declared_sampling,
        "scorer": msgspec.to_builtins(identity),
    }


def _refuse_other_prompts(run: Path, prompts: Sequence[holdout.SealedPrompt]) -> None:
    asked = {row.id: row.prompt for batch in read_batches(run / EXAMPLES, Example) for row in batch.rows}
    other = next((prompt.id for prompt in prompts if asked.get(prompt.id) != prompt.prompt), None)
    if other is not None:
        raise BadInput(
            f"{run}: its completions were drawn for another prompt than the sealed one of id {visible(other, 60)!r}; "
            "draw completions for the prompts of `lockedroom holdout prompts`"
        )


def _measure(
    scorer: Scorer, examples: Sequence[Example], drawn: Sequence[Completion | Failure], draws: int
) -> Measured:
    results = judge(scorer, [example for example in examples for _ in range(draws)], drawn)
    passes = sum(isinstance(one, Score) and one.details.outcome is Outcome.CORRECT for one in results)
    return Measured(len(examples), draws, passes, sum(isinstance(one, Failure) for one in results))
