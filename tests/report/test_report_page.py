"""The HTML report as a file: what it holds, how large it gets, and that nothing foreign is markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from report_runs import HOSTILE, write_run

from lockedroom.cli.main import main
from lockedroom.errors import BadInput, NotComparable, Tampered
from lockedroom.report.blocks import Cell
from lockedroom.report.browse import browse
from lockedroom.report.document import make_page
from lockedroom.report.numerals import signed
from lockedroom.report.page import FILES, render_page, write_page
from lockedroom.results.compare import CompareOptions
from lockedroom.safeguards.manifest import read_manifest

ASKED = CompareOptions()


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def _tags(html: bytes) -> _Tags:
    parser = _Tags()
    parser.feed(html.decode())
    return parser


def test_foreign_text_makes_no_markup(tmp_path: Path) -> None:
    hostile = _tags(render_page(make_page([write_run(tmp_path, "run", list(HOSTILE))], ASKED)))
    assert hostile.tags.count("script") == 3  # the data, Chart.js, the script of the page
    assert not {"img", "svg", "i", "b"} & set(hostile.tags)
    assert not [name for name, _ in hostile.attributes if name.startswith("on") or name == "style"]


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    html = render_page(make_page([write_run(tmp_path, "run", ["Final: 1", "no"])], ASKED))
    found = _tags(html).attributes
    assert not [(name, value) for name, value in found if name in ("src", "srcset", "action", "formaction")]
    assert all((value or "").startswith("#") for name, value in found if name == "href")
    policy = next(value for name, value in found if value and "default-src" in value)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_the_data_holds_every_completion_of_a_small_run(tmp_path: Path) -> None:
    html = render_page(make_page([write_run(tmp_path, "run", list(HOSTILE))], ASKED)).decode()
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    assert data is not None
    shown = msgspec.json.decode(data[1])["records"][0]["shown"]
    assert shown[0]["completion"] == HOSTILE[0]
    assert {"⟨U+D800⟩", "Final: 1"} <= {one["completion"] for one in shown}
    assert len(shown) == len(HOSTILE)


def test_a_large_run_is_sampled_code_by_code_and_says_so(tmp_path: Path) -> None:
    run = write_run(tmp_path, "run", ["no"] * 900 + ["Final: 1"] * 900 + ["Final: 2"] * 3)
    records = browse(run, read_manifest(run), most=100)
    codes = [one.code for one in records.shown]
    assert codes.count("wrong_answer") == 3  # rare codes whole
    assert codes.count("ok") in (48, 49)
    assert len(codes) == 100
    assert "100 of 1,803 records" in records.how


def test_a_sample_does_not_depend_on_the_other_records(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    texts = ["no"] * 500
    one = write_run(folders[0], "run", texts)
    two = write_run(folders[1], "run", [*texts[:-1], "Final: 1"])
    ids = [
        {shown.id for shown in browse(run, read_manifest(run), most=60).shown if shown.code != "ok"}
        for run in (one, two)
    ]
    assert len(ids[0] & ids[1]) >= 58


def test_a_page_of_a_thousand_long_records_stays_below_3_mb(tmp_path: Path) -> None:
    run = write_run(tmp_path, "run", [("thinking " * 400) + f"Final: {i}" for i in range(1000)])
    page = render_page(make_page([run], ASKED))
    assert len(page) < 3_000_000
    assert "of 1,000 records" in page.decode()


def test_a_comparison_holds_the_certificate_and_both_runs(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, "before", ["no"] * 40), write_run(tmp_path, "after", ["Final: 1"] * 40)]
    page = make_page(runs, ASKED)
    assert page.verdict.startswith("after is BETTER than before. ")
    titles = [section.title for section in page.sections]
    assert titles[0] == "Comparison certificate"
    assert {"Completions of before", "Completions of after", "Provenance of before"} <= set(titles)
    render_page(page)


def test_runs_of_two_rooms_get_no_page(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    a = write_run(tmp_path, "a", ["no"] * 4)
    b = write_run(tmp_path / "other", "b", ["no"] * 4, expected=2)
    with pytest.raises(NotComparable, match="dataset"):
        make_page([a, b], ASKED)


def test_a_tampered_run_gets_no_page(tmp_path: Path) -> None:
    run = write_run(tmp_path, "run", ["Final: 1"])
    (run / "records.jsonl").write_bytes((run / "records.jsonl").read_bytes().replace(b"Final: 1", b"Final: 2"))
    with pytest.raises(Tampered):
        make_page([run], ASKED)


def test_a_page_replaces_a_page_and_nothing_else(tmp_path: Path) -> None:
    page = make_page([write_run(tmp_path, "run", ["Final: 1"])], ASKED)
    out = tmp_path / "page.html"
    write_page(page, out)
    write_page(page, out)
    (tmp_path / "letter.html").write_text("dear you")
    with pytest.raises(BadInput, match="no report of lockedroom"):
        write_page(page, tmp_path / "letter.html")


def test_the_command_says_where_the_page_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, "run", ["Final: 1"])
    assert main(["report", str(run)]) == 0
    assert str(tmp_path / "run.html") in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["nowhere"], [".", "--out", "x/y/z.html"]])
def test_bad_input_gets_one_message(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_inlined_library_is_the_one_that_was_reviewed() -> None:
    text = (FILES / "chart.umd.min.js").read_text()
    assert "Chart.js v4.6.1" in text[:200]
    assert "</script" not in text.lower()
    assert "sourceMappingURL" not in text


def test_a_code_with_a_bracket_is_a_code(tmp_path: Path) -> None:
    scorer = tmp_path / "own.py"
    scorer.write_text(
        "def score(example, completion):\n"
        "    right = completion == 'Final: 1'\n"
        "    return {'reward': 0.5 + right / 2, 'details': {'code': 'off (by one)', 'outcome': 'correct' if right else 'wrong'}}\n"
    )
    run = write_run(tmp_path, "run", ["Final: 1", "no"], scorer=f"{scorer}:score")
    page = make_page([run], ASKED)
    cells = [row[0] for row in page.sections[0].tables[0].rows]
    assert [(cell.text, cell.code) for cell in cells if isinstance(cell, Cell)] == [
        ("off (by one) (correct)", "off (by one)"), ("off (by one) (wrong)", "off (by one)")]  # fmt: skip
    assert "mean reward" in [fact.label for fact in page.facts]


def test_long_texts_leave_every_code_on_the_page(tmp_path: Path) -> None:
    long = "x" * 3900
    run = write_run(
        tmp_path, "run", [f"{long}{i}" for i in range(900)] + [f"Final: {i}" for i in range(2, 20)] + ["Final: 1"]
    )
    records = browse(run, read_manifest(run), characters=200_000)
    assert {one.code for one in records.shown} == {"missing_prefix", "wrong_answer", "ok"}
    assert sum(len(one.completion) for one in records.shown) <= 200_000


def test_more_codes_than_places_do_not_hang(tmp_path: Path) -> None:
    scorer = tmp_path / "own.py"
    scorer.write_text(
        "def score(example, completion):\n    return {'reward': 0.0, 'details': {'code': completion[-3:]}}\n"
    )
    run = write_run(tmp_path, "run", [f"{'x' * 500}{i:03}" for i in range(300)], scorer=f"{scorer}:score")
    assert len(browse(run, read_manifest(run), most=100).shown) == 100
    assert len(browse(run, read_manifest(run), characters=1000).shown) == 300  # one of each code is never left out


def test_failures_are_told_three_ways(tmp_path: Path) -> None:
    scorer = tmp_path / "own.py"
    scorer.write_text("def score(example, completion):\n    return {'reward': float(completion), 'details': {}}\n")
    page = make_page([write_run(tmp_path, "run", ["1", "0", "boom", "1"], scorer=f"{scorer}:score")], ASKED)
    unjudged = next(fact for fact in page.facts if fact.label == "could not be judged")
    assert unjudged.value == "1"
    assert "0.6667 without them, 0.5000 with each as 0, 0.5000 to 0.7500 whatever" in unjudged.note


def test_runs_that_are_not_comparable_are_shown_stamped(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    a = write_run(tmp_path, "a", ["no"] * 4)
    b = write_run(tmp_path / "other", "b", ["no"] * 4, expected=2)
    assert main(["report", "--not-comparable", str(a), str(b), "--out", str(tmp_path / "page.html")]) == 0
    html = (tmp_path / "page.html").read_text()
    assert 'class="stamp" role="alert">NOT COMPARABLE' in html
    assert "BETTER" not in html.partition("<script")[0]
    assert "dataset.sha256" in html


def test_flags_of_a_comparison_need_several_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, "run", ["Final: 1"])
    assert main(["report", str(run), "--not-comparable"]) == 2
    assert "are for several runs" in capsys.readouterr().err


def test_the_page_says_how_it_was_asked_for(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, "before", ["no"] * 40), write_run(tmp_path, "after", ["Final: 1"] * 40)]
    page = make_page(runs, CompareOptions(margin=0.1, knobs=("policy",)))
    assert page.command == f"lockedroom report --margin 0.1 --knobs policy {runs[0]} {runs[1]}"


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0"), (-0.25, "-0.2500"), (3e-7, "+3.0e-07"), (-1e-16, "-1.0e-16"), (0.00006, "+0.0001")]
)
def test_a_small_difference_never_reads_as_none(value: float, shown: str) -> None:
    assert signed(value) == shown


def test_the_page_of_the_folder_that_one_stands_in_is_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path, "run", ["Final: 1"])
    before = sorted(run.iterdir())
    monkeypatch.chdir(run)
    assert main(["report", "."]) == 0
    assert sorted(run.iterdir()) == before
    assert "Provenance of run" in (tmp_path / "run.html").read_text()
