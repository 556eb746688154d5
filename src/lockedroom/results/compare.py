"""Comparing finished runs: verified first, in one room or refused, then paired example by example.

`compare` returns what can be said of each further run against the first; `compare_anyway` shows runs that are not
comparable, without a verdict. A difference is always B − A: above 0, the later-named run is better.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from lockedroom.errors import BadInput, NotComparable
from lockedroom.jsonl import read_batches
from lockedroom.records import Example
from lockedroom.results.comparison.columns import Columns, read_columns
from lockedroom.results.comparison.knobs import Turned, check_knobs, find_turned
from lockedroom.results.comparison.migration import DiscordantIds, Migration, find_discordant, find_migration
from lockedroom.results.comparison.paired_numbers import (
    FailureBounds,
    PairedNumbers,
    Question,
    bounds_of,
    not_worse,
    numbers_of,
    p_value_of,
    require_question,
    verdict_of,
)
from lockedroom.results.comparison.room_difference import (
    FieldDifference,
    assume_equal,
    drawn_once,
    find_differences,
    refuse,
    room_fields,
)
from lockedroom.results.evaluation.inspection import read_summary
from lockedroom.results.evaluation.summary import Summary
from lockedroom.results.notebook import as_html
from lockedroom.results.run_folder import EXAMPLES, RECORDS
from lockedroom.results.selection.files import POOL, SELECTION_JSON
from lockedroom.results.verify import verify
from lockedroom.safeguards import manifest as manifests
from lockedroom.stats.paired import holm
from lockedroom.stats.verdict import Verdict
from lockedroom.visible import visible
from lockedroom.wording import counted

FORMAT = "lockedroom.comparison/1"


class CompareOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a comparison; `show` is how many discordant examples are kept with their completions."""

    margin: float | None = None
    confidence: float = 0.95
    assume_equal: tuple[str, ...] = ()
    knobs: tuple[str, ...] = ()
    metric: str = "pass"
    anytime: bool = False
    seed: int = 0
    show: int = 5


class RunFacts(msgspec.Struct, frozen=True):
    """Which run it is. `not_checked` is what verification could not check."""

    label: str
    run_id: str
    manifest_sha256: str
    policy: str
    draws: int
    seed: int
    not_checked: list[str]
    rescored_from: manifests.Origin | None


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """B against A. `p_value` is adjusted by Holm for all runs compared with A; `reasons` say why not more is claimed.

    drawn_once: fields that nobody declared and that are the same, since both runs hold the very same completions.
    """

    b: RunFacts
    assumed: list[FieldDifference]
    drawn_once: list[FieldDifference]
    turned: Turned
    numbers: PairedNumbers
    p_value: float
    bounds: FailureBounds | None
    verdict: Verdict
    reasons: list[str]
    not_worse: bool | None
    migration: Migration
    discordant: DiscordantIds
    notes: list[str]


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """One room, run A, and every other run against it."""

    format: str
    options: CompareOptions
    room: dict[str, Any]
    examples: int
    a: RunFacts
    against: list[Against]

    def _repr_html_(self) -> str:
        """The certificate, as a notebook shows it."""
        from lockedroom.results.comparison.rendering import render_certificate  # which needs this module

        return as_html(render_certificate(self))


class _Run(msgspec.Struct, frozen=True):
    path: Path
    facts: RunFacts
    manifest: manifests.Manifest


_Read: TypeAlias = tuple[_Run, Columns]


def compare(runs: Sequence[Path], options: CompareOptions, *, labels: Sequence[str] | None = None) -> Certificate:
    """Compare each further run with the first.

    Raises NotComparable (not one room, one run twice, two knobs at once), Tampered (a run that does not verify) and
    BadInput (no finished run, an unknown format, an option that cannot be used).
    """
    require_question(options.metric, options.confidence, options.margin, options.anytime)
    opened = _open(runs, labels)
    first = opened[0]
    rooms = [_one_room(first, other, options) for other in opened[1:]]
    columns_a = read_columns(first.path, first.manifest)
    parts = []
    for other, (assumed, once) in zip(opened[1:], rooms, strict=True):
        columns_b = read_columns(other.path, other.manifest)
        question = _question(first, options, len(opened) - 1)
        part = _measure((first, columns_a), (other, columns_b), options, question)
        parts.append(msgspec.structs.replace(part, assumed=assumed, drawn_once=once))
    adjusted = holm([p_value_of(part.numbers) for part in parts])
    return Certificate(
        format=FORMAT,
        options=options,
        room=room_fields(first.manifest.room),
        examples=first.manifest.room.dataset.examples,
        a=first.facts,
        against=[
            _judged(part, p_value, options, _question(first, options, len(parts)))
            for part, p_value in zip(parts, adjusted, strict=True)
        ],
    )


