"""Live selection and guided search on the embedded model, and the measured comparison of the two."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
import pytest

from lockedroom.cli.main import main
from lockedroom.errors import BadInput, Tampered
from lockedroom.loops.evaluate import evaluate
from lockedroom.loops.evaluating.configuration import EvaluateConfig
from lockedroom.loops.select import select
from lockedroom.loops.selecting.opening import SelectConfig
from lockedroom.loops.selecting.search import SearchConfig, Searched, search
from lockedroom.policy.tiny import DATA_FOLDER
from lockedroom.results.compare import CompareOptions, compare
from lockedroom.results.verify import verify

DEV = str(DATA_FOLDER / "dev.jsonl")


def searched(out: Path, selector: str, **settings: object) -> Searched:
    return search(SearchConfig(dataset=DEV, selector=selector, limit=100, **settings), out)  # type: ignore[arg-type]  # by keyword


def pass_rate(done: Searched) -> float:
    assert done.summary.pass_rate is not None
    return done.summary.pass_rate.value


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pool") / "pool"
    return evaluate(EvaluateConfig(dataset=DEV, policy="tiny", draws=4, limit=100, exact=True), out).path


def test_a_viable_beam_beats_best_of_4_at_no_more_tokens_than_best_of_2(tmp_path: Path, pool: Path) -> None:
    selection = select(SelectConfig(run=str(pool), selector="best-of-n", resamples=0), tmp_path / "bon").selection
    _, two, four = selection.at_n
    done = searched(tmp_path / "beam", "viable-beam", width=2)
    assert four.accuracy is not None
    assert two.tokens is not None
    assert pass_rate(done) > four.accuracy.mean
    assert done.search.tokens <= two.tokens


def test_viable_sampling_is_always_well_formed_and_strays_from_the_policy(tmp_path: Path) -> None:
    done = searched(tmp_path / "run", "viable-sampling")
    assert {code.code for code in done.summary.codes} <= {"ok", "wrong_answer"}
    assert done.search.kl > 0.5
    assert verify(done.path).rescored == 100


def test_a_search_is_selection_not_learning(tmp_path: Path, pool: Path) -> None:
    done = searched(tmp_path / "run", "viable-beam")
    (against,) = compare([pool, done.path], CompareOptions()).against
    assert against.turned.knobs == ("selection",)


def test_a_search_is_the_same_every_time(tmp_path: Path) -> None:
    one, two = (searched(tmp_path / name, "viable-sampling", draws=2) for name in ("one", "two"))
    assert one.manifest.files["records.jsonl"] == two.manifest.files["records.jsonl"]


def test_search_numbers_that_do_not_follow_from_their_rows_are_tampering(tmp_path: Path) -> None:
    from lockedroom.safeguards import manifest as manifests

    done = searched(tmp_path / "run", "viable-sampling")
    path = done.path / "search.json"
    path.write_text(path.read_text().replace('"redraws": 0', '"redraws": 9'))
    files = {**done.manifest.files, "search.json": manifests.measure_file(path)}
    forged = msgspec.structs.replace(done.manifest, files=files)
    (done.path / manifests.NAME).write_bytes(manifests.encode_manifest(forged))
    (done.path / manifests.SUMS_NAME).write_bytes(manifests.checksum_lines(forged))
    with pytest.raises(Tampered, match=r"search\.json"):
        verify(done.path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"selector": "viable"}, "a search is one of"),
        ({"selector": "viable-beam", "width": 0}, "--width 0"),
        ({"selector": "viable-beam", "draws": 2}, "deterministic"),
        ({"selector": "viable-beam", "policy": "scripted:Final: 1"}, "token-level search"),
        ({"selector": "viable-beam", "scorer": "permissive"}, "cannot say which prefixes are viable"),
    ],
)
def test_searches_that_cannot_be_made_are_refused(tmp_path: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        searched(tmp_path / "run", **settings)  # type: ignore[arg-type]  # by keyword
    assert not (tmp_path / "run").exists()


def test_exact_pass_at_k_agrees_with_the_estimate(tmp_path: Path, pool: Path) -> None:
    selection = select(SelectConfig(run=str(pool), selector="best-of-n", resamples=0), tmp_path / "bon").selection
    assert selection.exact is not None
    assert [point.k for point in selection.exact.points] == [1, 2, 4]
    assert all(point.agrees for point in selection.exact.points)
    assert selection.known_p
    assert selection.at_n[-1].kl_binary is not None
    assert 0 < selection.at_n[-1].kl_binary < selection.at_n[-1].kl_bound


def test_the_command_line_draws_selects_confirms_and_plots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, plots = tmp_path / "run", tmp_path / "plots"
    arguments = ["select", "--dataset", DEV, "--limit", "20", "--policy", "tiny", "--draws", "4", "--exact", "--n", "1,4",
                 "--selector", "proxy:permissive", "--confirm", "--plots", str(plots), "--out", str(out), "--json"]  # fmt: skip
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["selection"]["confirmed"]["fresh_draws"] == 4
    assert sorted(path.name for path in plots.iterdir()) == [
        f"{name}.{suffix}"
        for name in ("accuracy-against-cost", "pass-at-k", "proxy-against-strict")
        for suffix in ("png", "svg")
    ]
    assert main(["verify", str(out), str(tmp_path / "run-pool"), str(tmp_path / "run-fresh")]) == 0


def test_plots_are_the_same_bytes_for_the_same_numbers(tmp_path: Path, pool: Path) -> None:
    from lockedroom.report.plots import write_plots

    selection = select(SelectConfig(run=str(pool), selector="best-of-n", resamples=50), tmp_path / "bon").selection
    one, two = write_plots(selection, tmp_path / "one"), write_plots(selection, tmp_path / "two")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_plots_say_what_they_show_in_plain_numbers_and_names(tmp_path: Path, pool: Path) -> None:
    from lockedroom.report.plots import write_plots

    folder = tmp_path / ("long-" * 20)
    folder.mkdir()
    (folder / "biased.py").write_text("def score(e, c):\n    return {'reward': len(c) - 12.0, 'details': {}}\n")
    config = SelectConfig(run=str(pool), selector=f"proxy:{folder}/biased.py:score", resamples=50)
    paths = write_plots(select(config, tmp_path / "proxy").selection, tmp_path / "plots")
    texts = {path.name: path.read_text() for path in paths if path.suffix == ".svg"}
    for words in ("proxy:biased.py:score, 100 examples × 4 draws", "reward by biased.py:score", "n (draws)", ">4<"):
        assert words in texts["proxy-against-strict.svg"]
    assert ">−2.0<" in texts["proxy-against-strict.svg"]  # rewards below 0 are inside the axes
    assert "pass@k (share of examples)" in texts["pass-at-k.svg"]
    assert "tokens an example" in texts["accuracy-against-cost.svg"]
    assert str(tmp_path) not in "".join(texts.values())


def test_plots_without_matplotlib_are_refused_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    arguments = ["select", "--dataset", DEV, "--policy", "tiny", "--draws", "2", "--selector", "first"]
    assert main([*arguments, "--out", str(tmp_path / "run"), "--plots", str(tmp_path / "plots")]) == 2
    assert "lockedroom[report]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "name what to choose from"),
        (["--run", "r", "--dataset", "d"], "name what to choose from"),
        (["--run", "r", "--draws", "3"], "leave out"),
        (["--run", "r", "--confirm"], "name a run"),
        (["--dataset", "d", "--completions", "c", "--confirm"], "cannot be drawn again"),
        (["--run", "r", "--n", "1,x"], "whole numbers"),
        (["--run", "r", "--verifier-errors", "0.1"], "two rates"),
        (["--run", "nowhere"], "no such run folder"),
    ],
)
def test_command_lines_that_make_no_sense_are_bad_input(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["select", "--selector", "first", *flags]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--run", "r"], ["--dataset", "d", "--policy", "tiny", "--n", "2"]])
def test_a_search_from_the_command_line_needs_a_live_policy_and_no_n(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["select", "--selector", "viable-beam", *flags]) == 2
    assert "--selector viable-beam" in capsys.readouterr().err


OWN = """
import re

