"""Folders that `datasets.save_to_disk` wrote, here written by hand in the same layout; conformance/ has the real writer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types
import pytest

from lockedroom.cli.main import main
from lockedroom.dataset.load import read_examples
from lockedroom.errors import BadInput
from lockedroom.records import Example

ROWS: list[dict[str, Any]] = [{"id": f"e{i}", "prompt": f"{i}+1?", "expected_answer": i + 1} for i in range(5)]


def _save(folder: Path, shards: list[list[dict[str, Any]]]) -> Path:
    folder.mkdir()
    names = [f"data-{i:05d}-of-{len(shards):05d}.arrow" for i in range(len(shards))]
    for name, rows in zip(names, shards, strict=True):
        table = pa.Table.from_pylist(rows)
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    (folder / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": name} for name in names], "_split": None})
    )
    return folder


def _read(folder: Path) -> list[Example]:
    return [row for batch in read_examples(folder) for row in batch]


def test_the_files_are_read_in_the_order_of_the_state(tmp_path: Path) -> None:
    assert _read(_save(tmp_path / "d", [ROWS[:2], ROWS[2:]])) == [Example(**row) for row in ROWS]


def test_the_checks_are_those_of_every_data_set(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"row 3: id.*appears twice"):
        _read(_save(tmp_path / "d", [ROWS[:2], ROWS[:1]]))


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (None, "no state.json"),
        ("{", "save the data set again"),
        ("{}", "save the data set again"),
        ('{"_data_files": [{"filename": "../x.arrow"}]}', "not a file of this folder"),
        ('{"_data_files": [{"filename": "gone.arrow"}]}', "no such file"),
        ('{"_data_files": [{"filename": "junk.arrow"}]}', "not an Arrow file"),
        ('{"_data_files": []}', "holds no examples"),
    ],
)
def test_a_folder_that_cannot_be_read_is_one_message(state: str | None, says: str, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "junk.arrow").write_bytes(b"junk")
    if state is not None:
        (folder / "state.json").write_text(state)

    with pytest.raises(BadInput, match=says):
        _read(folder)


def test_of_several_splits_one_has_to_be_named(tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    _save(tmp_path / "all" / "train", [ROWS])

    with pytest.raises(BadInput, match="holds the splits train; name one"):
        _read(tmp_path / "all")


def test_a_file_that_was_cut_short_is_not_read_as_shorter(tmp_path: Path) -> None:
    folder = _save(tmp_path / "d", [ROWS])
    file = next(folder.glob("*.arrow"))
    file.write_bytes(file.read_bytes()[:-60])

    with pytest.raises(BadInput, match=r"not an Arrow file|cut short"):
        _read(folder)


def test_without_reasoning_gym_the_command_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)  # as if it were not installed

    assert main(["dataset", "make", "reasoning-gym", "--task", "chain_sum", "--out", str(tmp_path / "d")]) == 2

    assert "pip install 'lockedroom[reasoning-gym]'" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_a_folder_of_tables_says_which_file_to_name(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-00000-of-00001.parquet").touch()

    with pytest.raises(BadInput, match=r"name one file, such as .*train-00000-of-00001.parquet"):
        _read(tmp_path)
