"""`verify`: every hash checked and every number re-derived from the raw records, with no model and no network."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import msgspec

from lockedroom.dataset.load import canonical_line
from lockedroom.errors import BadInput, Tampered
from lockedroom.jsonl import encode_lines, read_batches
from lockedroom.records import Completion, Example, FailureCode, Record, Score
from lockedroom.results.evaluation.exact import EXACT_JSON, EXACT_JSONL, ExactExample, sampled_beside, sum_up
from lockedroom.results.evaluation.rendering import render_summary
from lockedroom.results.evaluation.summary import summarise
from lockedroom.results.evaluation.tally import Tally, pair_with_examples
from lockedroom.results.run_folder import CONFIG, EXAMPLES, RECORDS, SUMMARY_JSON, SUMMARY_MD, indented_json
from lockedroom.results.selection.adaptive import check_adaptive
from lockedroom.results.selection.check import check_selection, not_checked_of, refuse_other_format
from lockedroom.results.selection.search import check_search
from lockedroom.safeguards import manifest as manifests
from lockedroom.safeguards.room import prompts_sha256
from lockedroom.scorer.battery import BATTERY
from lockedroom.scorer.builtin import BuiltinScorer, find_builtin
from lockedroom.scorer.identity import fingerprint, source_sha256
from lockedroom.wording import counted

SHOWN = 5


class Verified(msgspec.Struct, frozen=True):
    """What was checked. `rescored` counts verdicts made again by a built-in scorer; `not_checked` says what was not."""

    path: str
    manifest: manifests.Manifest
    files: int
    attempts: int
    rescored: int
    not_checked: list[str]


def verify(run: Path) -> Verified:
    """Check a finished run against its manifest, its records and (for a built-in scorer) the scorer itself.

    Raises Tampered naming everything that does not hold; BadInput when `run` is no finished run.
    """
    manifest = manifests.read_manifest(run)
    if manifest.kind == "learn":
        raise BadInput(f"{run}: a learning run; the runs that measured it are {run}/base and {run}/learned: name those")
    trouble = [*_check_sums(run, manifest), *_check_files(run, manifest)] or list(_check_size(manifest))
    if trouble:
        _refuse(run, trouble)
    refuse_other_format(run, manifest)
    scorer, not_checked = _scorer_of(manifest)
    derived = _Derivation(manifest, scorer)
    try:
        trouble = [*itertools.islice(derived.check(run), SHOWN), *_check_summary(run, manifest, derived.tally)]
        trouble += _check_exact(run, manifest, derived.tally)
        trouble += [*check_selection(run, manifest, scorer), *check_search(run, manifest)]
        trouble += check_adaptive(run, manifest, scorer)
    except (BadInput, OSError, msgspec.DecodeError) as error:
        trouble = [str(error)]
    trouble += _check_room(run, manifest, derived.tally, scorer)
    if trouble:
        _refuse(run, trouble)
    not_checked += not_checked_of(manifest)
    return Verified(str(run), manifest, len(manifest.files), derived.attempts, derived.rescored, not_checked)


def _refuse(run: Path, trouble: list[str]) -> None:
    listed = "".join(f"\n  - {line}" for line in trouble)
    raise Tampered(f"{run}: does not verify; do not use its numbers:{listed}")


def _check_sums(run: Path, manifest: manifests.Manifest) -> Iterator[str]:
    """The manifest against SHA256SUMS, which holds the manifest's own hash."""
    path = run / manifests.SUMS_NAME
    if not path.is_file():
        yield f"{manifests.SUMS_NAME} is missing"
        return
    raw, sums = (run / manifests.NAME).read_bytes(), path.read_bytes()
    if f"{hashlib.sha256(raw).hexdigest()}  {manifests.NAME}\n".encode() not in sums:
        yield f"{manifests.NAME} was changed after the run was closed (its sha256 is not the one in {manifests.SUMS_NAME})"
    elif raw != manifests.encode_manifest(manifest):
        yield f"{manifests.NAME} is not as lockedroom writes it: it holds something that this version does not read"
    elif sums != manifests.checksum_lines(manifest):
        yield f"{manifests.SUMS_NAME} and {manifests.NAME} do not list the same files and hashes"


