"""Pages and figures of Loop C, of a frontier and of a Goodhart run."""

from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec
import pytest
from report_runs import write_run

from lockedroom.cli.main import main
from lockedroom.policy.tiny import DATA_FOLDER
from lockedroom.report.blocks import Page
from lockedroom.report.document import PAGES, make_page
from lockedroom.report.learning_sections import read_learning
from lockedroom.report.page import render_page
from lockedroom.report.reward_against_kl import reward_against_kl
from lockedroom.results.compare import CompareOptions
from lockedroom.results.kinds import KINDS


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
    assert main(["bandit", "--steps", "5", "--measured", "0", "--out", str(made / "bandit")]) == 0
    assert main(["frontier", "--steps", "5", "--betas", "1", "--out", str(made / "frontier")]) == 0
    return made


def _page(run: Path) -> Page:
    return make_page([run], CompareOptions())


def test_a_learning_run_says_whether_it_learned_and_holds_its_certificate(folder: Path) -> None:
    page = _page(folder / "learned")
    titles = [section.title for section in page.sections]
    assert page.verdict.startswith("learned is BETTER than base. ")
    assert {"Did it learn, or sharpen?", "The course of training", "pass@k before and after", "Selection or learning",
            "The same budget without the signal", "Comparison certificate", "Completions of learned"} <= set(titles)  # fmt: skip
    assert b"Chart.js" in render_page(page)


def test_the_charts_hold_every_step(folder: Path) -> None:
    course = next(
        section for section in _page(folder / "learned").sections if section.title == "The course of training"
    )
    steps = [json.loads(line) for line in (folder / "learned" / "steps.jsonl").read_text().splitlines()]
    assert course.charts[0].series[0].y == [step["reward"] for step in steps]


@pytest.mark.parametrize("kind", ["goodhart", "frontier", "bandit"])
def test_the_microscope_has_pages(folder: Path, kind: str) -> None:
    page = _page(folder / kind)
    assert page.sections[-1].title == f"Provenance of {kind}"
    assert sum(len(section.charts) for section in page.sections) >= 2
    render_page(page)


@pytest.mark.parametrize("name", ["learned", "goodhart"])
def test_a_figure_is_the_same_bytes_for_the_same_run(folder: Path, name: str, tmp_path: Path) -> None:
    from lockedroom.report.goodhart_plot import plot_goodhart
    from lockedroom.report.learning_curves import plot_learning
    from lockedroom.results.microscope.goodhart import GoodhartResult

    again = tmp_path / "again.svg"
    if name == "learned":
        plot_learning(folder / name, again)
    else:
        plot_goodhart(msgspec.json.decode((folder / name / "summary.json").read_bytes(), type=GoodhartResult), again)
    assert again.read_bytes() == (folder / f"{name}.svg").read_bytes()


def test_every_kind_that_can_be_verified_has_a_page() -> None:
    assert set(PAGES) == set(KINDS)


def test_selection_and_learning_stand_on_one_chart_below_what_any_policy_can_reach(folder: Path) -> None:
    section = next(one for one in _page(folder / "learned").sections if one.title == "Reward against KL")
    selected, learned, frontier = section.charts[0].series
    reach = [(kl, rate) for kl, rate in zip(frontier.x, frontier.y, strict=True) if rate is not None]
    for series in (selected, learned):
        for kl, rate in zip(series.x, series.y, strict=True):
            above = [most for nats, most in reach if nats >= kl]
            assert rate is not None
            assert not above or rate <= min(above) + 1e-9
    assert selected.labels[1] == "best of 2"
    assert learned.labels[0] == "step 0"


def test_a_learning_run_without_exact_probabilities_puts_selection_at_a_bound_of_its_kl(folder: Path) -> None:
    summary = read_learning(folder / "learned")
    counted = msgspec.structs.replace(summary, plan=msgspec.structs.replace(summary.plan, exact=False))
    section = reward_against_kl(folder / "learned", counted, [])
    assert section.charts[0].series[0].x[:2] == [0.0, math.log(2) - 0.5]
    assert "upper bound" in section.text[0]


def test_an_audit_has_a_page_with_its_findings_and_error_budget(tmp_path: Path) -> None:
    assert main(["audit", "permissive", "--budget", "20", "--out", str(tmp_path / "audit")]) == 1
    page = _page(tmp_path / "audit")
    assert page.title == "Audit of permissive version 1"
    assert [fact.label for fact in page.facts] == ["attacks paid", "right answers refused", "Youden J"]
    assert "Error budget" in [section.title for section in page.sections]
    assert b"Clopper-Pearson" in render_page(page)


def test_an_audit_of_a_runs_own_completions_has_a_page(tmp_path: Path) -> None:
    run = write_run(tmp_path, "run", ["Final: 1", "the answer is 1", "no"])
    main(["audit", "--from", str(run), "--out", str(tmp_path / "mined")])
    page = _page(tmp_path / "mined")
    assert page.verdict.startswith("What final-int version 1 paid for")
    render_page(page)


def test_drawing_until_one_passes_has_a_page(tmp_path: Path) -> None:
    rows = (DATA_FOLDER / "dev.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "dev.jsonl").write_text("".join(rows[:20]))
    asked = ["select", "--policy", "tiny", "--dataset", str(tmp_path / "dev.jsonl"), "--selector", "rejection-sampling"]
    assert main([*asked, "--draws", "4", "--out", str(tmp_path / "run")]) == 0
    page = _page(tmp_path / "run")
    assert page.sections[0].title == "Drawing until one passes"
    assert page.title.endswith(", chosen by rejection-sampling")
