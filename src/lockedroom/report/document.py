"""From finished folders to a page: what kind each is decides its sections."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.errors import BadInput
from lockedroom.report.blocks import Page, Rows, Section, Table
from lockedroom.report.comparison_sections import comparison_facts, comparison_sections, comparison_verdict
from lockedroom.report.learning_sections import learning_facts, learning_sections, read_learning
from lockedroom.report.microscope_sections import frontier_sections, goodhart_sections, goodhart_verdict
from lockedroom.report.run_sections import (
    evaluate_sections,
    failure_modes,
    headline,
    provenance,
    records_section,
    selection_sections,
)
from lockedroom.results.compare import CompareOptions, compare
from lockedroom.results.inspection import read_summary
from lockedroom.results.kinds import Held, verify_folder
from lockedroom.results.learning_summary import BASE, LEARNED
from lockedroom.safeguards.manifest import NAME, Manifest, read_manifest
from lockedroom.visible import visible

CHECKED = "Every hash was checked, and every number derived again, before this page was made."


def make_page(runs: Sequence[Path], options: CompareOptions) -> Page:
    """Return the page of one folder, or of the comparison of several runs with the first.

    Everything is verified first. Raises BadInput (no finished folder, a kind without a page), Tampered and NotComparable.
    """
    if not runs:
        raise BadInput("name the run folders to report: lockedroom report RUN…")
    command = visible(shlex.join(["lockedroom", "report", *map(str, runs)]), 1000)
    if len(runs) > 1:
        return _comparison(runs, options, command)
    held = verify_folder(runs[0])
    if held.kind not in PAGES:
        raise BadInput(f"{runs[0]}: there is no page for the kind {held.kind!r}; there is one for {', '.join(PAGES)}")
    return PAGES[held.kind](runs[0], held, command)


def _records_page(sections: Callable[[Path, Manifest], list[Section]]) -> Callable[[Path, Held, str], Page]:
    """A page of a run of records, with these sections."""

    def page(run: Path, held: Held, command: str) -> Page:
        manifest = read_manifest(run)
        scorer = manifest.room.scorer
        return Page(
            title=f"{visible(manifest.policy.name, 80)} on {visible(manifest.room.dataset.split, 80)}",
            verdict=f"Judged by {visible(scorer.name, 80)} version {scorer.version}. {_held(held)}",
            facts=headline(manifest, read_summary(run)),
            sections=[*sections(run, manifest), provenance(run, manifest)],
            command=command,
        )

    return page


def _learning_page(run: Path, held: Held, command: str) -> Page:
    manifest, summary = read_manifest(run), read_learning(run)
    certificate = compare([run / BASE, run / LEARNED], CompareOptions(show=20), labels=[BASE, LEARNED])
    measured = [(run / name, read_manifest(run / name)) for name in (LEARNED, BASE)]
    records = [_named(records_section(*one), one[0]) for one in measured]
    return Page(
        title=f"{visible(summary.plan.policy, 80)}, taught by {visible(summary.plan.scorer, 80)}",
        verdict=f"{comparison_verdict(certificate)} than base. {_held(held)}",
        facts=learning_facts(summary),
        sections=[*learning_sections(run), *comparison_sections(certificate), *records, provenance(run, manifest)],
        command=command,
    )


def _microscope_page(
    title: str, sections: Callable[[Path], list[Section]], verdict: Callable[[Path], str] = lambda _: CHECKED
) -> Callable[[Path, Held, str], Page]:
    """A page of an experiment whose folder holds its result."""

    def page(run: Path, _: Held, command: str) -> Page:
        return Page(
            title=title, verdict=verdict(run), facts=[], sections=[*sections(run), _pinned(run)], command=command
        )

    return page


def _pinned(run: Path) -> Section:
    manifest: dict[str, Any] = json.loads((run / NAME).read_text("utf-8"))
    rows: Rows = [
        [visible(name, 80), visible(value if isinstance(value, str) else json.dumps(value), 600)]
        for name, value in manifest.items()
    ]
    return Section(
        title="Provenance", tables=[Table(header=["what", "value"], rows=rows, filterable=True)], folded=True
    )


def _comparison(runs: Sequence[Path], options: CompareOptions, command: str) -> Page:
    names = [run.name for run in runs]
    certificate = compare(runs, options, labels=names if len(set(names)) == len(names) else None)
    sections = comparison_sections(certificate)
    manifests = [read_manifest(run) for run in runs]
    for run, manifest in zip(runs, manifests, strict=True):
        sections += [_named(part, run) for part in (failure_modes(read_summary(run)), records_section(run, manifest))]
    sections += [provenance(run, manifest) for run, manifest in zip(runs, manifests, strict=True)]
    return Page(
        title=" against ".join(visible(name, 60) for name in reversed(names)),
        verdict=comparison_verdict(certificate),
        facts=comparison_facts(certificate),
        sections=sections,
        command=command,
    )


def _held(held: Held) -> str:
    unchecked = f" Not checked: {visible('; '.join(held.not_checked), 300)}." if held.not_checked else ""
    return CHECKED + unchecked


def _named(section: Section, run: Path) -> Section:
    return msgspec.structs.replace(section, title=f"{section.title} of {visible(run.name, 60)}")


# The kind that a manifest names -> its page.
PAGES: dict[str, Callable[[Path, Held, str], Page]] = {
    "evaluate": _records_page(evaluate_sections),
    "rescore": _records_page(evaluate_sections),
    "search": _records_page(evaluate_sections),
    "select": _records_page(selection_sections),
    "learn": _learning_page,
    "frontier": _microscope_page("The KL frontier", frontier_sections),
    "goodhart": _microscope_page("Goodhart's law, measured", goodhart_sections, goodhart_verdict),
}