def _check_files(run: Path, manifest: manifests.Manifest) -> Iterator[str]:
    for required in (RECORDS, EXAMPLES, CONFIG, SUMMARY_JSON, SUMMARY_MD):
        if required not in manifest.files:
            yield f"the manifest does not list {required}"
    for name, entry in manifest.files.items():
        path = run / name
        if "/" in name or not path.is_file():
            yield f"{name} is missing"
            continue
        found = manifests.measure_file(path)
        if found != entry:
            what = (
                f"{counted(found.lines, 'line')} instead of {entry.lines:,}"
                if found.lines != entry.lines
                else "other bytes"
            )
            yield f"{name} was changed: {what} (sha256 {found.sha256[:12]}…, the manifest says {entry.sha256[:12]}…)"


def _check_size(manifest: manifests.Manifest) -> Iterator[str]:
    draws, attempts = manifest.draws, manifest.files[RECORDS].lines
    if draws < 1 or draws * manifest.room.dataset.examples != attempts:
        yield f"the manifest says {counted(manifest.room.dataset.examples, 'example')} × {counted(draws, 'draw')}, {RECORDS} holds {attempts:,}"
    if manifest.selection.get("draws") != draws:
        yield f"the manifest says {counted(draws, 'draw')}, and under selection {manifest.selection.get('draws')!r}"


def _scorer_of(manifest: manifests.Manifest) -> tuple[BuiltinScorer | None, list[str]]:
    """The built-in scorer that judged the run, if this installation has it unchanged."""
    identity = manifest.room.scorer
    builtin = find_builtin(identity.name)
    if builtin is None:
        return None, [f"rewards were not judged again: {identity.name} is not a built-in scorer"]
    if source_sha256(builtin.source) != identity.source_sha256:
        return None, [f"rewards were not judged again: this installation's {identity.name} has another source"]
    return builtin, []