class Anyway(msgspec.Struct, frozen=True):
    """Runs shown side by side without a verdict, and what keeps each from being compared with the first."""

    runs: list[RunFacts]
    summaries: list[Summary]
    differences: list[list[FieldDifference]]


def compare_anyway(runs: Sequence[Path]) -> Anyway:
    """Return the numbers of verified runs and where their rooms differ. Raises Tampered and BadInput as `compare`."""
    opened = _open(runs, None)
    return Anyway(
        [run.facts for run in opened],
        [read_summary(run.path) for run in opened],
        [_differing(opened[0], run)[0] for run in opened[1:]],
    )


def origin_of(manifest: manifests.Manifest) -> str:
    """Return the run whose completions these are: a re-scored run is its origin with another instrument.

    A selection from a re-scored run has the same origin, and is told from it by its selection.
    """
    origin = manifest.inputs.rescored_from
    return manifest.run_id if origin is None else origin.run_id


def _open(runs: Sequence[Path], labels: Sequence[str] | None) -> list[_Run]:
    if len(runs) < 2:
        raise BadInput("a comparison needs at least two runs: lockedroom compare A B")
    opened = []
    for path, label in zip(runs, labels or [str(path) for path in runs], strict=True):
        verified = verify(path)
        manifest = verified.manifest
        facts = RunFacts(
            label=visible(label, 200),
            run_id=manifest.run_id,
            manifest_sha256=hashlib.sha256((path / manifests.NAME).read_bytes()).hexdigest(),
            policy=manifest.policy.name,
            draws=manifest.draws,
            seed=manifest.seed,
            not_checked=verified.not_checked,
            rescored_from=manifest.inputs.rescored_from,
        )
        opened.append(_Run(path, facts, manifest))
    return opened


def _one_room(a: _Run, b: _Run, options: CompareOptions) -> tuple[list[FieldDifference], list[FieldDifference]]:
    """Refuse, or return what a person stated to be equal, and what is the same because the completions are."""
    if origin_of(a.manifest) == origin_of(b.manifest) and a.manifest.selection == b.manifest.selection:
        raise NotComparable(
            f"not comparable: {a.facts.label} (A) and {b.facts.label} (B) are one run (run_id {origin_of(a.manifest)}), "
            "copied, renamed or re-scored; name two runs"
        )
    differences, once = _differing(a, b)
    known = [*room_fields(a.manifest.room), *room_fields(b.manifest.room)]
    left, assumed = assume_equal(differences, options.assume_equal, list(dict.fromkeys(known)))
    if left:
        other_examples = any(one.field == "dataset.sha256" for one in left)
        about = _shared_examples(a.path, b.path) if other_examples else ""
        refuse(a.facts.label, b.facts.label, left, assumed=options.assume_equal, about=about)
    check_knobs(find_turned(a.manifest, b.manifest), options.knobs, a.facts.label, b.facts.label)
    return assumed, once


def _differing(a: _Run, b: _Run) -> tuple[list[FieldDifference], list[FieldDifference]]:
    """Return the fields that are not known to be equal, and those that nobody declared of completions drawn once."""
    differences = find_differences(a.manifest.room, b.manifest.room)
    return drawn_once(differences) if _same_completions(a, b) else (differences, [])


def _same_completions(a: _Run, b: _Run) -> bool:
    """Whether both go back to one run, and what they hold of it is the same to the byte.

    Equal bytes alone may be luck: two policies can write the same few answers.
    """
    pools = [one.manifest.files.get(POOL, one.manifest.files[RECORDS]).sha256 for one in (a, b)]
    files = [one.manifest.inputs.completions_sha256 for one in (a, b)]
    return _drawn_by(a) == _drawn_by(b) and files[0] == files[1] and pools[0] == pools[1]


def _drawn_by(run: _Run) -> str:
    """Return the id of the run that the completions stand in: of a selection, the run that it chose from."""
    if SELECTION_JSON not in run.manifest.files:
        return run.manifest.run_id
    return msgspec.json.decode((run.path / SELECTION_JSON).read_bytes(), type=_Source).source_run_id


class _Source(msgspec.Struct):
    source_run_id: str


