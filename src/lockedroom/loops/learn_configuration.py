"""Reading the configuration of Loop C: an interrupted run's, a file's and the flags', the later ones winning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.errors import BadInput
from lockedroom.jsonl import reword
from lockedroom.learning.estimator import PRESETS
from lockedroom.loops.configuration import read_toml, saved_table
from lockedroom.loops.learn_opening import MAX_TOKENS, PRESET, LearnConfig
from lockedroom.results.run_folder import CONFIG


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
    saved: dict[str, Any] = {}
    if resumed is not None:
        if not (resumed / CONFIG).is_file():
            raise BadInput(f"{resumed}: nothing to resume here; run without --resume")
        saved = read_toml(resumed / CONFIG)
    if file is not None:
        saved |= read_toml(file)
    merged = {**saved, **flags}
    merged["learner"] = {**saved_table(saved, "learner"), **learner}
    merged["backend"] = {**saved_table(saved, "backend"), **flags.get("backend", {})}
    merged["sampling"] = {"max_tokens": MAX_TOKENS, **saved_table(saved, "sampling"), **sampling}
    overrides = {**saved_table(saved, "estimator"), **estimator}
    merged["estimator"] = _with_kl(overrides, str(merged.get("preset", PRESET)))
    if "dataset" not in merged:
        raise BadInput("--dataset is missing: name the file of examples to learn from")
    try:
        return msgspec.convert(merged, LearnConfig)
    except msgspec.ValidationError as error:
        raise BadInput(f"configuration: {reword(str(error))}") from None


def _with_kl(overrides: dict[str, Any], preset: str) -> dict[str, Any]:
    """A weight alone says where KL goes: nowhere at 0; else where the preset has it, or into the reward."""
    if "beta" not in overrides or "kl" in overrides:
        return overrides
    if overrides["beta"] == 0:
        return {**overrides, "kl": "none"}
    has_one = preset in PRESETS and PRESETS[preset].kl != "none"
    return overrides if has_one else {**overrides, "kl": "k1-in-reward"}
