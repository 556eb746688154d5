"""What a person says about completions that were recorded elsewhere: how they were drawn, and by what.

A sidecar `NAME.meta.toml` beside `NAME.jsonl`, or `--declare SECTION.KEY=VALUE`, fills three tables. What nobody
declared is `undeclared`, which equals nothing when rooms are compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.errors import BadInput
from lockedroom.jsonl import open_for_reading

UNDECLARED = "undeclared"
# The seed scheme of every policy that the lab draws from: each draw has random numbers of its own, derived by hashing the
# run's seed, the example and the draw, so no two examples share any. How they are derived is the policy's.
INDEPENDENT = "independent"
SECTIONS = ("policy", "prompts", "sampling")
SAMPLING_FIELDS = ("temperature", "top_k", "top_p", "max_tokens", "stop", "seed_scheme")
PROMPT_FIELDS = ("template",)


class Declared(msgspec.Struct, frozen=True):
    """The three tables; `sampling` and `prompts` hold every field of the room, declared or `undeclared`."""

    policy: dict[str, Any]
    prompts: dict[str, Any]
    sampling: dict[str, Any]


def read_declared(completions: Path, declarations: Sequence[str] = ()) -> Declared:
    """Read the sidecar of a completions file, then apply `SECTION.KEY=VALUE` declarations (VALUE is TOML, or text).

    Raises BadInput when the sidecar is not TOML, holds an unknown section, or a declaration cannot be read.
    """
    sidecar = completions.parent / f"{completions.name.removesuffix('.jsonl')}.meta.toml"
    tables: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    if sidecar.exists():
        _merge(tables, _parse(sidecar), str(sidecar))
    for text in declarations:
        section, key, value = _parse_declaration(text)
        tables[section][key] = _as_json(value, f"--declare {text!r}")
    tables["sampling"].pop("draws", None)  # how many were drawn is counted, not believed
    return Declared(
        tables["policy"], _filled(tables["prompts"], PROMPT_FIELDS), _filled(tables["sampling"], SAMPLING_FIELDS)
    )


def _parse(sidecar: Path) -> dict[str, Any]:
    import tomllib

    try:
        with open_for_reading(sidecar) as file:
            return tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{sidecar}: not TOML: {error}") from None


def _merge(tables: dict[str, dict[str, Any]], parsed: Mapping[str, Any], where: str) -> None:
    for section, table in parsed.items():
        if section not in tables or not isinstance(table, dict):
            raise BadInput(f"{where}: unknown entry {section!r}; use the tables [policy], [prompts] and [sampling]")
        tables[section].update(_as_json(table, where))


def _as_json(value: Any, where: str) -> Any:
    """Return what the manifest will hold: TOML's dates as text. What JSON cannot hold is refused."""
    plain = msgspec.to_builtins(value)
    waiting = [plain]
    while waiting:
        item = waiting.pop()
        if isinstance(item, (dict, list)):
            waiting.extend(item.values() if isinstance(item, dict) else item)
        elif isinstance(item, float) and not math.isfinite(item):
            raise BadInput(f"{where}: {item} is not a value that can be compared; write a finite number, or text")
    return plain


def _parse_declaration(text: str) -> tuple[str, str, Any]:
    name, equals, value = text.partition("=")
    section, dot, key = name.strip().partition(".")
    if not equals or not dot or not key or not value.strip() or section not in SECTIONS:
        raise BadInput(
            f"--declare {text!r}: write SECTION.KEY=VALUE with SECTION one of {', '.join(SECTIONS)}, "
            "e.g. sampling.temperature=0.8"
        )
    import tomllib

    try:
        parsed = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        return section, key, value.strip()
    return section, key, parsed["value"] if len(parsed) == 1 else value.strip()


def _filled(table: dict[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    return dict.fromkeys(fields, UNDECLARED) | table
