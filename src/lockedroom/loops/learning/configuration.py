"""Reading the configuration of Loop C: an interrupted run's, a file's and the flags', the later ones winning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lockedroom.learning.estimator import PRESETS
from lockedroom.loops.evaluating.configuration import as_config, saved_settings, saved_table
from lockedroom.loops.learning.opening import MAX_TOKENS, PRESET, LearnConfig

# What a person calls the fields of an Estimator: by the names of the flags.
ESTIMATOR_FLAGS = {
    "baseline": "baseline",
    "scale": "scale",
    "kl": "beta",
    "kl_as": "kl",
    "normalisation": "normalisation",
    "epochs": "epochs",
}


def read_learn_config(
    flags: Mapping[str, Any],
    *,
    learner: Mapping[str, Any],
    sampling: Mapping[str, Any],
    estimator: Mapping[str, Any],
    file: Path | None = None,
    resumed: Path | None = None,
) -> LearnConfig:
    """Return the configuration that a file and the flags give, flags first; when resuming, the rest is as it was begun.

    Raises BadInput for an unknown key, a wrong type, a missing dataset, or nothing to resume.
    """
    saved = saved_settings(file, resumed)
    merged = {**saved, **flags}
    merged["learner"] = {**saved_table(saved, "learner"), **learner}
    merged["backend"] = {**saved_table(saved, "backend"), **flags.get("backend", {})}
    merged["sampling"] = {"max_tokens": MAX_TOKENS, **saved_table(saved, "sampling"), **sampling}
    overrides = {**saved_table(saved, "estimator"), **estimator}
    merged["estimator"] = _with_kl(overrides, str(merged.get("preset", PRESET)))
    return as_config(merged, LearnConfig)


def _with_kl(overrides: dict[str, Any], preset: str) -> dict[str, Any]:
    """A weight alone says where KL goes: nowhere at 0; else where the preset has it, or into the reward.

    No KL has no weight.
    """
    if overrides.get("kl") == "none":
        return {"beta": 0.0, **overrides}
    if "beta" not in overrides or "kl" in overrides:
        return overrides
    if overrides["beta"] == 0:
        return {**overrides, "kl": "none"}
    has_one = preset in PRESETS and PRESETS[preset].kl != "none"
    return overrides if has_one else {**overrides, "kl": "k1-in-reward"}
