"""Verifying an audit folder: its hashes, its numbers from its findings, and its findings on the scorer itself."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.errors import BadInput, Tampered
from lockedroom.results.audit.files import files_of, read_report
from lockedroom.results.audit.folder import (
    FINDINGS,
    AuditManifest,
    check_audit_hashes,
    contents_of,
    read_audit_manifest,
)
from lockedroom.results.audit.mined import read_mined, render_mined
from lockedroom.results.verify import verify
from lockedroom.safeguards.audit.asking import Clock, opener
from lockedroom.safeguards.audit.behaviour import DRIFT_CALLS, Ways
from lockedroom.safeguards.audit.examination import MOST_FINDINGS, Report
from lockedroom.safeguards.audit.replaying import OF_THE_MACHINE, Replayed, Subject, replay
from lockedroom.safeguards.audit.report import Finding, Verdict, What, budget_of
from lockedroom.safeguards.audit.surroundings import installed_locale
from lockedroom.scorer.builtin import find_builtin
from lockedroom.scorer.custom import parse_target
from lockedroom.scorer.identity import source_sha256
from lockedroom.visible import visible
from lockedroom.wording import counted

SHOWN = 5
# A replay has no budget: it ends when every finding was asked, and each call has its own time-out.
NO_LIMIT_S = 86_400.0
_FAILING = (What.HANGS, What.DIES, What.RAISES, What.INVALID)


class CheckedAudit(msgspec.Struct, frozen=True):
    """`again` of the findings were made again, or seen again; `not_checked` says why others were not."""

    files: int
    findings: int
    again: int
    not_checked: list[str]


def verify_audit(path: Path) -> CheckedAudit:
    """Check an audit folder, and replay its findings where the scorer is here unchanged. Raises Tampered, BadInput."""
    manifest, report = open_audit(path)
    try:
        trouble = _check_numbers(report, manifest)
    except BadInput as error:  # counts that no audit has
        trouble = [f"summary.json: {error}"]
    not_checked: list[str] = []
    replayed: list[Replayed] = []
    if not trouble:
        try:
            replayed = replay_findings(manifest, report, report.findings)
        except BadInput as error:
            not_checked.append(f"findings were not replayed: {error}")
        trouble, more = _compare(report.findings, replayed)
        not_checked += more
    _refuse(path, trouble)
    again = sum(bool(one.again) for one in replayed)
    return CheckedAudit(len(manifest.files), len(report.findings), again, not_checked)


def open_audit(path: Path) -> tuple[AuditManifest, Report]:
    """Return what an audit folder holds, when its hashes and its text hold. Raises Tampered, and BadInput for no audit."""
    manifest = read_audit_manifest(path)
    if manifest.kind != "audit":
        raise BadInput(f"{path}: is no audit of a scorer, but one of kind {visible(manifest.kind, 40)!r}")
    _refuse(path, check_audit_hashes(path, manifest))
    try:
        report = read_report(path)
        trouble = [
            f"{name}: is not what the findings and the summary give"
            for name, content in files_of(report).items()
            if name not in manifest.files or (path / name).read_bytes() != content
        ]
    except (ValueError, RecursionError, msgspec.MsgspecError, BadInput) as error:
        trouble = [f"does not read as an audit: {visible(str(error), 300)}"]
    _refuse(path, trouble)
    return manifest, report


def replay_findings(manifest: AuditManifest, report: Report, findings: Sequence[Finding]) -> list[Replayed]:
    """Ask the scorer of an audit about findings again. Raises BadInput when it is not here, or is another one."""
    config: dict[str, Any] = manifest.config
    name = str(config["scorer"])
    builtin = find_builtin(name)
    source = builtin.source if builtin is not None else parse_target(name)[0]
    if source_sha256(source) != manifest.subject["source_sha256"]:
        raise BadInput(f"{source}: is not the file that was audited: it has changed since")
    fresh = opener(
        name if builtin is None else f"{source}:score",
        signature=config["signature"],
        timeout_s=min(config["scorer_timeout"], config["budget"] / 4),
        memory_mb=config["scorer_memory"],
        import_timeout_s=config["budget"],
    )
    ways = Ways(config["seed"], DRIFT_CALLS, installed_locale())
    subject = Subject(fresh, report.scorer.reward_range[1], report.behaviour, ways)
    return replay(findings, subject, Clock(NO_LIMIT_S))


def verify_mined(path: Path) -> CheckedAudit:
    """Check an audit of a run's own completions, and mine the run again where it is here unchanged."""
    manifest = read_audit_manifest(path)
    _refuse(path, check_audit_hashes(path, manifest))
    run = Path(str(manifest.config["from"]))
    not_checked: list[str] = []
    rows = manifest.files[FINDINGS].lines
    try:
        source = verify(run).manifest
        if {name: entry.sha256 for name, entry in source.files.items()} != manifest.inputs:
            raise BadInput(f"{run}: is another run than the one that was read")
    except (BadInput, Tampered) as error:
        not_checked.append(f"completions were not read again: {error}")
    else:
        done = read_mined(run, source, path, manifest.config["confidence"])
        contents = contents_of(done.finds, done.summary(), render_mined(done) + "\n")
        _refuse(path, [f"{name}: is not what {run} gives" for name, content in contents.items()
                       if (path / name).read_bytes() != content])  # fmt: skip
    return CheckedAudit(len(manifest.files), rows, 0 if not_checked else rows, not_checked)


