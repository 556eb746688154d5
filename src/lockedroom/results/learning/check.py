"""Verifying a learning run: completions judged again, metrics and summary derived again, the measuring runs verified.

What needs the model is taken as written and said so: losses, gradient norms, exact distributions, and that these weights
are what these steps lead to (learning again with the same configuration shows that, bit for bit).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import msgspec

from lockedroom.dataset.load import canonical_line
from lockedroom.errors import BadInput, Tampered
from lockedroom.jsonl import read_batches
from lockedroom.records import Completion, Example, Record
from lockedroom.results.learning.metrics import (
    EVALUATION_RECORDS,
    EVALUATIONS,
    STEPS,
    TIMING,
    Drawn,
    Evaluation,
    StepMetrics,
    measure_drawn,
    pass_interval,
)
from lockedroom.results.learning.rendering import render_learning
from lockedroom.results.learning.summary import BASE, LEARNING_JSON, LEARNING_MD, LearningSummary, Plan, sum_up_learning
from lockedroom.results.run_folder import CONFIG, EXAMPLES, RECORDS, indented_json
from lockedroom.results.verify import verify
from lockedroom.safeguards.manifest import (
    NAME,
    SUMS_NAME,
    Manifest,
    checksum_lines,
    encode_manifest,
    measure_file,
    read_manifest,
)
from lockedroom.safeguards.room import prompts_sha256
from lockedroom.scorer.builtin import BuiltinScorer, find_builtin
from lockedroom.scorer.identity import source_sha256
from lockedroom.visible import visible
from lockedroom.wording import counted

SHOWN = 5
REQUIRED = (CONFIG, EXAMPLES, RECORDS, STEPS, EVALUATIONS, EVALUATION_RECORDS, TIMING, LEARNING_JSON, LEARNING_MD)
NOT_CHECKED = (
    "losses, gradients and exact distributions were not made again: they need the model; learning again with the same "
    "configuration does"
)


class LearningChecked(msgspec.Struct):
    """What was gone through: files hashed, completions read, verdicts made again, runs within that hold as well."""

    files: int = 0
    attempts: int = 0
    rescored: int = 0
    runs: int = 0
    not_checked: list[str] = []


def verify_learning(run: Path) -> LearningChecked:
    """Check a finished learning run and every run within it. Raises Tampered naming what does not hold, and BadInput."""
    manifest = read_manifest(run)
    if manifest.kind != "learn":
        raise BadInput(f"{run}: is a run of kind {visible(manifest.kind, 40)!r}, not a learning run")
    _refuse(run, _check_hashes(run, manifest))
    identity, scorer = manifest.room.scorer, find_builtin(manifest.room.scorer.name)
    checked = LearningChecked(files=len(manifest.files), not_checked=[NOT_CHECKED])
    if scorer is None or source_sha256(scorer.source) != identity.source_sha256:
        scorer = None
        checked.not_checked.append(
            f"rewards were not judged again: {identity.name} is not this installation's built-in scorer"
        )
    try:
        trouble = list(itertools.islice(check_learning(run, manifest, scorer, checked), SHOWN))
    except (BadInput, OSError, msgspec.DecodeError, ArithmeticError) as error:
        trouble = [visible(str(error), 300)]
    _refuse(run, trouble)
    return checked


def _refuse(run: Path, trouble: list[str]) -> None:
    if trouble:
        listed = "".join(f"\n  - {line}" for line in trouble)
        raise Tampered(f"{run}: does not verify; do not use its numbers:{listed}")


def _check_hashes(run: Path, manifest: Manifest) -> list[str]:
    sums = run / SUMS_NAME
    trouble = []
    if (run / NAME).read_bytes() != encode_manifest(manifest):
        trouble.append(f"{NAME} is not as lockedroom writes it")
    if not sums.is_file() or sums.read_bytes() != checksum_lines(manifest):
        trouble.append(f"{SUMS_NAME} is missing, or does not list the files and hashes of {NAME}")
    trouble += [f"the manifest does not list {name}" for name in REQUIRED if name not in manifest.files]
    for name, entry in manifest.files.items():
        if ".." in Path(name).parts or Path(name).is_absolute() or not (run / name).is_file():
            trouble.append(f"{visible(name, 60)} is missing")
        elif measure_file(run / name) != entry:
            trouble.append(f"{visible(name, 60)} was changed: its sha256 is not the one in {NAME}")
    return trouble


def check_learning(
    run: Path, manifest: Manifest, scorer: BuiltinScorer | None, checked: LearningChecked
) -> Iterator[str]:
    """Yield what does not hold of a learning run, beyond its hashes; `scorer` judges every completion again."""
    saved = msgspec.json.decode((run / LEARNING_JSON).read_bytes(), type=LearningSummary)
    plan = saved.plan
    train = _examples(run / EXAMPLES)
    yield from _check_room(run, manifest, plan)
    steps = [step for batch in read_batches(run / STEPS, StepMetrics) for step in batch.rows]
    if [step.step for step in steps] != list(range(plan.steps)):
        yield f"{STEPS}: does not hold the steps 0 to {plan.steps - 1}, one a line"
        return
    check = _Check(train, scorer, checked)
    yield from check.file(run / RECORDS, steps, size=plan.prompts * plan.group, group=plan.group)
    dev = _examples(run / BASE / EXAMPLES)
    evaluations = [one for batch in read_batches(run / EVALUATIONS, Evaluation) for one in batch.rows]
    for one in evaluations:
        if (one.pass_low, one.pass_high) != pass_interval(one, plan.confidence):
            yield f"{EVALUATIONS}, step {one.step}: the interval is not that of its pass rate"
    size = manifest.files[EVALUATION_RECORDS].lines // max(len(evaluations), 1)
    yield from _Check(dev, scorer, checked).file(run / EVALUATION_RECORDS, evaluations, size=size, group=1)
    for name in saved.runs:
        verify(run / name)  # raises Tampered itself
        checked.runs += 1
    derived = sum_up_learning(run, plan)
    if indented_json(derived) != (run / LEARNING_JSON).read_bytes():
        yield f"{LEARNING_JSON}: its numbers are not those that the steps and the measuring runs give"
    elif render_learning(derived).encode() != (run / LEARNING_MD).read_bytes():
        yield f"{LEARNING_MD}: its text is not what {LEARNING_JSON} gives"


def _examples(path: Path) -> dict[str, Example]:
    found: dict[str, Example] = {}
    for batch in read_batches(path, Example):
        if canonical_line(batch.rows) != batch.raw:
            raise BadInput(f"{path.name}:{batch.first_line}: from here on, a line is not as lockedroom writes it")
        found |= {example.id: example for example in batch.rows}
    return found


def _check_room(run: Path, manifest: Manifest, plan: Plan) -> Iterator[str]:
    if manifest.room.dataset.sha256 != manifest.files[EXAMPLES].sha256:
        yield f"the room's dataset sha256 is not that of {EXAMPLES}"
    if manifest.room.dataset.examples != manifest.files[EXAMPLES].lines:
        yield f"the room says {counted(manifest.room.dataset.examples, 'example')}, {EXAMPLES} holds another number"
    if manifest.room.prompts.get("sha256") != prompts_sha256(run / EXAMPLES):
        yield f"the room's prompts sha256 is not that of the prompts in {EXAMPLES}"
    asked = (manifest.draws, manifest.policy.name, manifest.scorer.name, manifest.seed)
    if asked != (plan.group, plan.policy, plan.scorer, plan.sampling.seed):
        yield f"{LEARNING_JSON}: its plan is not what the manifest says (group, policy, scorer, seed)"


class _Check:
    """Records of one file against the metrics that were derived from them, part by part."""

    def __init__(self, examples: dict[str, Example], scorer: BuiltinScorer | None, checked: LearningChecked) -> None:
        self.examples, self.scorer, self.checked = examples, scorer, checked

    def file(
        self, path: Path, metrics: list[StepMetrics] | list[Evaluation], *, size: int, group: int
    ) -> Iterator[str]:
        records = (record for batch in read_batches(path, Record) for record in batch.rows)
        for one in metrics:
            part = list(itertools.islice(records, size))
            where = f"{path.name}, step {one.step}"
            if len(part) != size or not _in_groups(part, group) or any(row.id not in self.examples for row in part):
                yield f"{where}: does not hold {counted(size, 'record')} in groups of {group}, of examples of this run"
                return
            self.checked.attempts += size
            yield from self._judged_again(where, part)
            derived = measure_drawn(part, group)
            if any(getattr(derived, name) != getattr(one, name) for name in Drawn.__struct_fields__):
                yield f"{where}: the metrics are not those of its records"
        if next(records, None) is not None:
            yield f"{path.name}: holds more records than its steps"

    def _judged_again(self, where: str, part: list[Record]) -> Iterator[str]:
        if self.scorer is None:
            return
        for record in part:
            if isinstance(record.completion, Completion):
                self.checked.rescored += 1
                if self.scorer.score(self.examples[record.id], record.completion.text) != record.result:
                    yield f"{where}: id {record.id!r}, draw {record.draw}: {self.scorer.spec.name} judges it otherwise"


def _in_groups(part: list[Record], group: int) -> bool:
    starts = range(0, len(part), group)
    return all(
        [(row.id, row.draw) for row in part[start : start + group]]
        == [(part[start].id, draw) for draw in range(group)]
        for start in starts
    )  # fmt: skip
