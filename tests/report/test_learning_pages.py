"""Pages and figures of Loop C, of a frontier and of a Goodhart run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lockedroom.cli.main import main
from lockedroom.errors import BadInput
from lockedroom.policy.tiny import DATA_FOLDER
from lockedroom.report.blocks import Page
from lockedroom.report.document import make_page
from lockedroom.report.page import render_page
from lockedroom.results.compare import CompareOptions


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pages")
    rows = (DATA_FOLDER / "dev.jsonl").read_text().splitlines(keepends=True)
    (made / "dev.jsonl").write_text("".join(rows[:40]))
    asked = ["learn", "--dataset", str(DATA_FOLDER / "train.jsonl"), "--dev", str(made / "dev.jsonl"), "--steps", "6"]
    assert (
        main([*asked, "--controls", "frozen", "--plot", str(made / "learned.svg"), "--out", str(made / "learned")]) == 0
    )
    small = ["--steps", "2", "--every", "1", "--examples", "10", "--draws", "1", "--prompts", "8", "--group", "4"]
    assert main(["goodhart", *small, "--plot", str(made / "goodhart.svg"), "--out", str(made / "goodhart")]) == 0
    assert main(["frontier", "--steps", "5", "--betas", "1", "--out", str(made / "frontier")]) == 0
    return made


def _page(run: Path) -> Page:
    return make_page([run], CompareOptions())


def test_a_learning_run_says_whether_it_learned_and_holds_its_certificate(folder: Path) -> None:
    page = _page(folder / "learned")
    titles = [section.title for section in page.sections]
    assert page.verdict.startswith("learned: BETTER than base")
    assert {"Did it learn, or sharpen?", "The course of training", "pass@k before and after", "Selection or learning",
            "The same budget without the signal", "Comparison certificate", "Completions of learned"} <= set(titles)  # fmt: skip
    assert b"Chart.js" in render_page(page)


def test_the_charts_hold_every_step(folder: Path) -> None:
    course = next(
        section for section in _page(folder / "learned").sections if section.title == "The course of training"
    )
    steps = [json.loads(line) for line in (folder / "learned" / "steps.jsonl").read_text().splitlines()]
    assert course.charts[0].series[0].y == [step["reward"] for step in steps]


@pytest.mark.parametrize("kind", ["goodhart", "frontier"])
def test_the_microscope_has_pages(folder: Path, kind: str) -> None:
    page = _page(folder / kind)
    assert page.sections[-1].title == "Provenance"
    assert sum(len(section.charts) for section in page.sections) >= 2
    render_page(page)


@pytest.mark.parametrize("name", ["learned", "goodhart"])
def test_a_figure_is_the_same_bytes_for_the_same_run(folder: Path, name: str, tmp_path: Path) -> None:
    import msgspec

    from lockedroom.report.goodhart_plot import plot_goodhart
    from lockedroom.report.learning_curves import plot_learning
    from lockedroom.results.goodhart import GoodhartResult

    again = tmp_path / "again.svg"
    if name == "learned":
        plot_learning(folder / name, again)
    else:
        plot_goodhart(msgspec.json.decode((folder / name / "summary.json").read_bytes(), type=GoodhartResult), again)
    assert again.read_bytes() == (folder / f"{name}.svg").read_bytes()


def test_a_kind_without_a_page_is_refused(folder: Path, tmp_path: Path) -> None:
    assert main(["bandit", "--steps", "5", "--out", str(tmp_path / "bandit")]) == 0
    with pytest.raises(BadInput, match="no page for the kind 'bandit'"):
        _page(tmp_path / "bandit")
