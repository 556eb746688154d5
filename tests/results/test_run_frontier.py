"""Learning runs on one chart: exact places, one room or a refusal, a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from lockedroom.dataset.load import read_examples
from lockedroom.errors import BadInput, NotComparable
from lockedroom.loops.learn import learn
from lockedroom.loops.learning.opening import LearnConfig
from lockedroom.loops.learning.update import LearnerSettings
from lockedroom.policy.tiny import DATA_FOLDER
from lockedroom.records import Sampling
from lockedroom.results.microscope.run_frontier import place_runs, render_run_frontier
from lockedroom.stats.selection import best_of_n_kl_binary
from lockedroom.testkit.small_run import lockedroom, write_rows


def _learned(out: Path, **changes: Any) -> Path:
    small: dict[str, Any] = {
        "dataset": str(DATA_FOLDER / "train.jsonl"), "dev": str(out.parent / "dev.jsonl"), "prompts": 16, "draws": 1,
        "eval_every": 2, "eval_examples": 12, "learner": LearnerSettings(steps=3, group=4), "sampling": Sampling(max_tokens=12),
    }  # fmt: skip
    return learn(LearnConfig(**{**small, **changes}), out).path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    write_rows(folder / "dev.jsonl", next(iter(read_examples(DATA_FOLDER / "dev.jsonl")))[:16])
    return [_learned(folder / f"beta-{beta:g}", estimator={"beta": beta}) for beta in (0.02, 2.0)]


def test_runs_stand_at_their_exact_reward_and_kl_under_the_frontier(runs: list[Path]) -> None:
    found = place_runs(runs)
    assert [(one.run, one.beta) for one in found.runs] == [("beta-0.02", 0.02), ("beta-2", 2.0)]
    for one in found.runs:
        assert [stage.step for stage in one.course] == [0, 2, 3]
        assert one.reward <= one.best
        assert (one.course[0].reward, one.course[0].kl) == pytest.approx((found.best_of_n[0].reward, 0.0), abs=1e-6)
    assert found.examples == 12


def test_best_of_n_is_that_of_every_examples_own_probability(runs: list[Path]) -> None:
    found = place_runs(runs[:1], ns=(1, 4))
    lines = (runs[0] / "base" / "exact.jsonl").read_bytes().splitlines()[:12]
    rates = [msgspec.json.decode(line)["accepted"] for line in lines]
    four = found.best_of_n[1]
    assert four.reward == pytest.approx(sum(1 - (1 - rate) ** 4 for rate in rates) / 12)
    assert four.kl == pytest.approx(sum(best_of_n_kl_binary(rate, 4) for rate in rates) / 12)
    assert four.tokens == pytest.approx(4 * found.best_of_n[0].tokens)


def test_runs_of_different_rooms_or_policies_are_refused(runs: list[Path]) -> None:
    other = _learned(runs[0].parent / "warm", sampling=Sampling(max_tokens=12, temperature=0.8))
    with pytest.raises(NotComparable, match="their base runs differ in sampling"):
        place_runs([runs[0], other])
    weak = _learned(runs[0].parent / "weak", policy="tiny-hedge")
    with pytest.raises(NotComparable, match="their base runs differ in policy"):
        place_runs([runs[0], weak])


def test_what_cannot_be_placed_is_one_message(runs: list[Path]) -> None:
    counted = _learned(runs[0].parent / "counted", exact=False)
    with pytest.raises(BadInput, match="was counted, not computed"):
        place_runs([counted])
    with pytest.raises(BadInput, match="not a learning run"):
        place_runs([runs[0] / "base"])
    with pytest.raises(BadInput, match="stands there twice"):
        place_runs([runs[0], runs[0]])


def test_command_prints_both_tables_and_draws_them(runs: list[Path], tmp_path: Path) -> None:
    done = lockedroom("frontier", "--runs", *runs, "--plot", "f.svg", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert render_run_frontier(place_runs(runs)).encode() in done.stdout
    assert b"the way there" in (tmp_path / "f.svg").read_bytes()
    refused = lockedroom("frontier", "--runs", runs[0], "--world", "graded", cwd=tmp_path)
    assert (refused.returncode, b"--world is about a world of its own" in refused.stderr) == (2, True)
