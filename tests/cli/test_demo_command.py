"""`lockedroom demo` tells a story; what it claims is asserted here, from the run folders that it leaves behind."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from lockedroom.cli.main import main
from lockedroom.errors import NotComparable
from lockedroom.loops.demo import ACTS, Act, Told, left_out
from lockedroom.results.compare import CompareOptions, compare
from lockedroom.results.kinds import verify_folder
from lockedroom.results.learning.summary import LearningSummary
from lockedroom.results.microscope.goodhart import GoodhartResult
from lockedroom.stats.verdict import Verdict

WITHOUT = """
import sys
for name in ("torch", "hypothesis", "cryptography", "jinja2"):
    sys.modules[name] = None  # as if it were not installed
from lockedroom.cli.main import main
sys.exit(main(["demo", "--out", *sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of one real demo, and what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["demo", "--out", str(folder)]) == 0
    return folder, printed.getvalue()


def test_every_act_is_told(demo: tuple[Path, str]) -> None:
    for number, act in enumerate(ACTS, 1):
        assert f"## {number}. {act.title}\n" in demo[1]
    assert "left out" not in demo[1]


def test_the_permissive_scorer_fails_its_audit_and_final_int_passes(demo: tuple[Path, str]) -> None:
    assert re.search(r"permissive: \d+ ways to be paid for nothing", demo[1])
    assert "final-int: no finding in" in demo[1]


def test_pass_at_1_rises_and_the_verdict_is_better(demo: tuple[Path, str]) -> None:
    certificate = compare([demo[0] / "base", demo[0] / "learned"], CompareOptions())
    assert certificate.against[0].verdict is Verdict.BETTER
    assert certificate.against[0].numbers.difference > 0.3
    assert "**BETTER**" in demo[1]


def test_pass_at_large_k_is_about_unchanged(demo: tuple[Path, str]) -> None:
    summary = msgspec.json.decode((demo[0] / "training" / "learning.json").read_bytes(), type=LearningSummary)
    last = summary.curve[-1]
    assert last.k == 256
    assert abs(last.change.difference) < 0.01


def test_the_cheat_is_refused(demo: tuple[Path, str]) -> None:
    with pytest.raises(NotComparable, match=r"scorer\.fingerprint"):
        compare([demo[0] / "base", demo[0] / "base-relaxed"], CompareOptions())
    assert "**Refused, exit 3**" in demo[1]
    assert "    |   - scorer.fingerprint: " in demo[1]


def test_the_cheat_would_have_been_a_gain(demo: tuple[Path, str]) -> None:
    rates = [json.loads((demo[0] / run / "summary.json").read_bytes())["pass_rate"] for run in ("base", "base-relaxed")]
    assert rates[1]["low"] > rates[0]["high"]


def test_the_goodhart_gap_opens(demo: tuple[Path, str]) -> None:
    arm = msgspec.json.decode((demo[0] / "goodhart" / "summary.json").read_bytes(), type=GoodhartResult).arms[0]
    assert arm.onset is not None
    assert arm.points[-1].gap is not None
    assert arm.points[0].gap is not None
    assert arm.points[-1].gap > arm.points[0].gap + 0.2


def test_one_look_at_the_holdout_stands_in_the_ledger(
    demo: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    sealed, key = demo[0] / "sealed", demo[0] / "keys" / "demo.key"
    assert main(["holdout", "status", str(sealed), "--key", str(key)]) == 0
    assert "1 taken, 1 left" in capsys.readouterr().out


def test_every_run_of_the_demo_verifies(demo: tuple[Path, str]) -> None:
    runs = [path.parent for path in demo[0].glob("*/manifest.json")]
    assert len(runs) >= 12
    for run in runs:
        assert verify_folder(run).files > 0


def test_the_report_leads_to_a_page_for_every_run_of_the_story(demo: tuple[Path, str]) -> None:
    page = (demo[0] / "report.html").read_text("utf-8")
    links = re.findall(r'<a href="([^"#]+)"', page)
    assert {"training.html", "comparison.html", "goodhart.html", "base.html"} <= set(links)
    assert all((demo[0] / link).is_file() for link in links)
    assert demo[1].endswith(f"The report: {demo[0] / 'report.html'}\n")
    assert "scorer.fingerprint" in page


def test_a_folder_that_is_there_already_is_not_written_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "choose another --out" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_extras_the_demo_says_what_it_leaves_out(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT, str(tmp_path / "out")], capture_output=True, text=True, check=False, timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "(left out: pip install 'lockedroom[learn]')" in done.stdout
    assert "(left out: pip install 'lockedroom[learn,holdout]')" in done.stdout
    assert "(left out: pip install 'lockedroom[audit]')" in done.stdout
    assert "(left out: pip install 'lockedroom[report]')" in done.stdout
    assert "smollm2-135m-instruct, four-shot: pass rate 0.061" in done.stdout


def test_as_json_it_is_what_every_act_found(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT, str(tmp_path / "out"), "--json"], capture_output=True, text=True, check=True, timeout=120)  # fmt: skip
    shown = json.loads(done.stdout)
    assert [act["title"] for act in shown["acts"]] == [act.title for act in ACTS]
    assert "pass rate 0.061" in shown["acts"][0]["told"]["findings"][1]
    assert shown["acts"][4] == {
        "title": "Loop C: learn",
        "left_out": "left out: pip install 'lockedroom[learn]'",
        "told": None,
    }
    assert shown["report"] is None


def test_an_act_that_lacks_nothing_is_not_left_out() -> None:
    assert left_out(Act("t", "a", (("json", "x"),), lambda _: Told(findings=()))) is None
