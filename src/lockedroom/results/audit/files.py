"""From an audit's report to the files of its folder, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.jsonl import encode_lines, read_batches
from lockedroom.results.audit.folder import BEHAVIOUR, FINDINGS, contents_of
from lockedroom.results.audit.rendering import render_audit
from lockedroom.results.run_folder import SUMMARY_JSON
from lockedroom.safeguards.audit.asking import Question
from lockedroom.safeguards.audit.examination import Report
from lockedroom.safeguards.audit.report import Finding

_NOT_IN_SUMMARY = ("findings", "behaviour")


def files_of(report: Report) -> dict[str, bytes]:
    """Return the content of every file of an audit folder that follows from the report."""
    return contents_of(report.findings, summary_of(report), render_audit(report) + "\n") | {
        BEHAVIOUR: encode_lines(report.behaviour)
    }


def summary_of(report: Report) -> dict[str, Any]:
    """Return what `summary.json` holds: the report without what stands in the other files."""
    return {name: value for name, value in msgspec.structs.asdict(report).items() if name not in _NOT_IN_SUMMARY}


def read_report(audit: Path) -> Report:
    """Return the report that an audit folder holds. Raises BadInput, or a msgspec or JSON error, for other files."""
    summary = json.loads((audit / SUMMARY_JSON).read_bytes())
    behaviour = audit / BEHAVIOUR
    return msgspec.convert(
        {
            **summary,
            "findings": msgspec.to_builtins(read_findings(audit)),
            "behaviour": msgspec.to_builtins(
                [row for batch in read_batches(behaviour, Question) for row in batch.rows]
            ),
        },
        Report,
        str_keys=True,
    )


def read_findings(audit: Path) -> list[Finding]:
    """Return the findings of an audit folder."""
    return [row for batch in read_batches(audit / FINDINGS, Finding) for row in batch.rows]
