"""The configuration of Loop A: one frozen struct, read from flags and from an interrupted run, saved as TOML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from lockedroom.errors import BadInput
from lockedroom.jsonl import open_for_reading, reword
from lockedroom.policy.backend import Backend
from lockedroom.records import Sampling
from lockedroom.results.run_folder import CONFIG
from lockedroom.safeguards.room import ScorerIdentity


class EvaluateConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What decides the records of a run; saved as `config.toml`. `workers` only decides how fast they are made.

    `scorer_sha256` and `scorer_fingerprint` pin the scorer that is named: a run with another one is refused. Left out,
    they become those of the scorer that is found.
    """

    dataset: str
    completions: str | None = None
    policy: str | None = None
    scorer: str = "final-int"
    scorer_sha256: str | None = None
    scorer_fingerprint: str | None = None
    split: str | None = None
    draws: int | None = None
    limit: int | None = None
    declare: tuple[str, ...] = ()
    scorer_timeout: float = 5.0
    scorer_memory: int = 512
    confidence: float = 0.95
    threads: int = 1
    exact: bool = False
    sampling: Sampling = Sampling()
    backend: Backend = Backend()


def read_config(
    flags: Mapping[str, Any], sampling: Mapping[str, Any], *, file: Path | None = None, resumed: Path | None = None
) -> EvaluateConfig:
    """Return the configuration that a file and the flags give, flags first; when resuming, the rest is as it was begun.

    Raises BadInput for an unknown key, a wrong type, a missing dataset, or nothing to resume.
    """
    saved = saved_settings(file, resumed)
    merged = {**saved, **flags}
    for name, given in (("sampling", sampling), ("backend", flags.get("backend", {}))):
        merged[name] = {**saved_table(saved, name), **given}
    return as_config(merged, EvaluateConfig)


C = TypeVar("C", bound=msgspec.Struct)


def saved_settings(file: Path | None, resumed: Path | None) -> dict[str, Any]:
    """Return what an interrupted run was begun with, and over it what a file says. Raises BadInput."""
    saved: dict[str, Any] = {}
    if resumed is not None:
        if not (resumed / CONFIG).is_file():
            raise BadInput(f"{resumed}: nothing to resume here; run without --resume")
        saved = read_toml(resumed / CONFIG)
    if file is not None:
        saved |= read_toml(file)
    return saved


def as_config(merged: dict[str, Any], kind: type[C]) -> C:
    """Return settings as a configuration. Raises BadInput for a missing dataset, an unknown key or a wrong type."""
    if "dataset" not in merged:
        raise BadInput("--dataset is missing: name the file of examples")
    return convert_settings(merged, kind)


def convert_settings(merged: dict[str, Any], kind: type[C]) -> C:
    """Return settings as a configuration of any kind. Raises BadInput for an unknown key or a wrong type."""
    try:
        return msgspec.convert(merged, kind)
    except msgspec.ValidationError as error:
        raise BadInput(f"configuration: {reword(str(error))}") from None


def saved_table(saved: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a table of a configuration file; empty where there is none. Raises BadInput where it is no table."""
    table = saved.get(name, {})
    if not isinstance(table, dict):
        raise BadInput(f"configuration: {name} must be a table, [{name}]")
    return table


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a configuration file holds. Raises BadInput."""
    import tomllib

    with open_for_reading(path) as stream:
        try:
            return tomllib.loads(stream.read().decode("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadInput(f"{path}: not TOML: {error}") from None


def settle(config: EvaluateConfig, scorer: ScorerIdentity, draws: int) -> EvaluateConfig:
    """Return the configuration with what was left out filled in: the number of draws, and which scorer it is.

    Raises BadInput when the configuration pins another scorer, as that of an interrupted run does.
    """
    for what, pinned, found in (
        ("source sha256", config.scorer_sha256, scorer.source_sha256),
        ("fingerprint of its verdicts", config.scorer_fingerprint, scorer.fingerprint),
    ):
        if pinned is not None and pinned != found:
            raise BadInput(
                f"--scorer {config.scorer!r} is not the scorer that this configuration pins ({what}: was "
                f"{pinned[:12]}…, now {found[:12]}…); restore the scorer, or start a new run in another folder"
            )
    return msgspec.structs.replace(
        config, draws=draws, scorer_sha256=scorer.source_sha256, scorer_fingerprint=scorer.fingerprint
    )


def encode_config(config: EvaluateConfig) -> bytes:
    """Return the configuration as TOML."""
    import tomli_w

    return tomli_w.dumps(msgspec.to_builtins(config)).encode()


def check_config(config: EvaluateConfig, workers: int) -> None:
    """Refuse values that no run can have."""
    for name, value in (("--draws", config.draws), ("--limit", config.limit)):
        if value is not None and value < 1:
            raise BadInput(f"{name} {value}: must be at least 1")
    if workers < 1:
        raise BadInput(f"--workers {workers}: must be at least 1")
    if not 0 < config.confidence < 1:
        raise BadInput(f"--confidence {config.confidence}: must lie between 0 and 1, e.g. 0.95")
    if not config.scorer_timeout > 0 or config.scorer_memory <= 0:  # NaN is not above 0
        raise BadInput("--scorer-timeout and --scorer-memory must be above 0")
