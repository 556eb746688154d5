"""`lockedroom audit` and `lockedroom golden`, as a person calls them."""

from __future__ import annotations

import builtins
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from examining import SUBJECTS, write_goldens

from lockedroom.cli.main import main


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    assert (
        main(["audit", f"{SUBJECTS}:buggy", "--golden", str(write_goldens(folder)), "--out", str(folder / "run")]) == 1
    )
    return folder / "run"


def test_the_built_in_scorer_passes_with_exit_code_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "final-int", "--out", str(tmp_path / "run"), "--json", "--budget", "60"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "no finding"
    assert found["findings"] == []
    assert found["constants"]["best"]["mean_reward"] == found["constants"]["honest"]


def test_an_audit_is_a_folder_whose_hashes_hold(audited: Path) -> None:
    assert {path.name for path in audited.iterdir()} == {
        "findings.jsonl",
        "behaviour.jsonl",
        "summary.json",
        "summary.md",
        "manifest.json",
        "SHA256SUMS",
    }
    done = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=audited, check=False)
    assert done.returncode == 0
    assert json.loads((audited / "manifest.json").read_text())["format"] == "lockedroom.audit/1"


def test_findings_are_replayed_by_golden_check(audited: Path, capsys: pytest.CaptureFixture[str]) -> None:
    findings = str(audited / "findings.jsonl")
    assert main(["golden", "check", f"{SUBJECTS}:buggy", "--golden", findings]) == 1
    assert f"0 of {len(rows(audited / 'findings.jsonl'))} goldens" in capsys.readouterr().out
    assert main(["golden", "check", f"{SUBJECTS}:correct", "--golden", findings]) == 0


