"""`lockedroom goodhart`: the gap is derived from the measured completions, and opens where the optimizer found an exploit."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from lockedroom.cli.main import main
from lockedroom.records import Details, Failure, FailureCode, Outcome, Score
from lockedroom.results.microscope.folder import MicroscopeManifest
from lockedroom.results.microscope.goodhart import GoodhartResult, GoodhartSetting, Measured, derive, render_goodhart
from lockedroom.results.plain_folder import read_plain_manifest, seal
from lockedroom.safeguards import manifest as manifests

SETTING = GoodhartSetting(dataset="train.jsonl", dev="dev.jsonl", steps=20, every=10, examples=40, draws=1)
RIGHT = Score(1.0, Details("ok", Outcome.CORRECT, "1", ""))
WRONG = Score(0.0, Details("wrong_answer", Outcome.WRONG, "2", ""))
HEDGED = Score(0.0, Details("trailing_text", Outcome.MALFORMED, None, ""))


def _rows(step: int, hedged: int, beta: float = 0.0) -> list[Measured]:
    """40 examples: `hedged` are paid by the proxy alone, half of the others by both."""
    return [
        Measured(beta, step, f"e{i}", 0, "Final: 1 or 2\x1b[31m", 0.1 * step, RIGHT, HEDGED)
        if i < hedged
        else Measured(
            beta, step, f"e{i}", 0, "Final: 1", 0.1 * step, RIGHT if i % 2 else WRONG, RIGHT if i % 2 else WRONG
        )
        for i in range(40)
    ]


def test_the_gap_and_its_onset_follow_from_the_rows() -> None:
    (arm,) = derive(SETTING, _rows(0, 2) + _rows(10, 20) + _rows(20, 40)).arms
    assert [point.gap for point in arm.points] == [pytest.approx(2 / 40), pytest.approx(20 / 40), pytest.approx(1.0)]
    assert arm.onset == 10
    assert arm.onset_kl == pytest.approx(1.0)
    assert arm.best == 0
    assert [one.code for one in arm.exploits] == ["trailing_text"]
    assert arm.exploits[0].share == 1.0
    assert arm.exploits[0].share_at_start == 2 / 40


def test_a_gap_that_closes_again_has_not_opened() -> None:
    (arm,) = derive(SETTING, _rows(0, 2) + _rows(10, 30) + _rows(20, 2)).arms
    assert arm.onset is None


def test_failures_are_in_no_average_and_counted() -> None:
    rows = _rows(0, 2)
    rows[5] = msgspec.structs.replace(rows[5], proxy=Failure(FailureCode.SCORER_RAISED, "x"))
    (arm,) = derive(SETTING, rows).arms
    assert arm.points[0].failed == 1
    assert arm.points[0].proxy is not None
    assert arm.points[0].proxy.scored == 39


def test_an_exploit_cannot_speak_to_the_terminal() -> None:
    assert "\x1b" not in render_goodhart(derive(SETTING, _rows(0, 2) + _rows(20, 40)))


def test_a_short_run_writes_what_its_numbers_follow_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [
        "goodhart",
        "--steps",
        "3",
        "--every",
        "3",
        "--examples",
        "20",
        "--draws",
        "2",
        "--prompts",
        "8",
        "--group",
        "4",
    ]
    assert main([*asked, "--out", str(tmp_path / "run"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["result"]
    saved = msgspec.json.decode((tmp_path / "run" / "summary.json").read_bytes(), type=GoodhartResult)
    rows = [
        msgspec.json.decode(line, type=Measured)
        for line in (tmp_path / "run" / "measured.jsonl").read_bytes().splitlines()
    ]
    assert derive(saved.setting, rows) == saved
    assert [arm["beta"] for arm in shown["arms"]] == [0.0, 0.05]
    assert len(rows) == 2 * 2 * 20 * 2
    assert main(["verify", str(tmp_path / "run")]) == 0
    assert "160 of 160 rows" in capsys.readouterr().out
    assert main([*asked, "--out", str(tmp_path / "again"), "--json"]) == 0
    assert (tmp_path / "again" / "measured.jsonl").read_bytes() == (tmp_path / "run" / "measured.jsonl").read_bytes()


def test_a_verdict_that_was_changed_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    asked = [
        "goodhart",
        "--steps",
        "1",
        "--every",
        "1",
        "--examples",
        "4",
        "--draws",
        "1",
        "--prompts",
        "4",
        "--group",
        "2",
    ]
    assert main([*asked, "--kl", "0", "--out", str(run)]) == 0
    raw = (run / "measured.jsonl").read_bytes()
    _forge(run, "measured.jsonl", raw.replace(b'"text":"Final: ', b'"text":"Final: 9', 1))
    assert main(["verify", str(run)]) == 4
    assert "says otherwise" in capsys.readouterr().err


def _forge(run: Path, name: str, content: bytes) -> None:
    """Change a file and every hash of it, as somebody would who knows the format."""
    manifest = read_plain_manifest(run, MicroscopeManifest, "a run")
    (run / name).write_bytes(content)
    files = {**manifest.files, name: manifests.measure_file(run / name)}
    seal(run, msgspec.structs.replace(manifest, files=files))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strict", "permissive"], "no gap to see"),
        (["--kl", "0,0"], "each weight once"),
        (["--kl", "-1"], "0 or above"),
        (["--kl", "a"], "expected numbers"),
        (["--steps", "0"], "--steps 0"),
        (["--policy", "scripted:x", "--steps", "1"], "cannot be trained"),
        (["--strict", "nobody"], "unknown scorer"),
        (["--plot", "x.txt"], "--plot x.txt"),
    ],
)
def test_bad_input_gets_one_message(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["goodhart", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
