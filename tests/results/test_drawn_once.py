"""What nobody declared of completions is the same where the completions are: a run and a selection from it."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from comparing import RIGHT, WRONG, make_run, reseal

from lockedroom.errors import NotComparable
from lockedroom.loops.evaluate import evaluate
from lockedroom.loops.evaluating.configuration import EvaluateConfig
from lockedroom.loops.select import select
from lockedroom.loops.selecting.opening import SelectConfig
from lockedroom.results.compare import CompareOptions, compare, compare_anyway
from lockedroom.results.comparison.rendering import render_certificate
from lockedroom.safeguards.manifest import read_manifest

DRAWN = [(WRONG, RIGHT), (WRONG, WRONG), (RIGHT, RIGHT), (WRONG, RIGHT)] * 5


def _best(run: Path, name: str = "best", **config: object) -> Path:
    asked = SelectConfig(run=str(run), selector="best-of-n", resamples=0, **config)  # type: ignore[arg-type]
    return select(asked, run.parent / name).path


def test_a_run_and_a_selection_from_it_are_one_sampling_though_nobody_declared_it(tmp_path: Path) -> None:
    run = make_run(tmp_path, "run", DRAWN, declare=())
    certificate = compare([run, _best(run)], CompareOptions())
    one = certificate.against[0]
    assert one.turned.word == "selection"
    assert one.verdict.name == "BETTER"
    assert one.assumed == []
    assert "sampling.temperature" in [field.field for field in one.drawn_once]
    text = render_certificate(certificate)
    assert re.search(r"\| sampling\.temperature +\| not said, drawn once: see below", text)
    assert "- A and B hold the very same completions, drawn once: what nobody declared is the same (prompts." in text


def test_two_selections_from_one_run_are_one_sampling(tmp_path: Path) -> None:
    run = make_run(tmp_path, "run", DRAWN, declare=())
    first = select(SelectConfig(run=str(run), selector="first", resamples=0), tmp_path / "first").path
    assert compare([first, _best(run)], CompareOptions()).against[0].drawn_once


def test_two_runs_of_one_file_stay_undeclared(tmp_path: Path) -> None:
    """One text may be recorded as that of two policies: only a selection names the run whose completions it holds."""
    run = make_run(tmp_path, "run", DRAWN, declare=())
    again = make_run(tmp_path, "again", DRAWN, declare=())
    with pytest.raises(NotComparable, match=r"sampling\.temperature: undeclared in A"):
        compare([run, again], CompareOptions())
    with pytest.raises(NotComparable, match=r"sampling\.temperature: undeclared in A"):
        compare([again, _best(run)], CompareOptions())


def test_fewer_draws_of_the_file_are_not_the_same_completions(tmp_path: Path) -> None:
    """Nobody said that the first draw of a file was drawn as the others were."""
    run = make_run(tmp_path, "run", DRAWN, declare=())
    first = make_run(tmp_path, "run-1", DRAWN, declare=(), draws=1)
    with pytest.raises(NotComparable, match=r"sampling\.temperature: undeclared in A"):
        compare([first, _best(run)], CompareOptions())


def test_what_only_one_of_them_declares_is_not_known_to_be_true_of_the_other(tmp_path: Path) -> None:
    run = make_run(tmp_path, "run", DRAWN, declare=())
    best = _best(run)
    room = read_manifest(run).room
    reseal(run, room=msgspec.structs.replace(room, sampling={**room.sampling, "temperature": 0.8}))
    with pytest.raises(NotComparable) as refused:
        compare([run, best], CompareOptions())
    assert "1 field is not known to be equal" in str(refused.value)


def test_a_selection_from_a_judged_again_run_stands_beside_that_run(tmp_path: Path) -> None:
    from lockedroom.loops.instrument.rescore import RescoreConfig, rescore_all

    run = make_run(tmp_path, "run", DRAWN, declare=())
    again = rescore_all([run], [tmp_path / "again"], RescoreConfig(scorer="permissive"))[0].path
    assert compare([again, _best(again)], CompareOptions()).against[0].drawn_once


def test_a_live_run_and_a_selection_from_it_share_what_the_server_decides(tmp_path: Path) -> None:
    """Two live runs with the same few texts stay two samplings."""
    dataset = tmp_path / "seven.jsonl"
    make_run(tmp_path, "any", [RIGHT] * 4)
    drawn = [
        evaluate(EvaluateConfig(dataset=str(dataset), policy=f"scripted:{RIGHT}", draws=2), tmp_path / name).path
        for name in ("one", "two")
    ]
    assert (drawn[0] / "records.jsonl").read_bytes() == (drawn[1] / "records.jsonl").read_bytes()
    for run in drawn:
        room = read_manifest(run).room
        reseal(run, room=msgspec.structs.replace(room, sampling={**room.sampling, "top_k": "undeclared"}))
    best = _best(drawn[0])
    assert [field.field for field in compare([drawn[0], best], CompareOptions()).against[0].drawn_once] == [
        "sampling.top_k"
    ]
    for other in (best, drawn[0]):
        with pytest.raises(NotComparable, match=r"sampling\.top_k: undeclared in A"):
            compare([drawn[1], other], CompareOptions())


def test_runs_shown_side_by_side_are_not_said_to_lack_what_they_share(tmp_path: Path) -> None:
    run = make_run(tmp_path, "run", DRAWN, declare=())
    assert compare_anyway([run, _best(run)]).differences == [[]]