def _refuse(path: Path, trouble: Sequence[str]) -> None:
    if trouble:
        listed = "".join(f"\n  - {line}" for line in trouble[:SHOWN])
        raise Tampered(f"{path}: does not verify; do not use its numbers:{listed}")


def _check_numbers(report: Report, manifest: AuditManifest) -> list[str]:
    """Derive verdict, payments, failures, intervals and what they imply again."""
    trouble = []
    source = manifest.subject
    if (report.scorer.name, report.scorer.version) != (source.get("scorer"), source.get("version")):
        trouble.append("the summary's scorer is not the manifest's")
    if report.verdict is Verdict.CLEAN and (report.findings or report.incomplete or report.reasons):
        trouble.append(
            "summary.json: the verdict is 'no finding', and there are findings, or parts that were not asked"
        )
    if report.verdict is Verdict.FINDINGS and not report.findings:
        trouble.append(f"summary.json: the verdict is {report.verdict.value!r}, and there is none in findings.jsonl")
    if report.errors is not None:
        errors = report.errors
        if (
            budget_of(errors.families, errors.correct_judged, errors.correct_paid, manifest.config["confidence"])
            != errors
        ):
            trouble.append("summary.json: rates and intervals are not those that its counts give")
        if len(report.findings) < MOST_FINDINGS:
            trouble += _check_counts(report)
    return trouble


def _check_counts(report: Report) -> list[str]:
    """Every payment and every failure of a family is in one of its findings (a hang that did not return, in a note)."""
    assert report.errors is not None
    paid, failed = Counter[str](), Counter[str]()
    for one in report.findings:
        paid[one.family] += one.cases * (one.what is What.PAYS)
        failed[one.family] += one.cases * (one.what in _FAILING)
    dropped = math.inf if any("ran out of time and did not when repeated" in note for note in report.notes) else 0
    trouble = []
    for row in report.errors.families:
        if row.paid != paid[row.family]:
            trouble.append(f"summary.json: {row.family}: {row.paid} paid, and its findings hold {paid[row.family]}")
        if not 0 <= row.failures - failed[row.family] <= dropped:
            trouble.append(
                f"summary.json: {row.family}: {row.failures} without a verdict, and its findings hold {failed[row.family]}"
            )
    return trouble


def _compare(findings: Sequence[Finding], replayed: Sequence[Replayed]) -> tuple[list[str], list[str]]:
    """Return what contradicts the audit, and what could not be seen again for another reason."""
    trouble, alone, machine = [], [], []
    # A scorer without a steady verdict may show a finding now and not then: no proof that anything was changed.
    steady = all(one.what is not What.UNSTABLE for one in findings)
    for one, again in zip(findings, replayed, strict=False):  # nothing was replayed where the scorer is not here
        if one.what in OF_THE_MACHINE:
            machine += [one.id] * (not again.again)
        elif one.replays and again.again is False and steady:
            trouble.append(f"findings.jsonl: {one.id}: the scorer does not do this: {visible(again.said, 200)}")
        elif not again.again:
            alone.append(one.id)
    not_checked = []
    if alone:
        not_checked.append(
            f"{counted(len(alone), 'finding does', 'findings do')} not show when replayed alone, as the audit says: {', '.join(alone[:SHOWN])}"
        )
    if machine:
        not_checked.append(
            f"{counted(len(machine), 'call')} that never came back did so here: {', '.join(machine[:SHOWN])}"
        )
    return trouble, not_checked
