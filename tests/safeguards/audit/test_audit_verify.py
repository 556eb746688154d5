"""`lockedroom verify` of an audit folder, and `audit --replay`: what was found is seen again, and forgery is not."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from examining import HOSTILE, SUBJECTS, examination, write_goldens

from lockedroom.cli.main import main
from lockedroom.safeguards.audit import behaviour, stages
from lockedroom.safeguards.audit.examination import report_of


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify-audit")
    shutil.copy(SUBJECTS, folder / "subjects.py")
    out = folder / "run"
    assert (
        main(["audit", f"{folder}/subjects.py:buggy", "--golden", str(write_goldens(folder)), "--out", str(out)]) == 1
    )
    return out


@pytest.fixture
def copied(audited: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(audited, tmp_path / "run"))


def audit_of(function: str, folder: Path) -> Path:
    out = folder / function
    main(
        ["audit", f"{HOSTILE}:{function}", "--golden", str(write_goldens(folder)), "--out", str(out), "--budget", "20"]
    )
    return out


def forge(run: Path, name: str, change: Callable[[str], str]) -> None:
    """Change a file and make every hash fit again, as somebody would who wants it to look untouched."""
    before = (run / name).read_text("utf-8")
    after = change(before)
    assert after != before
    (run / name).write_text(after, "utf-8")
    manifest = json.loads((run / "manifest.json").read_text())
    raw = (run / name).read_bytes()
    manifest["files"][name] |= {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw), "lines": raw.count(b"\n")}
    encoded = json.dumps(manifest, indent=2).encode() + b"\n"
    (run / "manifest.json").write_bytes(encoded)
    sums = {one: entry["sha256"] for one, entry in manifest["files"].items()}
    sums["manifest.json"] = hashlib.sha256(encoded).hexdigest()
    (run / "SHA256SUMS").write_text("".join(f"{digest}  {one}\n" for one, digest in sorted(sums.items())))


def rewrite(run: Path) -> None:
    """Write the summary that forged findings give."""
    from lockedroom.results.audit.files import files_of, read_report

    for name, content in files_of(read_report(run)).items():
        if (run / name).read_bytes() != content:
            forge(run, name, lambda _, content=content: content.decode())  # type: ignore[misc]  # bound at once


def findings(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "findings.jsonl").read_text("utf-8").splitlines()]


def test_an_audit_verifies_and_its_findings_are_replayed(audited: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(audited), "--json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert (shown["kind"], shown["verified"], shown["not_checked"]) == ("audit", True, [])
    assert shown["rescored"] == shown["attempts"] == len(findings(audited)) > 5


def test_a_clean_audit_verifies(tmp_path: Path) -> None:
    assert main(["audit", "final-int", "--out", str(tmp_path / "run"), "--budget", "60"]) == 0
    assert main(["verify", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize(
    "name", ["findings.jsonl", "behaviour.jsonl", "summary.json", "summary.md", "manifest.json", "SHA256SUMS"]
)
def test_a_changed_file_is_exit_4(copied: Path, name: str) -> None:
    (copied / name).write_bytes((copied / name).read_bytes()[:-2] + b" \n")
    assert main(["verify", str(copied)]) == 4


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("summary.json", lambda text: text.replace('"verdict": "findings"', '"verdict": "no finding"')),
        ("summary.json", lambda text: text.replace('"paid": ', '"paid": 1', 1)),
        ("summary.json", lambda text: text.replace('"correct_paid": ', '"correct_paid": 1')),
        ("summary.md", lambda text: text + "all is well\n"),
        ("findings.jsonl", lambda text: "".join(text.splitlines(keepends=True)[1:])),
        ("findings.jsonl", lambda text: text.replace('"cases":', '"cases":9', 1)),
    ],
)  # fmt: skip
def test_numbers_that_do_not_follow_are_exit_4_though_every_hash_fits(
    copied: Path, name: str, change: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    forge(copied, name, change)
    if name != "summary.md":
        rewrite(copied)
    assert main(["verify", str(copied)]) == 4
    assert "does not verify" in capsys.readouterr().err


def test_a_finding_that_the_scorer_does_not_show_is_exit_4(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = findings(copied)[0]
    invented = json.dumps(first["completion"])[1:-1]
    forge(
        copied,
        "findings.jsonl",
        lambda text: text.replace(f'"completion":"{invented}"', '"completion":"nothing at all"', 1),
    )
    rewrite(copied)
    assert main(["verify", str(copied)]) == 4
    assert f"{first['id']}: the scorer does not do this" in capsys.readouterr().err


def test_a_scorer_that_has_changed_or_gone_is_said_and_is_no_tampering(
    audited: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scorer = audited.parent / "subjects.py"
    text = scorer.read_text()
    try:
        scorer.write_text(text + "\n# fixed\n")
        assert main(["verify", str(audited)]) == 0
        assert "not checked: findings were not replayed" in capsys.readouterr().out
        assert main(["audit", "--replay", str(audited)]) == 2
    finally:
        scorer.write_text(text)


@pytest.mark.parametrize(
    ("function", "how"),
    [
        ("drifts", "after thousands of calls"),
        ("remembers", "when repeated"),
        ("depends_on_the_hash_seed", "under another hash seed, locale and time zone"),
        ("needs_the_main_thread", "in a thread that is not the main one"),
        ("reads_the_time", "reads the clock"),
        ("changes_arguments", "changes its arguments"),
    ],
)
def test_unstable_and_impure_findings_hold_what_replaying_them_needs(function: str, how: str) -> None:
    with examination(function, HOSTILE) as exam:
        assert not stages.baseline(exam)
        behaviour.behave(exam)
        report = report_of(exam, [], None)
    assert [one.replays for one in report.findings if how in one.attacks] == [True]


def test_an_unstable_finding_is_replayed_by_a_command_from_the_folder_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = audit_of("drifts", tmp_path)
    (tmp_path / "goldens.jsonl").unlink()
    (found,) = [one for one in findings(run) if "after thousands of calls" in one["attacks"]]
    capsys.readouterr()
    assert main(["audit", "--replay", str(run), "--finding", found["id"]]) == 1
    assert f"{found['id']}: seen again" in capsys.readouterr().out
    assert main(["verify", str(run)]) == 0


def test_replaying_a_finding_that_is_not_there_names_those_that_are(
    audited: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "--replay", str(audited), "--finding", "nothing-001"]) == 2
    assert findings(audited)[0]["id"] in capsys.readouterr().err


def test_a_folder_of_an_unknown_kind_is_refused_with_the_known_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifest.json").write_text('{"format": "lockedroom.run/1", "kind": "horoscope"}')
    assert main(["verify", str(tmp_path)]) == 2
    assert "'horoscope'" in capsys.readouterr().err
