"""The report in a real browser: it renders, filters and runs nothing that is not its own."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from report_runs import HOSTILE, write_hostile_run, write_run

from lockedroom.report.blocks import Page as ReportPage
from lockedroom.report.blocks import Piece, Records, Section, Shown
from lockedroom.report.document import make_page
from lockedroom.report.page import write_page
from lockedroom.results.compare import CompareOptions

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None,
    reason="needs Debian's chromium and Playwright's core package",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reported")
    run = write_run(folder, "run", [*HOSTILE, *["Final: 1"] * 30, *["Final: 2"] * 4])
    write_page(make_page([run], CompareOptions()), folder / "page.html")
    return folder / "page.html"


def _open(browser: Browser, path: Path, **settings: object) -> tuple[Page, list[str]]:
    page = browser.new_page(**settings)  # type: ignore[arg-type]  # passed on as given
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith("file:") else trouble.append(request.url))
    page.goto(path.as_uri())
    return page, trouble


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_renders_without_a_word_on_the_console_or_a_request(browser: Browser, reported: Path, scheme: str) -> None:
    page, trouble = _open(browser, reported, color_scheme=scheme)
    assert page.locator("canvas").count() == 1
    assert page.locator(".card").count() == 25
    assert trouble == []


def test_nothing_that_a_completion_says_is_obeyed(browser: Browser, reported: Path) -> None:
    page, trouble = _open(browser, reported)
    page.get_by_role("button", name="Next").click()
    page.locator(".card").first.hover()
    assert page.evaluate("window.owned") is None
    assert page.locator("main img, main svg, main iframe").count() == 0
    assert page.locator("body").is_visible()
    assert trouble == []


def test_injected_markup_would_be_stopped_by_the_policy(browser: Browser, reported: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    attack = b"<script>window.owned = 9</script><img src=x onerror='window.owned = 8'><style>body{display:none}</style></main>"
    broken.write_bytes(reported.read_bytes().replace(b"</main>", attack, 1))
    page, _ = _open(browser, broken)
    assert page.evaluate("window.owned") is None
    assert page.locator("body").is_visible()


def test_a_code_filters_the_records(browser: Browser, reported: Path) -> None:
    page, _ = _open(browser, reported)
    page.get_by_role("button", name="wrong_answer").click()
    assert page.locator(".pager output").inner_text() == "1 to 4 of 4"
    assert set(page.locator(".card").evaluate_all("cards => cards.map(card => card.className)")) == {"card wrong"}


def test_a_text_filters_the_records_and_none_is_said(browser: Browser, reported: Path) -> None:
    page, _ = _open(browser, reported)
    page.get_by_label("Text").fill("x onerror='window")
    assert page.locator(".card").count() == 1
    page.get_by_label("Text").fill("no such thing")
    assert page.locator(".pager output").inner_text() == "none match"


def test_hidden_characters_are_marked(browser: Browser, reported: Path) -> None:
    page, _ = _open(browser, reported)
    signs = page.locator(".card .hidden-sign").all_inner_texts()
    assert {"⟨U+202E⟩", "⟨U+200B⟩", "␀", "␛", "⟨U+D800⟩"} <= set(signs)


def test_it_can_be_used_with_the_keyboard_alone(browser: Browser, reported: Path) -> None:
    page, _ = _open(browser, reported)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.get_by_role("button", name="wrong_answer").focus()
    page.keyboard.press("Enter")
    assert page.locator(".pager output").inner_text() == "1 to 4 of 4"


def test_it_can_be_read_on_a_phone(browser: Browser, reported: Path) -> None:
    page, _ = _open(browser, reported, viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_it_prints(browser: Browser, reported: Path) -> None:
    page, trouble = _open(browser, reported)
    assert page.pdf().startswith(b"%PDF")
    assert trouble == []


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    write_page(make_page([write_hostile_run(folder)], CompareOptions()), folder / "page.html")
    return folder / "page.html"


def test_nothing_that_a_name_says_is_obeyed(browser: Browser, hostile: Path) -> None:
    page, trouble = _open(browser, hostile)
    for summary in page.locator("summary").all():
        summary.click()
    page.locator("td button").first.click()
    page.locator("[data-by=code]").select_option("scorer_raised")
    page.get_by_label("Text").fill("<img")
    assert page.evaluate("window.owned") is None
    assert page.locator("img, svg, iframe, object, embed, form:not(.controls), b").count() == 0
    assert page.locator(".card").count() == 1
    assert trouble == []
    assert hostile.stat().st_size < 1_000_000  # one of its completions has 10 MB


def test_nothing_hides_or_turns_the_text_around(browser: Browser, hostile: Path) -> None:
    page, _ = _open(browser, hostile)
    assert not re.search(
        "[\u202a-\u202e\u2066-\u2069\u200b-\u200f\x00]", page.locator("body").inner_text() + page.title()
    )


def test_every_chart_has_its_numbers(browser: Browser, reported: Path) -> None:
    page, _ = _open(browser, reported)
    figure = page.locator("figure").first
    figure.locator("summary").click()
    figure.locator("tbody tr").first.wait_for()
    assert figure.locator("tbody tr").count() == page.evaluate(
        "Chart.getChart(document.querySelector('canvas')).data.labels.length"
    )


def test_every_control_has_a_name_and_shows_where_the_focus_is(browser: Browser, reported: Path) -> None:
    page, _ = _open(browser, reported)
    seen = []
    for _ in range(30):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate("""() => {
            const at = document.activeElement, style = getComputedStyle(at);
            return [at.tagName, (at.labels?.[0]?.textContent || at.getAttribute("aria-label") || at.textContent).trim(), style.outlineStyle];
        }""")
        )
    reached = {tag for tag, _, _ in seen}
    assert {"A", "BUTTON", "SELECT", "INPUT", "SUMMARY"} <= reached
    assert all(name and outline != "none" for tag, name, outline in seen if tag != "BODY")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_its_text_has_contrast(browser: Browser, reported: Path, scheme: str) -> None:
    page, _ = _open(browser, reported, color_scheme=scheme)
    poor = page.evaluate("""() => {
        const light = (colour) => {
            const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((c) => c / 255).map((c) => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
            return .2126 * r + .7152 * g + .0722 * b;
        };
        const paper = (element) => {
            for (let at = element; at; at = at.parentElement) {
                const colour = getComputedStyle(at).backgroundColor;
                if (colour.startsWith("rgb(")) return colour;
            }
            return "rgb(255, 255, 255)";
        };
        const poor = [];
        for (const one of document.querySelectorAll("h1, h2, p, a, dt, dd, th, td, button:not(:disabled), label, summary, span, code, .hidden-sign")) {
            if (!one.textContent.trim()) continue;
            const [a, b] = [light(getComputedStyle(one).color), light(paper(one))].sort((x, y) => y - x);
            if ((a + .05) / (b + .05) < 4.5) poor.push(one.className + one.textContent.slice(0, 30));
        }
        return poor;
    }""")
    assert poor == []


def test_folded_parts_are_open_on_paper(browser: Browser, reported: Path) -> None:
    page, _ = _open(browser, reported)
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("section > details:not([open])").count() == 0
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("section > details[open]").count() == 0


def test_a_whisker_that_is_longer_than_its_bar_fits_on_the_axis(browser: Browser, tmp_path: Path) -> None:
    texts = [["Final: 1", "no"] * 10, ["Final: 1", "no"] * 9 + ["no", "Final: 1"]]
    runs = [write_run(tmp_path, name, one) for name, one in zip(("a", "b"), texts, strict=True)]
    made = make_page(runs, CompareOptions())
    assert made.verdict.startswith("INCONCLUSIVE: b and a cannot be told apart.")
    write_page(made, tmp_path / "page.html")
    page, _ = _open(browser, tmp_path / "page.html")
    low, high, minimum, maximum = page.evaluate("""() => {
        const chart = Chart.getChart(document.querySelector("canvas"));
        return [...chart.data.datasets[0].whiskers[0], chart.scales.x.min, chart.scales.x.max];
    }""")
    assert minimum <= low < high <= maximum


def test_where_the_tokenizer_is_not_at_hand_the_text_stands_above_its_token_ids(
    browser: Browser, tmp_path: Path
) -> None:
    shown = Shown(id="e", draw=0, prompt="p", expected="1", completion="Final: 1", code="ok", outcome="correct", reward=1.0,
                  message="right", tokens=[Piece("#7", -0.01), Piece("#9", -5.0)])  # fmt: skip
    records = Records(run="run", total=1, shown=[shown], how="its only record", token_texts=False)
    made = ReportPage(
        title="t", verdict="v", facts=[], sections=[Section(title="Completions", records=records)], command="c"
    )
    write_page(made, tmp_path / "page.html")
    page, trouble = _open(browser, tmp_path / "page.html")
    assert page.locator(".card .text").all_inner_texts() == ["Final: 1", "#7#9"]
    assert page.locator(".card .t4").inner_text() == "#9"
    assert trouble == []
