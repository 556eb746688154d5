"""The report in a real browser: it renders, filters and runs nothing that is not its own."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from report_runs import HOSTILE, write_run

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
    assert page.locator("output").inner_text() == "1 to 4 of 4"
    assert set(page.locator(".card").evaluate_all("cards => cards.map(card => card.className)")) == {"card wrong"}


def test_a_text_filters_the_records_and_none_is_said(browser: Browser, reported: Path) -> None:
    page, _ = _open(browser, reported)
    page.get_by_label("Text").fill("onerror")
    assert page.locator(".card").count() == 1
    page.get_by_label("Text").fill("no such thing")
    assert page.locator("output").inner_text() == "none match"


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
    assert page.locator("output").inner_text() == "1 to 4 of 4"


def test_it_can_be_read_on_a_phone(browser: Browser, reported: Path) -> None:
    page, _ = _open(browser, reported, viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_it_prints(browser: Browser, reported: Path) -> None:
    page, trouble = _open(browser, reported)
    assert page.pdf().startswith(b"%PDF")
    assert trouble == []
