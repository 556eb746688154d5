"""The page of a demo: the story act by act, with links to the page of every run, and the charts that matter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lockedroom.loops.demo import BASE, CHEAT, GAP, LEARNED, TRAINING, Act, Told
from lockedroom.report.blocks import Chart, Link, Page, Section
from lockedroom.report.document import make_page, not_comparable_page
from lockedroom.report.learning_sections import learning_facts, learning_sections, read_learning
from lockedroom.report.microscope_sections import goodhart_sections
from lockedroom.report.page import write_page
from lockedroom.results.compare import CompareOptions
from lockedroom.visible import visible

MAIN, COMPARISON, REFUSED = "report.html", "comparison.html", "not-comparable.html"


def write_demo_pages(out: Path, told: Sequence[tuple[Act, Told]]) -> Path:
    """Write a page for every run, one for the comparison, and the main page, all beside the runs; return the main page."""
    for run in (run for _, one in told for run in one.runs):
        write_page(make_page([out / run], CompareOptions()), out / f"{run}.html")
    if any(LEARNED in one.runs for _, one in told):
        write_page(make_page([out / BASE, out / LEARNED], CompareOptions(show=20)), out / COMPARISON)
    if any(CHEAT in one.runs for _, one in told):
        write_page(not_comparable_page([out / BASE, out / CHEAT]), out / REFUSED)
    write_page(_main_page(out, told), out / MAIN)
    return out / MAIN


def _main_page(out: Path, told: Sequence[tuple[Act, Told]]) -> Page:
    return Page(
        title="The demo, act by act",
        verdict="All of it happened on this machine, offline. Every run was verified when its page was made.",
        facts=learning_facts(read_learning(out / TRAINING)) if any(TRAINING in one.runs for _, one in told) else [],
        sections=[_act(out, number, act, one) for number, (act, one) in enumerate(told, 1)],
        command="lockedroom demo",
    )


def _act(out: Path, number: int, act: Act, told: Told) -> Section:
    links = [Link(f"Page of {run}", f"{run}.html") for run in told.runs]
    if LEARNED in told.runs:
        links.append(Link(f"{BASE} against {LEARNED}, the certificate", COMPARISON))
    if CHEAT in told.runs:
        links.append(Link("both side by side, stamped", REFUSED))
    return Section(
        title=f"{number}. {act.title}",
        text=[act.about.replace("`", "")],
        points=[finding.replace("**", "").replace("`", "").strip() for finding in told.findings],
        links=links,
        quotes=["\n".join(visible(line, 2000) for line in quote.split("\n")) for quote in told.quotes],
        charts=[chart for run in told.runs for chart in _charts(out, run)],
    )


def _charts(out: Path, run: str) -> list[Chart]:
    """The charts of a run that the story is about."""
    if run == TRAINING:
        _, course, curve, against_kl, *_ = learning_sections(out / run)
        return [course.charts[0], *curve.charts, *against_kl.charts]
    if run == GAP:
        return [chart for part in goodhart_sections(out / run) for chart in part.charts]
    return []