def test_a_finding_becomes_a_golden_in_one_command_and_only_once(
    audited: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = rows(audited / "findings.jsonl")[0]["id"]
    to = tmp_path / "mine.jsonl"
    assert main(["golden", "add", str(audited), name, "--to", str(to), "--note", "seen in review"]) == 0
    assert main(["golden", "add", str(audited), name, "--to", str(to)]) == 0
    (row,) = rows(to)
    assert (row["kind"], row["note"]) == ("exploit", "seen in review")
    assert "1 there already" in capsys.readouterr().out


def test_a_contradiction_among_goldens_is_refused(
    audited: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = rows(audited / "findings.jsonl")[0]["id"]
    to = tmp_path / "mine.jsonl"
    main(["golden", "add", str(audited), name, "--to", str(to)])
    text = to.read_text().replace('"exploit"', '"correct"')
    (tmp_path / "other.jsonl").write_text(text)
    assert main(["golden", "check", "final-int", "--golden", str(to), str(tmp_path / "other.jsonl")]) == 2
    assert "are the same case" in capsys.readouterr().err


def test_a_finding_that_the_file_holds_as_another_kind_is_refused_and_not_passed_over(
    audited: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = rows(audited / "findings.jsonl")[0]["id"]
    to = tmp_path / "mine.jsonl"
    main(["golden", "add", str(audited), name, "--to", str(to)])
    before = to.read_bytes()
    assert main(["golden", "add", str(audited), name, "--to", str(to), "--kind", "contested"]) == 2
    assert "are the same case" in capsys.readouterr().err
    assert to.read_bytes() == before


def test_ids_that_another_audit_has_used_in_the_file_get_a_number(audited: Path, tmp_path: Path) -> None:
    (finding, *_) = rows(audited / "findings.jsonl")
    to = tmp_path / "mine.jsonl"
    to.write_text(
        json.dumps({"id": finding["id"], "expected_answer": 1, "completion": "another text", "kind": "exploit"})
    )
    assert main(["golden", "add", str(audited), finding["id"], "--to", str(to)]) == 0
    assert [row["id"] for row in rows(to)] == [finding["id"], f"{finding['id']}-2"]


@pytest.mark.parametrize(("to", "message"), [(".", "is a folder"), ("nowhere/mine.jsonl", "its folder does not exist")])
def test_a_golden_file_that_cannot_be_written_is_bad_input(
    audited: Path, tmp_path: Path, to: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["golden", "add", str(audited), "--to", str(tmp_path / to)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"id": "a", "expected_answer": 1, "completion": "x"}'] * 2, "id 'a' stands in"),
        (
            ['{"kind": "good", "expected_answer": 1, "completion": "x"}'],
            "'good' is none of correct, exploit, contested",
        ),
    ],
)
def test_golden_rows_that_cannot_be_told_apart_or_read_are_bad_input(
    lines: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))
    assert main(["golden", "check", "final-int", "--golden", str(tmp_path / "mine.jsonl")]) == 2
    assert message in capsys.readouterr().err


def test_one_golden_file_named_with_an_audits_findings_may_repeat_ids(audited: Path, tmp_path: Path) -> None:
    findings, to = audited / "findings.jsonl", tmp_path / "mine.jsonl"
    main(["golden", "add", str(audited), "--to", str(to)])
    assert main(["golden", "check", f"{SUBJECTS}:correct", "--golden", str(to), str(findings)]) == 0


def test_the_goldens_of_final_int_are_judged_as_reviewed() -> None:
    assert (
        main(["golden", "check", "final-int", "--golden", str(Path(__file__).parents[2] / "goldens" / "final-int")])
        == 0
    )


@pytest.mark.parametrize(
    ("scorer", "content", "message"),
    [
        ("correct", None, "there are no golden completions to start from"),
        ("nothing_here", "goldens", "no function 'nothing_here'"),
        ("compute_score", "goldens", "cannot be called as"),
    ],
)
def test_what_cannot_be_audited_is_exit_code_2_with_what_to_do(
    scorer: str, content: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden = ["--golden", str(write_goldens(tmp_path))] if content else []
    assert main(["audit", f"{SUBJECTS}:{scorer}", *golden, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_file_that_does_not_import_could_not_be_audited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.py").write_text("import nowhere_to_be_found\n")
    assert (
        main(
            [
                "audit",
                str(tmp_path / "broken.py"),
                "--golden",
                str(write_goldens(tmp_path)),
                "--out",
                str(tmp_path / "run"),
            ]
        )
        == 2
    )
    assert "could not audit" in capsys.readouterr().err


@pytest.mark.parametrize(
    "goldens",
    [
        '{"expected_answer": 1, "completion": "Final: 1"}\n',
        '{"expected_answer": 1, "completion": "Final: 1"}\n{"expected_answer": 2, "completion": "it is 2"}\n',
    ],
    ids=["one answer", "does not score 1"],
)
def test_goldens_that_are_too_few_or_not_paid_are_exit_code_2(
    goldens: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "g.jsonl").write_text(goldens)
    assert (
        main(["audit", f"{SUBJECTS}:correct", "--golden", str(tmp_path / "g.jsonl"), "--out", str(tmp_path / "run")])
        == 2
    )
    assert "This is not a pass" in capsys.readouterr().out


def test_without_hypothesis_the_audit_says_which_extra_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole_import = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "hypothesis":
            raise ImportError(name)
        return whole_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["audit", "final-int", "--out", str(tmp_path / "run")]) == 2
    assert "lockedroom[audit]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["audit"], "name what to audit"),
        (["audit", "final-int", "--budget", "0"], "--budget 0"),
        (["audit", "final-int", "--budget", "inf"], "--budget inf"),
        (["audit", "final-int", "--finding", "x"], "--finding does nothing with SCORER"),
        (["audit", "--from", "r", "--golden", "g.jsonl"], "--golden does nothing with --from"),
        (["audit", "--replay", "r", "--budget", "9"], "--budget does nothing with --replay"),
        (["audit", "--kill-matrix", "--out", "r"], "--out does nothing with --kill-matrix"),
        (["audit", "final-int", "--allow", "typos"], "no such family"),
        (["audit", "final-int", "--signature", "number"], "built-in"),
        (["audit", "gpt"], "unknown scorer"),
        (["golden", "check", "final-int", "--golden", "missing.jsonl"], "no such file"),
        (["golden", "add", "missing", "--to", "x.jsonl"], "name an audit folder"),
    ],
)
def test_bad_input_is_exit_code_2_and_says_what_to_do(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