def _measure(a: _Read, b: _Read, options: CompareOptions, question: Question) -> Against:
    """Everything but the verdict, which needs the other comparisons' p-values."""
    (run_a, columns_a), (run_b, columns_b) = a, b
    assert columns_a.ids == columns_b.ids  # both verified against examples of one sha256
    numbers = numbers_of(columns_a, columns_b, question)
    return Against(
        b=run_b.facts,
        assumed=[],
        drawn_once=[],
        turned=find_turned(run_a.manifest, run_b.manifest),
        numbers=numbers,
        p_value=p_value_of(numbers),
        bounds=bounds_of(columns_a, columns_b, question),
        verdict=Verdict.INCONCLUSIVE,
        reasons=[],
        not_worse=None,
        migration=find_migration(columns_a, columns_b),
        discordant=find_discordant((run_a.path, run_b.path), columns_a, columns_b, options.metric, options.show),
        notes=_notes(run_a, run_b, columns_a, columns_b, options),
    )


def _judged(part: Against, p_value: float, options: CompareOptions, question: Question) -> Against:
    capped = None if part.turned.knobs else part.turned.meaning
    verdict, reasons = verdict_of(part.numbers, p_value, part.bounds, question, capped=capped)
    holds = None
    if options.margin is not None:
        holds = not_worse(part.numbers, part.bounds, options.margin)
    return msgspec.structs.replace(part, p_value=p_value, verdict=verdict, reasons=reasons, not_worse=holds)


def _question(a: _Run, options: CompareOptions, comparisons: int) -> Question:
    spec = a.manifest.scorer
    graded_range = spec.reward_range if spec.codes else None  # without a vocabulary nobody declared a range either
    return Question(
        metric=options.metric,
        confidence=options.confidence,
        margin=options.margin,
        anytime=options.anytime,
        seed=options.seed,
        comparisons=comparisons,
        reward_range=(0.0, 1.0) if options.metric == "pass" else graded_range,
    )


def _notes(a: _Run, b: _Run, columns_a: Columns, columns_b: Columns, options: CompareOptions) -> list[str]:
    notes = []
    if a.manifest.draws != b.manifest.draws:
        notes.append(
            f"draws an example: {a.manifest.draws} in A, {b.manifest.draws} here; draws are measurement effort, not a "
            "knob; each example counts by its mean, and the test, which supposes symmetric differences, is approximate"
        )
    kinds = (a.manifest.policy.kind, b.manifest.policy.kind)
    if kinds[0] != kinds[1]:
        notes.append(
            f"A was drawn by a policy of kind {kinds[0]}, this by one of kind {kinds[1]}: engine, precision and chat template "
            "are the policy's, so a difference may be theirs as well as the model's"
        )
    if a.manifest.files[RECORDS].sha256 == b.manifest.files[RECORDS].sha256:
        notes.append("its records are byte-identical with A's")
    graded = any((columns.rewards != columns.passed)[columns.scored].any() for columns in (columns_a, columns_b))
    if graded and options.metric == "pass":
        notes.append(
            "some rewards are not just 1 for correct and 0 otherwise: this compares pass rates; --metric reward compares "
            "mean rewards"
        )
    if not a.manifest.scorer.codes:
        notes.append("the scorer declares no codes, so what passed was read from the reward (1) where it did not say")
    return notes


def _shared_examples(a: Path, b: Path) -> str:
    """Say how many ids two runs share, and how many of those with the same content."""
    contents_a, contents_b = (_contents(path) for path in (a, b))
    shared = [name for name in contents_a if name in contents_b]
    alike = sum(contents_a[name] == contents_b[name] for name in shared)
    only = [next((name for name in one if name not in two), None) for one, two in
            ((contents_a, contents_b), (contents_b, contents_a))]  # fmt: skip
    first = "".join(
        f"; only in {side}: {visible(name, 60)!r}, …" for side, name in zip("AB", only, strict=True) if name is not None
    )
    order = "; they stand in another order" if alike == len(contents_a) == len(contents_b) else ""
    return (
        f"A has {counted(len(contents_a), 'example')}, B {len(contents_b):,}; {counted(len(shared), 'id is', 'ids are')} in both, "
        f"{alike:,} of them with the same content{first}{order}"
    )


def _contents(run: Path) -> dict[str, bytes]:
    return {
        example.id: hashlib.sha256(line).digest()[:16]
        for batch in read_batches(run / EXAMPLES, Example)
        for example, line in zip(batch.rows, batch.raw.split(b"\n"), strict=False)
    }
