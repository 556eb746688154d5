"""Scoring on an engine writes what one process writes; the engine here is the one in this process."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lockedroom import EvaluateConfig, evaluate, select
from lockedroom.cli.main import main
from lockedroom.errors import BadInput
from lockedroom.loops.opening.engine import Bench, Feed, InProcess
from lockedroom.loops.selecting.opening import SelectConfig
from lockedroom.records import Sampling
from lockedroom.testkit.openai_server import OpenAIServer, completing

EXAMPLES = 400
SAME = ("records.jsonl", "examples.jsonl", "summary.json", "config.toml")
MINE = """
def score(example, completion):
    if completion == "Final: 3":
        raise RuntimeError("no verdict")
    return {"reward": len(completion) % 3 / 2, "details": {}}
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engine")
    rows = [
        {"id": f"e{i}", "prompt": f"{i}+1?", "expected_answer": i + 1 if i % 5 else "9" * 5000} for i in range(EXAMPLES)
    ]
    one = [{"id": row["id"], "completion": "\ud800" if i % 7 == 0 else f"Final: {i + 1}"} for i, row in enumerate(rows)]
    two = [{"id": f"e{i}", "samples": [f"Final: {i + 1}", "Final: 3"][: 1 + i % 2]} for i in range(EXAMPLES)]
    for name, lines in (
        ("d", rows),
        ("one", one),
        ("two", two),
        ("holes", [line for i, line in enumerate(two) if i % 11]),
        ("backwards", two[::-1]),
    ):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "mine.py").write_text(MINE)
    return folder


def _config(files: Path, **more: Any) -> EvaluateConfig:
    for name in ("completions", "scorer"):
        if name in more:
            more[name] = str(files / more[name])
    return EvaluateConfig(dataset=str(files / "d.jsonl"), **more)


def _same(one: Path, other: Path, names: tuple[str, ...] = SAME) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


class _Dying(InProcess):
    """Ends, as a killed process does, after so many answers."""

    def __init__(self, answers: int) -> None:
        self.answers = answers

    def map(self, feed: Feed, bench: Bench, parcels: int) -> Iterator[bytes]:
        for i, answer in enumerate(super().map(feed, bench, parcels)):
            if i == self.answers:
                raise KeyboardInterrupt
            yield answer


class _Counting(InProcess):
    def __init__(self) -> None:
        self.attempted = 0

    def map(self, feed: Feed, bench: Bench, parcels: int) -> Iterator[bytes]:
        for answer in super().map(feed, bench, parcels):
            self.attempted += 1
            yield answer


@pytest.mark.parametrize(
    "more",
    [
        {"completions": "one.jsonl"},
        {"completions": "two.jsonl"},
        {"completions": "holes.jsonl"},
        {"completions": "backwards.jsonl", "limit": 301},
        {"completions": "two.jsonl", "scorer": "mine.py"},
        {"policy": "scripted:Final: 2", "draws": 3},
    ],
    ids=["odd texts", "several draws", "holes", "another order", "a person's scorer", "live"],
)
def test_an_engine_writes_the_bytes_that_one_process_writes(
    files: Path, tmp_path: Path, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(_config(files, **more), tmp_path / "one")
    evaluate(_config(files, **more), tmp_path / "two", engine=InProcess())

    assert _same(tmp_path / "one", tmp_path / "two")
    assert main(["verify", str(tmp_path / "two")]) == 0


def test_a_run_is_a_recording_too(files: Path, tmp_path: Path) -> None:
    evaluate(_config(files, completions="holes.jsonl"), tmp_path / "run")
    again = EvaluateConfig(dataset=str(files / "d.jsonl"), completions=str(tmp_path / "run"))
    evaluate(again, tmp_path / "one")
    evaluate(again, tmp_path / "two", engine=InProcess())

    assert _same(tmp_path / "one", tmp_path / "two")


def test_an_interrupted_run_goes_on_from_what_was_written(files: Path, tmp_path: Path) -> None:
    config = _config(files, completions="two.jsonl")
    evaluate(config, tmp_path / "one")
    with pytest.raises(KeyboardInterrupt):
        evaluate(config, tmp_path / "two", engine=_Dying(5))
    written = (tmp_path / "two/records.jsonl").read_bytes().count(b"\n")
    shutil.copytree(tmp_path / "two", tmp_path / "three")

    evaluate(config, tmp_path / "two", engine=InProcess(), resume=True)
    done = evaluate(config, tmp_path / "three", resume=True)

    assert 0 < written < 2 * EXAMPLES
    assert done.manifest.timing.attempts == 2 * EXAMPLES - written
    assert _same(tmp_path / "one", tmp_path / "two")
    assert _same(tmp_path / "one", tmp_path / "three")


def test_pieces_of_other_workers_are_not_lost_to_an_engine(files: Path, tmp_path: Path) -> None:
    config = _config(files, completions="two.jsonl")
    with pytest.raises(KeyboardInterrupt):
        evaluate(config, tmp_path / "run", engine=_Dying(2))
    (tmp_path / "run/pieces").mkdir()

    with pytest.raises(BadInput, match="resume it with --workers"):
        evaluate(config, tmp_path / "run", engine=InProcess(), resume=True)
    assert (tmp_path / "run/records.jsonl").stat().st_size > 0


@pytest.mark.parametrize("measure", [None, "mine.py"])
def test_a_selection_on_an_engine_is_that_of_one_process(files: Path, tmp_path: Path, measure: str | None) -> None:
    evaluate(_config(files, policy="scripted:Final: 2", draws=4), tmp_path / "run")
    config = SelectConfig(
        run=str(tmp_path / "run"),
        selector="proxy:permissive",
        measure=measure and str(files / measure),
        resamples=20,
    )
    one = select(config, tmp_path / "one")
    counting = _Counting()
    two = select(config, tmp_path / "two", engine=counting)

    assert counting.attempted > 1
    assert one.manifest.files.keys() == two.manifest.files.keys()
    assert _same(tmp_path / "one", tmp_path / "two", tuple(one.manifest.files))


def test_a_server_is_not_asked_by_many_machines(files: Path, tmp_path: Path) -> None:
    with OpenAIServer(completing(lambda prompt, seed, choice: "Final: 1")) as server:
        config = _config(files, policy=server.name, sampling=Sampling(max_tokens=8))
        with pytest.raises(BadInput, match="drawn by one process"):
            evaluate(config, tmp_path / "run", engine=InProcess())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [(["evaluate", "--workers", "2"], "the cluster decides"),
     (["select", "--selector", "viable-beam"], "leave out --on: it has no effect with --selector viable-beam"),
     (["evaluate"], "no such engine")],
)  # fmt: skip
def test_flags_that_do_not_go_together_are_one_message(
    words: list[str], message: str, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    on = "spark" if message == "no such engine" else "ray"
    code = main([*words, "--on", on, "--dataset", str(files / "d.jsonl"), "--policy", "scripted:x",
                 "--out", str(tmp_path / "run")])  # fmt: skip

    assert code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_without_ray_the_message_says_how_to_install_it(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    code = main(["evaluate", "--on", "ray", "--dataset", str(files / "d.jsonl"), "--policy", "scripted:x",
                 "--out", str(tmp_path / "run")])  # fmt: skip

    assert code == 2
    assert "pip install 'lockedroom[ray]'" in capsys.readouterr().err
