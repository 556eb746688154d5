"""`lockedroom runs`: every run in a line, whatever its state."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from comparing import RIGHT, WRONG, make_run

from lockedroom.cli.main import main
from lockedroom.errors import BadInput
from lockedroom.results.listing import list_runs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    make_run(tmp_path / "deep", "good", [RIGHT, RIGHT])
    make_run(tmp_path, "bad", [WRONG, WRONG])
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.toml").write_text("")
    (tmp_path / "begun" / "records.jsonl").write_text("")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_text("{")
    return tmp_path


def test_runs_of_every_state_are_listed(folder: Path) -> None:
    states = {Path(one.path).name: one.state for one in list_runs(folder)}
    assert states == {"good": "finished", "bad": "finished", "begun": "unfinished", "broken": "unreadable"}


def test_they_are_sorted_by_rate_and_the_unknown_come_last(folder: Path) -> None:
    names = [Path(one.path).name for one in list_runs(folder, sort="rate", reverse=True)]
    assert names[:2] == ["good", "bad"]
    assert set(names[2:]) == {"begun", "broken"}


def test_they_are_filtered(folder: Path) -> None:
    assert {Path(one.path).name for one in list_runs(folder, kind="evaluate")} == {"good", "bad"}
    assert [Path(one.path).name for one in list_runs(folder, match=["deep", "GOOD"])] == ["good"]
    assert list_runs(folder, match=["no such"]) == []


def test_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such folder"):
        list_runs(tmp_path / "nowhere")


def test_the_command_prints_a_table_and_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(folder)]) == 0
    assert "unfinished" in capsys.readouterr().out
    assert main(["runs", str(folder), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 4


def test_the_manifest_of_something_else_is_no_run(folder: Path) -> None:
    for name, text in {"extension": '{"name": "x", "version": 3}', "list": "[1]", "web": '{"format": 7}'}.items():
        (folder / name).mkdir()
        (folder / name / "manifest.json").write_text(text)
    names = {Path(one.path).name: one.state for one in list_runs(folder)}
    assert names == {
        "good": "finished",
        "bad": "finished",
        "begun": "unfinished",
        "broken": "unreadable",
        "list": "unreadable",
    }


def test_states_are_kinds_too(folder: Path) -> None:
    assert [Path(one.path).name for one in list_runs(folder, kind="unfinished")] == ["begun"]


def test_a_rate_is_listed_with_its_interval_and_a_start_with_its_year(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", str(folder), "--match", "good"]) == 0
    assert re.search(r"1\.000 \[0\.\d{3}, 1\.000\] \| 20\d\d-", capsys.readouterr().out)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser can look into every folder")
def test_a_folder_that_cannot_be_looked_into_is_listed(folder: Path) -> None:
    (folder / "closed").mkdir(mode=0)
    assert {Path(one.path).name: one.state for one in list_runs(folder)}["closed"] == "unreadable"
