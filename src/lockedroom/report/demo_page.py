"""The page of a demo: the story act by act, with links to the page of every run, and the charts that matter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lockedroom.loops.demo import BASE, GAP, LEARNED, TRAINING, Act, Told
from lockedroom.report.blocks import Fact, Link, Page, Rows, Section, Table
from lockedroom.report.document import make_page
from lockedroom.report.learning_sections import learning_facts, learning_sections, read_learning
from lockedroom.report.microscope_sections import goodhart_sections
from lockedroom.report.page import write_page
from lockedroom.results.compare import CompareOptions
from lockedroom.visible import visible

MAIN, COMPARISON = "report.html", "comparison.html"


def write_demo_pages(out: Path, told: Sequence[tuple[Act, Told]]) -> Path:
    """Write a page for every run beside it, one for the comparison, and the main page; return the main page."""
    pages = []
    for run in (run for _, one in told for run in one.runs):
        write_page(make_page([out / run], CompareOptions()), out / f"{run}.html")
        pages.append((run, f"{run}.html"))
    if any(LEARNED in one.runs for _, one in told):
        write_page(make_page([out / BASE, out / LEARNED], CompareOptions(show=20)), out / COMPARISON)
        pages.append((f"{BASE} against {LEARNED}", COMPARISON))
    write_page(_main_page(out, told, pages), out / MAIN)
    return out / MAIN


def _main_page(out: Path, told: Sequence[tuple[Act, Told]], pages: Sequence[tuple[str, str]]) -> Page:
    story = [
        Section(
            title=f"{number}. {act.title}",
            text=[act.about, *(finding.replace("**", "") for finding in one.findings)],
            quotes=[visible(line, 2000) for quote in one.quotes for line in quote.split("\n")],
        )
        for number, (act, one) in enumerate(told, 1)
    ]
    rows: Rows = [[Link(name, href)] for name, href in pages]
    links = Section(
        title="A page for every run",
        text=["Each was verified when its page was made: every hash checked, every number derived again."],
        tables=[Table(header=["page"], rows=rows)],
    )
    runs = {run for _, one in told for run in one.runs}
    facts: list[Fact] = []
    charts: list[Section] = []
    if TRAINING in runs:
        facts = learning_facts(read_learning(out / TRAINING))
        charts += learning_sections(out / TRAINING)[1:3]
    if GAP in runs:
        charts += goodhart_sections(out / GAP)
    return Page(
        title="The demo, act by act",
        verdict="Everything below happened on this machine, offline; every number follows from a run folder beside this page.",
        facts=facts,
        sections=[links, *story, *charts],
        command="lockedroom demo",
    )
