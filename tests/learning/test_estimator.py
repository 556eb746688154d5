"""Estimators: what can be combined, and how a person names one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lockedroom.errors import BadInput
from lockedroom.learning.estimator import (
    PRESETS,
    Estimator,
    biased,
    check_estimator,
    check_group,
    make_estimator,
    parse_estimator,
)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_possible_combination(name: str) -> None:
    check_estimator(PRESETS[name])


def test_estimators_can_be_read_without_pytorch() -> None:
    code = "import sys, lockedroom.learning.estimator; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"beta": 0.1},
        {"kl": "k2-in-loss"},
        {"kl": "k2-in-loss", "beta": -1.0},
        {"kl": "k2-in-loss", "beta": float("nan")},
        {"kl": "k2-in-loss", "beta": float("inf")},
        {"epochs": 0},
        {"clip_low": 0.2},
        {"clip_high": 0.2},
        {"clip_low": 1.5, "clip_high": 0.2},
        {"clip_low": 0.2, "clip_high": 0.0},
        {"ema_decay": 0.0},
        {"ema_decay": 1.1},
        {"scale": "group-std"},
        {"scale": "group-std", "baseline": "ema"},
        {"keep": "passed", "baseline": "ema"},
        {"keep": "passed", "kl": "k1-in-reward", "beta": 0.1},
        {"baseline": "mean"},
        {"nonsense": 1},
        {"epochs": "2"},
    ],
)
def test_a_combination_that_means_nothing_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(BadInput, match="estimator"):
        make_estimator(fields)


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadInput, match="rloo, grpo"):
        make_estimator({}, "gpro")


def test_a_person_names_a_preset_and_changes_some_of_it() -> None:
    made = parse_estimator(["grpo", "scale=none", "beta=0.5", "clip_low=none", "clip_high=none"])
    assert (made.scale, made.beta, made.kl, made.clip_low) == ("none", 0.5, "k3-in-loss", None)


@pytest.mark.parametrize("given", [["grpo", "rloo"], ["beta=1", "beta=2"], ["epochs=two"], ["grpo", "speed=9"]])
def test_a_person_who_names_something_unclear_is_asked_again(given: list[str]) -> None:
    with pytest.raises(BadInput, match="estimator"):
        parse_estimator(given)


@pytest.mark.parametrize("baseline", ["leave-one-out", "group-mean"])
def test_a_group_of_one_has_nothing_to_compare_with(baseline: str) -> None:
    with pytest.raises(BadInput, match="draw 2 or more"):
        check_group(make_estimator({"baseline": baseline}), 1)
    check_group(make_estimator({"baseline": baseline}), 2)


def test_an_empty_group_is_refused() -> None:
    with pytest.raises(BadInput, match="--group 0"):
        check_group(Estimator(), 0)


def test_a_group_of_one_can_learn_from_a_running_mean() -> None:
    check_group(Estimator(baseline="ema"), 1)


def test_the_default_and_rloo_are_unbiased_and_the_others_say_why_not() -> None:
    assert [name for name, estimator in PRESETS.items() if not biased(estimator)] == ["reinforce", "rloo"]
    assert len(biased(PRESETS["grpo"])) == 5
