"""The configuration of Loop A: one frozen struct, read from flags and from an interrupted run, saved as TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.errors import BadInput
from lockedroom.jsonl import reword
from lockedroom.records import Sampling
from lockedroom.results.run_folder import CONFIG


class EvaluateConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What decides the records of a run; saved as `config.toml`. `workers` only decides how fast they are made."""

    dataset: str
    completions: str | None = None
    policy: str | None = None
    scorer: str = "final-int"
    split: str | None = None
    draws: int | None = None
    limit: int | None = None
    seed: int = 0
    declare: tuple[str, ...] = ()
    scorer_timeout: float = 5.0
    scorer_memory: int = 512
    confidence: float = 0.95
    sampling: Sampling = Sampling()


def read_config(flags: Mapping[str, Any], resumed: Path | None) -> EvaluateConfig:
    """Return the configuration that the flags give; when resuming, flags left out are as the run was begun.

    Raises BadInput for an unknown key, a wrong type, a missing dataset, or nothing to resume.
    """
    saved: dict[str, Any] = {}
    if resumed is not None:
        path = resumed / CONFIG
        if not path.is_file():
            raise BadInput(f"{resumed}: nothing to resume here; run without --resume")
        try:
            saved = tomllib.loads(path.read_text("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadInput(f"{path}: not TOML: {error}; start a new run in another folder") from None
    merged = {**saved, **flags}
    if "dataset" not in merged:
        raise BadInput("--dataset is missing: name the file of examples")
    try:
        return msgspec.convert(merged, EvaluateConfig)
    except msgspec.ValidationError as error:
        raise BadInput(f"configuration: {reword(str(error))}") from None


def encode_config(config: EvaluateConfig, draws: int) -> bytes:
    """Return the configuration as TOML, with the number of draws that was settled on."""
    import tomli_w

    return tomli_w.dumps(msgspec.to_builtins(msgspec.structs.replace(config, draws=draws))).encode()


def check_config(config: EvaluateConfig, workers: int) -> None:
    """Refuse values that no run can have."""
    for name, value in (("--draws", config.draws), ("--limit", config.limit)):
        if value is not None and value < 1:
            raise BadInput(f"{name} {value}: must be at least 1")
    if workers < 1:
        raise BadInput(f"--workers {workers}: must be at least 1")
    if not 0 < config.confidence < 1:
        raise BadInput(f"--confidence {config.confidence}: must lie between 0 and 1, e.g. 0.95")
    if config.scorer_timeout <= 0 or config.scorer_memory <= 0:
        raise BadInput("--scorer-timeout and --scorer-memory must be above 0")
