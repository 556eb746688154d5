"""The microscope: what the learner does agrees with what is exact, and a sabotage is seen without being told of."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from lockedroom.errors import BadInput
from lockedroom.jsonl import read_batches
from lockedroom.learning.bandit import exact_objective
from lockedroom.learning.bandit_worlds import draw_rounds, find_world, first_policy
from lockedroom.learning.estimator import Estimator
from lockedroom.loops.microscope.bandit import EMA_DECAY, look_at_bandit, make_learner
from lockedroom.policy.tabular import TabularPolicy
from lockedroom.results.microscope.bandit import BanditSetting, DrawLine, StepLine
from lockedroom.results.microscope.bandit_rendering import render_bandit, render_slowly, score_terms


def _setting(**given: Any) -> BanditSetting:
    return BanditSetting(**{"measured": 0, "steps": 60, **given})


@pytest.mark.parametrize(
    ("world", "baseline", "draws"),
    [("stochastic", "ema", 1), ("contextual", "value", 1), ("two-step", "leave-one-out", 4)],
)
def test_learning_comes_close_to_the_ceiling(world: str, baseline: str, draws: int) -> None:
    result = look_at_bandit(_setting(world=world, baseline=baseline, draws=draws, steps=150)).result
    assert result.ceiling - result.final < 0.08
    assert result.findings == []


def test_a_contextual_policy_earns_what_one_that_does_not_read_its_prompt_cannot() -> None:
    result = look_at_bandit(_setting(world="contextual")).result
    assert result.blind_ceiling == pytest.approx(0.5)
    assert result.final > result.blind_ceiling + 0.2


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    first, again = (look_at_bandit(_setting(measured=2, steps=10, seed=3)) for _ in range(2))
    other = look_at_bandit(_setting(steps=10, seed=4))
    assert msgspec.json.encode(first) == msgspec.json.encode(again)
    assert first.draws != other.draws


@pytest.mark.parametrize(
    "given",
    [
        {"baseline": "none"},
        {"baseline": "ema"},
        {"baseline": "batch-mean", "draws": 3},
        {"baseline": "leave-one-out", "draws": 3, "rounds": 2},
        {"baseline": "value", "world": "contextual"},
        {"baseline": "ema", "world": "two-step", "credit": "second"},
        {"baseline": "value", "world": "two-step", "draws": 2},
        {"baseline": "ema", "sabotage": "sign"},
        {"baseline": "ema", "sabotage": "learning-rate"},
    ],
    ids=lambda given: "-".join(map(str, given.values())),
)
def test_the_logits_that_the_slow_mode_explains_are_those_that_moved(given: dict[str, Any], tmp_path: Path) -> None:
    """Σ over the draws of rate × advantage × (1[drawn] − π) / N is the whole change of the table."""
    setting = _setting(steps=6, **given)
    looked = look_at_bandit(setting, tmp_path / "run")
    world = find_world(setting.world)
    policy = first_policy(world)
    rate = setting.learning_rate * (100 if setting.sabotage == "learning-rate" else 1)
    n = setting.draws * setting.rounds
    before_CY = looked.result.start_CY
    for line in looked.steps:
        for draw in (one for one in looked.draws if one.step == line.step):
            prompt = policy.prompt_ids(draw.context)
            terms = score_terms(world.texts, before_CY[world.contexts.index(draw.context)], draw.text)
            for t, (prefix, weights) in enumerate(terms):
                told = {"both": 1, "first": 1 - t, "second": t}[setting.credit]
                told *= -1 if setting.sabotage == "sign" else 1
                for k, (_, weight) in enumerate(weights):
                    row = policy.state(prompt, policy.encode(prefix))
                    policy.logits_SV.data[row, 1 + k] += told * rate * draw.advantages[t] * weight / n
        before_CY = line.probabilities_CY
    learned = TabularPolicy.load(tmp_path / "run" / "policy.safetensors")
    # Rewards reach the estimator in float32 at worst.
    assert learned.logits_SV.detach().numpy() == pytest.approx(policy.logits_SV.detach().numpy(), abs=1e-6, rel=1e-6)


def test_the_advantages_shown_are_those_that_the_learner_used() -> None:
    setting = _setting(baseline="ema", draws=2, steps=8)
    looked = look_at_bandit(setting)
    world = find_world(setting.world)
    learner = make_learner(first_policy(world), Estimator(baseline="ema", ema_decay=EMA_DECAY), setting)
    for step in range(setting.steps):
        done = learner.step(draw_rounds(world, setting.seed, step, setting.rounds), step)
        shown = [draw.advantages[0] for draw in looked.draws if draw.step == step]
        assert done.advantages == pytest.approx(shown, abs=1e-12)


def test_measured_gradients_agree_with_the_exact_ones_for_every_baseline() -> None:
    table = look_at_bandit(_setting(world="contextual", measured=200, steps=1)).result.baselines
    compared = [(row, row.measured) for row in table.rows if row.measured is not None]
    assert len(compared) == 5
    for row, measured in compared:
        assert row.share is not None
        assert row.variance is not None
        assert abs(measured.share - row.share) < 4.5 * measured.share_error, row
        assert abs(measured.variance - row.variance) < 4.5 * measured.variance_error, row


def test_leave_one_out_is_unbiased_and_the_batch_mean_is_three_quarters_of_it_with_four_draws() -> None:
    rows = {row.baseline: row for row in look_at_bandit(_setting(steps=1)).result.baselines.rows}
    assert rows["leave-one-out"].share == pytest.approx(1, abs=1e-12)
    assert rows["batch-mean"].share == pytest.approx(0.75, abs=1e-12)
    assert (rows["batch-mean"].variance or 0) / (rows["leave-one-out"].variance or 1) == pytest.approx(
        0.5625, abs=1e-12
    )
    assert (rows["b*"].variance or 0) <= min(row.variance or math.inf for row in rows.values() if row.share == 1)


def test_the_mean_makes_variance_worse_in_the_confident_world_and_the_text_says_why() -> None:
    looked = look_at_bandit(_setting(world="confident", steps=2))
    table = looked.result.baselines
    assert not table.mean_helps
    assert table.expected_reward > 2 * table.optimal
    assert table.one_mean > 50 * table.one_none > 50 * table.one_optimal
    text = render_bandit(looked.result, looked.steps)
    assert "makes it WORSE here: 94.0 times" in text
    assert "0.900 is more than 2·b* = 0.1459" in text


@pytest.mark.parametrize("seed", range(3))
def test_a_flipped_sign_is_found_from_the_numbers(seed: int) -> None:
    result = look_at_bandit(_setting(sabotage="sign", seed=seed)).result
    assert any(one.startswith("WRONG WAY") for one in result.findings)
    assert any(one.startswith("WORSE") for one in result.findings)


@pytest.mark.parametrize("seed", range(2))
def test_a_sound_run_has_no_finding(seed: int) -> None:
    for world in ("stochastic", "contextual", "confident", "two-step"):
        assert look_at_bandit(_setting(world=world, seed=seed)).result.findings == []


def test_a_hundredfold_learning_rate_is_found_and_can_end_in_the_worst_arm_for_good() -> None:
    results = [look_at_bandit(_setting(sabotage="learning-rate", seed=seed, steps=20)).result for seed in range(4)]
    assert all(any(one.startswith("TOO FAR") for one in result.findings) for result in results)
    stuck = [result for result in results if any(one.startswith("STUCK") for one in result.findings)]
    assert stuck
    assert all(result.final < result.ceiling - 0.1 for result in stuck)


@pytest.mark.parametrize(("credit", "silent", "ceiling"), [("first", 2, 0.5), ("second", 1, 0.7)])
def test_a_step_without_credit_does_not_move_and_caps_what_can_be_earned(
    credit: str, silent: int, ceiling: float
) -> None:
    result = look_at_bandit(_setting(world="two-step", credit=credit, steps=200)).result
    assert result.moved[silent - 1] == 0
    assert result.moved[2 - silent] > 1
    assert result.reachable == pytest.approx(ceiling)
    assert ceiling - 0.05 < result.final <= ceiling
    assert any(f"logits of step {silent} have not moved" in one for one in result.findings)


def test_where_nothing_is_paid_nothing_moves_and_that_is_said() -> None:
    result = look_at_bandit(_setting(steps=1, seed=0)).result
    assert result.moved == [0.0]
    assert any(one.startswith("NOTHING MOVED") for one in result.findings)


def test_the_slow_mode_shows_the_contradiction_of_a_flipped_sign() -> None:
    looked = look_at_bandit(_setting(sabotage="sign", steps=20))
    assert "went the other way" in render_slowly(looked.result, looked.draws, looked.steps, 20)
    sound = look_at_bandit(_setting(steps=20))
    assert "went the other way" not in render_slowly(sound.result, sound.draws, sound.steps, 20)


def test_the_folder_holds_every_draw_and_update_and_its_checksums_hold(tmp_path: Path) -> None:
    looked = look_at_bandit(_setting(steps=15, draws=2), tmp_path / "run", command=["lockedroom", "bandit"])
    folder = tmp_path / "run"
    assert [row for batch in read_batches(folder / "draws.jsonl", DrawLine) for row in batch.rows] == looked.draws
    assert [row for batch in read_batches(folder / "steps.jsonl", StepLine) for row in batch.rows] == looked.steps
    sums = {line[66:]: line[:64] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    assert set(sums) == {path.name for path in folder.iterdir()} - {"SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    learned = TabularPolicy.load(folder / "policy.safetensors")
    assert exact_objective(find_world("stochastic"), learned)[0] == looked.result.final
    with pytest.raises(BadInput, match="never written into"):
        look_at_bandit(_setting(steps=1), folder)


def test_two_runs_of_one_seed_write_the_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        look_at_bandit(_setting(steps=10), tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        if path.name not in ("manifest.json", "SHA256SUMS"):
            assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    "given",
    [
        {"world": "nowhere"},
        {"draws": 0},
        {"rounds": 0},
        {"steps": 0},
        {"seed": -1},
        {"seed": 2**63},
        {"measured": 1},
        {"draws": 10**9},
        {"baseline": "leave-one-out"},
        {"baseline": "batch-mean"},
        {"credit": "first"},
        {"learning_rate": math.nan},
        {"learning_rate": -1.0},
    ],
    ids=str,
)
def test_settings_that_no_learning_can_use_are_refused_before_a_folder_is_made(
    given: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(BadInput):
        look_at_bandit(_setting(**given), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_enormous_learning_rate_makes_findings_and_no_nan() -> None:
    result = look_at_bandit(_setting(world="two-step", learning_rate=1e300, baseline="none", steps=20)).result
    assert np.isfinite(result.final)
    assert any(one.startswith("TOO FAR") for one in result.findings)