class _Derivation:
    """One pass over examples and records side by side."""

    def __init__(self, manifest: manifests.Manifest, scorer: BuiltinScorer | None) -> None:
        self._manifest, self._scorer = manifest, scorer
        self.tally = Tally(draws=manifest.draws, codes={}, failures={}, passes={}, graded_passes={})
        self.attempts = self.rescored = 0

    def check(self, run: Path) -> Iterator[str]:
        draws = self._manifest.draws
        records = self._records(run / RECORDS)
        for batch in read_batches(run / EXAMPLES, Example):
            if canonical_line(batch.rows) != batch.raw:
                yield f"{EXAMPLES}:{batch.first_line}: from here on, a line is not as lockedroom writes it"
            part = list(itertools.islice(records, len(batch.rows) * draws))
            misplaced = pair_with_examples(part, batch.rows, draws)
            if misplaced is not None:
                yield f"{RECORDS}:{self.attempts + misplaced + 1}: is not the record expected here (examples × draws, in order)"
                return
            yield from self._check_verdicts(batch.rows, part)
            self.tally.add(part, self._manifest.scorer)
            self.attempts += len(part)
        if next(records, None) is not None:
            yield f"{RECORDS}:{self.attempts + 1}: more records than examples × draws"

    def _records(self, path: Path) -> Iterator[Record]:
        for batch in read_batches(path, Record):
            if encode_lines(batch.rows) != batch.raw:
                raise BadInput(f"{RECORDS}:{batch.first_line}: from here on, a line is not as lockedroom writes it")
            yield from batch.rows

    def _check_verdicts(self, examples: list[Example], records: list[Record]) -> Iterator[str]:
        fixed = {code.name: code for code in self._manifest.scorer.codes}
        draws = self._manifest.draws
        for i, record in enumerate(records):
            result = record.result
            where = f"{RECORDS}:{self.attempts + i + 1}: id {record.id!r}, draw {record.draw}"
            if isinstance(result, Score):
                if record.completion is None:
                    yield f"{where}: has a score and no completion"
                code = fixed.get(result.details.code)
                if fixed and (code is None or code.outcome is not result.details.outcome):
                    yield f"{where}: code {result.details.code!r} with outcome {result.details.outcome.value!r} is not the scorer's"
                elif code is not None and code.reward is not None and code.reward != result.reward:
                    yield f"{where}: reward {result.reward} does not go with code {code.name!r}"
            if self._scorer is not None and isinstance(record.completion, Completion):
                again = self._scorer.score(examples[i // draws], record.completion.text)
                self.rescored += 1
                if again != result:
                    yield f"{where}: {self._scorer.spec.name} judges this completion otherwise ({again.details.code}, reward {again.reward})"


def _check_summary(run: Path, manifest: manifests.Manifest, tally: Tally) -> Iterator[str]:
    raw = (run / SUMMARY_JSON).read_bytes()
    try:
        confidence = msgspec.json.decode(raw, type=_ConfidenceOnly).confidence
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        yield f"{SUMMARY_JSON}: not a summary: {error}"
        return
    if not 0 < confidence < 1:
        yield f"{SUMMARY_JSON}: confidence {confidence} is not between 0 and 1"
        return
    summary = summarise(tally, manifest.scorer, confidence)
    if indented_json(summary) != raw:
        yield f"{SUMMARY_JSON}: its numbers are not those that {RECORDS} gives"
    elif render_summary(summary, manifest).encode() != (run / SUMMARY_MD).read_bytes():
        yield f"{SUMMARY_MD}: its text is not what {SUMMARY_JSON} gives"


def _check_exact(run: Path, manifest: manifests.Manifest, tally: Tally) -> Iterator[str]:
    """The exact means follow from the exact rows; the rows themselves need the policy and are taken as written."""
    if EXACT_JSON not in manifest.files:
        return
    rows = [row for batch in read_batches(run / EXACT_JSONL, ExactExample) for row in batch.rows]
    confidence = msgspec.json.decode((run / EXACT_JSON).read_bytes(), type=_ConfidenceOnly).confidence
    summary = summarise(tally, manifest.scorer, confidence)
    if (
        indented_json(sum_up(rows, sampled_beside(summary), manifest.draws, confidence))
        != (run / EXACT_JSON).read_bytes()
    ):
        yield f"{EXACT_JSON}: its numbers are not those that {EXACT_JSONL} and {RECORDS} give"


class _ConfidenceOnly(msgspec.Struct):
    confidence: float


def _check_room(run: Path, manifest: manifests.Manifest, tally: Tally, scorer: BuiltinScorer | None) -> Iterator[str]:
    dataset = manifest.room.dataset
    if dataset.sha256 != manifest.files[EXAMPLES].sha256:
        yield f"the room's dataset sha256 is not that of {EXAMPLES}"
    if dataset.examples != tally.examples:
        yield f"the room says {counted(dataset.examples, 'example')}, {EXAMPLES} holds {tally.examples:,}"
    rendered = manifest.room.prompts.get("sha256")
    if rendered is not None and rendered != prompts_sha256(run / EXAMPLES):
        yield f"the room's prompts sha256 is not that of the prompts in {EXAMPLES}"
    if manifest.scorer.name != manifest.room.scorer.name or manifest.scorer.version != manifest.room.scorer.version:
        yield "the room's scorer is not the manifest's scorer"
    if scorer is not None and scorer.spec != manifest.scorer:
        yield f"the manifest's scorer is not {scorer.spec.name} as this source declares it"
    if scorer is not None and fingerprint(itertools.starmap(scorer.score, BATTERY)) != manifest.room.scorer.fingerprint:
        yield f"the room's scorer fingerprint is not that of {scorer.spec.name}"
    missing = tally.failures.get(FailureCode.MISSING_COMPLETION.value)
    if manifest.inputs.completions is not None and manifest.inputs.missing_completions != (
        missing.count if missing else 0
    ):
        yield f"the manifest says {counted(manifest.inputs.missing_completions, 'missing completion')}, {RECORDS} holds another number"
