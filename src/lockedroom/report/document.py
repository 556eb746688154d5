"""From finished folders to a page: what kind each is decides its sections."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from lockedroom.errors import BadInput
from lockedroom.report.audit_sections import (
    audit_facts,
    audit_sections,
    audit_title,
    audit_verdict,
    mined_sections,
    mined_verdict,
)
from lockedroom.report.blocks import Fact, Page, Section
from lockedroom.report.browse import MOST_CHARACTERS, MOST_RECORDS
from lockedroom.report.comparison_sections import (
    anyway_sections,
    comparison_facts,
    comparison_sections,
    comparison_verdict,
)
from lockedroom.report.learning_sections import learning_facts, learning_sections, read_learning
from lockedroom.report.microscope_sections import (
    bandit_sections,
    bandit_verdict,
    frontier_sections,
    frontier_verdict,
    goodhart_facts,
    goodhart_sections,
    goodhart_verdict,
)
from lockedroom.report.provenance import provenance
from lockedroom.report.run_sections import (
    adaptive_sections,
    evaluate_sections,
    failure_modes,
    headline,
    records_section,
    selected_by,
    selection_sections,
)
from lockedroom.results.audit.check import open_audit
from lockedroom.results.compare import CompareOptions, compare, compare_anyway
from lockedroom.results.comparison.rendering import STAMP
from lockedroom.results.evaluation.inspection import read_summary
from lockedroom.results.kinds import Held, verify_folder
from lockedroom.results.learning.summary import BASE, LEARNED
from lockedroom.safeguards.manifest import Manifest, read_manifest
from lockedroom.visible import visible

CHECKED = "Every hash was checked, and every number derived again, before this page was made."


def make_page(runs: Sequence[Path], options: CompareOptions) -> Page:
    """Return the page of one folder, or of the comparison of several runs with the first.

    Everything is verified first. Raises BadInput (no finished folder, a kind without a page), Tampered and NotComparable.
    """
    if not runs:
        raise BadInput("name the run folders to report: lockedroom report RUN…")
    command = _command(_flags(options), runs)
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
            title=f"{visible(manifest.policy.name, 80)} on {visible(manifest.room.dataset.split, 80)}{selected_by(manifest)}",
            verdict=f"Judged by {visible(scorer.name, 80)} version {scorer.version}. {_held(held)}",
            facts=headline(manifest, read_summary(run)),
            sections=[*sections(run, manifest), provenance(run)],
            command=command,
        )

    return page


def _learning_page(run: Path, held: Held, command: str) -> Page:
    summary = read_learning(run)
    certificate = compare([run / BASE, run / LEARNED], CompareOptions(show=20), labels=[BASE, LEARNED])
    measured = [(run / name, read_manifest(run / name)) for name in (LEARNED, BASE)]
    records = [
        _named(records_section(*one, most=MOST_RECORDS // 2, characters=MOST_CHARACTERS // 2), one[0])
        for one in measured
    ]
    return Page(
        title=f"{visible(summary.plan.policy, 80)}, taught by {visible(summary.plan.scorer, 80)}",
        verdict=f"{comparison_verdict(certificate)} {_held(held)}",
        facts=learning_facts(summary),
        sections=[*learning_sections(run), *comparison_sections(certificate), *records, provenance(run)],
        command=command,
    )


def _microscope_page(
    title: str,
    sections: Callable[[Path], list[Section]],
    verdict: Callable[[Path], str],
    facts: Callable[[Path], list[Fact]] = lambda _: [],
) -> Callable[[Path, Held, str], Page]:
    """A page of an experiment whose folder holds its result."""

    def page(run: Path, held: Held, command: str) -> Page:
        said = f"{verdict(run)} {_held(held)}"
        return Page(
            title=title, verdict=said, facts=facts(run), sections=[*sections(run), provenance(run)], command=command
        )

    return page


def _audit_page(run: Path, held: Held, command: str) -> Page:
    _, report = open_audit(run)
    return Page(
        title=audit_title(report),
        verdict=f"{audit_verdict(report)} {_held(held)}",
        facts=audit_facts(report),
        sections=[*audit_sections(report), provenance(run)],
        command=command,
    )


def not_comparable_page(runs: Sequence[Path]) -> Page:
    """Return the page of runs that are shown side by side without a verdict, stamped. Raises BadInput and Tampered."""
    anyway = compare_anyway(runs)
    return Page(
        title=" beside ".join(visible(run.name, 60) for run in runs),
        verdict=f"No verdict is given. {CHECKED}",
        facts=[],
        sections=[*anyway_sections(anyway), *_each(runs)],
        command=_command(["--not-comparable"], runs),
        stamp=STAMP,
    )


def _each(runs: Sequence[Path]) -> list[Section]:
    """Failure modes, records and provenance of every run; the page is shared out among their records."""
    most, characters = max(50, MOST_RECORDS // len(runs)), MOST_CHARACTERS // len(runs)
    sections = []
    for run in runs:
        records = records_section(run, read_manifest(run), most=most, characters=characters)
        sections += [_named(failure_modes(read_summary(run)), run), _named(records, run)]
    return [*sections, *(provenance(run) for run in runs)]


def _command(flags: Sequence[str], runs: Sequence[Path]) -> str:
    return visible(shlex.join(["lockedroom", "report", *flags, *map(str, runs)]), 1000)


def _comparison(runs: Sequence[Path], options: CompareOptions, command: str) -> Page:
    names = [run.name for run in runs]
    certificate = compare(runs, options, labels=names if len(set(names)) == len(names) else None)
    shown = [visible(name, 60) for name in names]
    return Page(
        title=f"{', '.join(shown[1:])} against {shown[0]}",
        verdict=f"{comparison_verdict(certificate)} {CHECKED}",
        facts=comparison_facts(certificate),
        sections=[*comparison_sections(certificate), *_each(runs)],
        command=command,
    )


def _flags(options: CompareOptions) -> list[str]:
    """The flags that ask for these options, where they are not the default."""
    usual, flags = CompareOptions(), []
    for name in ("margin", "confidence", "metric"):
        if getattr(options, name) != getattr(usual, name):
            flags += [f"--{name}", str(getattr(options, name))]
    for name in ("knobs", "assume_equal"):
        if getattr(options, name):
            flags += [f"--{name.replace('_', '-')}", ",".join(getattr(options, name))]
    return flags


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
    "adaptive": _records_page(adaptive_sections),
    "learn": _learning_page,
    "audit": _audit_page,
    "mined": _microscope_page("An audit of a run's own completions", mined_sections, mined_verdict),
    "bandit": _microscope_page("The bandit, under the microscope", bandit_sections, bandit_verdict),
    "frontier": _microscope_page("The KL frontier", frontier_sections, frontier_verdict),
    "goodhart": _microscope_page("Goodhart's law, measured", goodhart_sections, goodhart_verdict, goodhart_facts),
}
