"""Where a folder comes from, as blocks: what pins it down, and the commands that make it and check it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lockedroom.report.blocks import Rows, Section, Table
from lockedroom.safeguards.manifest import NAME
from lockedroom.visible import visible

LONGEST = 300
# Said by the sections above, or too long for a table.
_ELSEWHERE = ("command", "files", "scorer")


def provenance(run: Path) -> Section:
    """Everything that the manifest of a folder of any kind says, a row each."""
    manifest: dict[str, Any] = json.loads((run / NAME).read_text("utf-8"))
    facts = dict(_rows("", {key: value for key, value in manifest.items() if key not in _ELSEWHERE}))
    facts |= {f"sha256 of {name}": entry["sha256"] for name, entry in manifest["files"].items()}
    rows: Rows = [[visible(name, 80), visible(value, LONGEST)] for name, value in facts.items()]
    return Section(
        title=f"Provenance of {visible(run.name, 80)}",
        text=["Made by the first command, checked by the second:"],
        quotes=[
            visible(_command(manifest.get("command") or []), 1000),
            f"lockedroom verify {visible(shlex.quote(str(run)), 500)}",
        ],
        tables=[Table(header=["what", "value"], rows=rows, filterable=True)],
        folded=True,
    )


def _rows(above: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Nested values by their dotted names; what is empty is left out."""
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, dict):
            yield from _rows(f"{name}.", value)
        elif value not in (None, "", []):
            yield name, value if isinstance(value, str) else json.dumps(value)


def _command(command: list[str]) -> str:
    if not command:
        return "(called from Python)"
    # `python -m lockedroom` is recorded by the file that it runs.
    program = "lockedroom" if Path(command[0]).name == "__main__.py" else Path(command[0]).name
    return shlex.join([program, *command[1:]])