def score(example, completion):
    found = re.fullmatch(r"Final: (0|-?[1-9][0-9]*)", completion)
    if found is None:
        return {"reward": 0, "details": {"code": "bad", "outcome": "malformed"}}
    right = found[1] == str(example.expected_answer)
    return {"reward": float(right), "details": {"code": "ok" if right else "no", "outcome": "correct" if right else "wrong"}}

def viable(prefix):
    return re.fullmatch(r"(Final: )(-?[1-9][0-9]{0,5}|0|-)?", prefix) is not None or "Final: ".startswith(prefix)
"""


def own(folder: Path, text: str = OWN) -> str:
    (folder / "own.py").write_text(text)
    return f"{folder}/own.py:score"


def test_a_persons_own_viable_guides_as_the_built_in_does(tmp_path: Path) -> None:
    mine = searched(tmp_path / "mine", "viable-sampling", scorer=own(tmp_path))
    builtin = searched(tmp_path / "builtin", "viable-sampling")
    free = searched(tmp_path / "greedy", "beam", width=1)
    assert pass_rate(mine) == pytest.approx(pass_rate(builtin), abs=0.05)
    assert {code.code for code in mine.summary.codes} <= {"ok", "no"}
    assert free.manifest.selection["selector"] == "beam"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OWN[: OWN.index("def viable")], "define viable"),
        (OWN + "def viable(prefix):\n    return 1\n", "not True or False"),
        (OWN + "def viable(prefix):\n    raise KeyError(prefix)\n", "KeyError"),
        (OWN + "def viable(prefix):\n    while True: pass\n", "no result within"),
        (OWN + "def viable():\n    return True\n", "cannot be called as viable"),
        (OWN + "def viable(prefix):\n    return False\n", "no completion of this policy is viable"),
    ],
)
def test_a_viable_that_cannot_be_used_is_one_message(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        searched(tmp_path / "run", "viable-sampling", scorer=own(tmp_path, text), scorer_timeout=0.5)
    assert not (tmp_path / "run").exists()


def test_a_viable_that_takes_everything_is_told_by_what_came_of_it(tmp_path: Path) -> None:
    from lockedroom.results.selection.search import render_search

    text = OWN[: OWN.index("def viable")] + "def viable(prefix):\n    return True\n"
    done = searched(tmp_path / "run", "viable-sampling", scorer=own(tmp_path, text))
    assert "led on to no well-formed end" in render_search(done.search, done.summary)


def test_a_plain_beam_needs_no_scorer_that_knows_what_is_viable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--dataset",
        DEV,
        "--policy",
        "tiny",
        "--limit",
        "50",
        "--measure",
        "permissive",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(["select", "--selector", "beam", *arguments]) == 0
    assert main(["verify", str(tmp_path / "run")]) == 0
    assert main(["select", "--selector", "viable-beam", *arguments[:-1], str(tmp_path / "other")]) == 2
    assert "cannot say which prefixes are viable" in capsys.readouterr().err
