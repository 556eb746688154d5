"""docs/formats.md: what every `--json` prints and what the files of a run hold, from the very structs that are encoded.

`docs/generate.py` writes the page; a test compares it with the code, and real outputs with it.
"""

from __future__ import annotations

import datetime
import enum
import importlib
import json
import pathlib
import types
import typing
from typing import Any, Literal

import msgspec

TEXT, NUMBER, COUNT, FLAG = "text", "number", "count", "true or false"
# Command -> what `--json` prints: a type as module:Name (with "list of", "or null"), or an object of such by key.
OUTPUTS: dict[str, str | dict[str, str]] = {
    "evaluate": {"run": TEXT, "summary": "results.evaluation.summary:Summary", "exact": "results.evaluation.exact:Exact or null"},
    "select": {"run": TEXT, "selection": "results.selection.numbers:Selection"},
    "select, a search": {"run": TEXT, "search": "results.selection.search:Search", "summary": "results.evaluation.summary:Summary"},
    "select, until the first pass": {"run": TEXT, "adaptive": "results.selection.adaptive:Adaptive", "summary": "results.evaluation.summary:Summary"},
    "learn": {"run": TEXT, "summary": "results.learning.summary:LearningSummary"},
    "warmup": {"path": TEXT, "policy": TEXT, "weights_sha256": TEXT, "steps": "list of loops.learning.warmup:Shown"},
    "compare": "results.compare:Certificate",
    "compare --rescore": {"certificate": "results.compare:Certificate", "splits": "list of results.comparison.instrument:Split"},
    "compare --not-comparable": {"not_comparable": "results.compare:Anyway"},
    "inspect": {"example": "records:Example", "record": "records:Record"},
    "inspect --rates": "results.evaluation.inspection:ExampleRate",
    "verify": {"run": TEXT, "kind": TEXT, "verified": FLAG, "files": COUNT, "attempts": COUNT, "rescored": COUNT, "not_checked": "list of text"},
    "report": {"page": TEXT, "bytes": COUNT},
    "runs": {"runs": "list of results.listing:Listed"},
    "rescore": {"origin": TEXT, "run": TEXT, "summary": "results.evaluation.summary:Summary"},
    "watch": {"finished": FLAG, "…": "the fields of results.evaluation.watching:Seen", "pass_rate": "number or null", "interval": "stats.intervals:Interval"},
    "plan": "results.planning:Plan",
    "tokens": {"policy": "records:PolicySpec", "prompt": "text or null", "readings": "list of loops.microscope.reading:TextReading",
               "format_tax": "loops.microscope.reading:FormatTax or null"},
    "tokens --run": "list of results.microscope.xray:Xray",
    "audit": {"run": TEXT, "…": "the fields of safeguards.audit.examination:Report without findings and behaviour",
              "findings": "list of safeguards.audit.report:Finding", "exit_code": COUNT},
    "audit --from": {"audit": TEXT, "run": TEXT, "scorer": TEXT,
                     "mined": "safeguards.audit.mining:Mined", "finds": "list of safeguards.audit.mining:Find"},
    "audit --replay": {"audit": TEXT, "replayed": "list of safeguards.audit.replaying:Replayed"},
    "audit --kill-matrix": "loops.instrument.kill_matrix:Matrix",
    "golden check": "loops.instrument.golden:Checked",
    "golden add": {"golden": TEXT, "added": COUNT, "present": COUNT},
    "scorer diff": "loops.instrument.scorer_checks:ScorerDiff",
    "scorer lock": {"result": "loops.instrument.scorer_checks:LockResult", "passed": FLAG},
    "dataset check": {"scorer": TEXT, "disjoint": "true, or null for one file", "files": "list of dataset.describe:DatasetSummary"},
    "dataset make arithmetic": {"folder": TEXT, "files": "list of objects with path, examples and sha256"},
    "dataset make reasoning-gym": {"folder": TEXT, "files": "list of objects with path, examples and sha256"},
    "holdout seal": "safeguards.holdout:Header",
    "holdout open": {"look": COUNT, "looks_left": COUNT, "answer": "safeguards.coarse:Answer",
                     "intervals": "safeguards.coarse:LookIntervals", "entry": "safeguards.ledger:Entry"},
    "demo": {"out": TEXT, "acts": "list of objects with title, left_out and told (findings, quotes, runs)", "report": f"{TEXT} or null",
             "seconds": NUMBER},
    "holdout status": {"header": "safeguards.holdout:Header", "looks_left": COUNT, "checked": TEXT, "entries": "list of safeguards.ledger:Entry"},
    "court": "results.microscope.court:CourtResult",
    "court --policy": "results.microscope.exact_gradient:ExactGradientResult",
    "bandit": {"run": "text or null", "result": "results.microscope.bandit:BanditResult"},
    "bandit --slow": {"run": "text or null", "result": "results.microscope.bandit:BanditResult", "steps": "list of results.microscope.bandit:StepLine",
                      "draws": "list of results.microscope.bandit:DrawLine"},
    "frontier": {"run": "text or null", "result": "results.microscope.frontier:FrontierResult"},
    "frontier --runs": {"result": "results.microscope.run_frontier:RunFrontier"},
    "goodhart": {"run": "text or null", "result": "results.microscope.goodhart:GoodhartResult"},
    "selftest": {"passed": FLAG, "oracles": "list of stats.oracles:Replay", "coverage": "list of stats.coverage:CoverageCell"},
    "export scorer": {"files": "list of text", "to": TEXT, "could_not_judge": TEXT, "cannot_express": "list of text"},
    "export run": {"file": TEXT, "to": TEXT, "attempts": COUNT},
    "import": "adapters.writing:Written",
}  # fmt: skip
# One JSON object a line: as many lines as there are rows; a list where the command names several runs.
LINES = ("inspect", "inspect --rates", "watch")
LISTS = ("verify", "rescore")
FILES: dict[str, str] = {
    "examples.jsonl, a dataset": "one records:Example a line",
    "records.jsonl": "one records:Record a line",
    "summary.json": "results.evaluation.summary:Summary",
    "exact.json": "results.evaluation.exact:Exact",
    "exact.jsonl": "one results.evaluation.exact:ExactExample a line",
    "selection.json": "results.selection.numbers:Selection",
    "learning.json": "results.learning.summary:LearningSummary",
    "steps.jsonl (learn)": "one results.learning.metrics:StepMetrics a line",
    "evaluations.jsonl": "one results.learning.metrics:Evaluation a line",
    "manifest.json": "safeguards.manifest:Manifest",
    "ledger.jsonl, of a holdout": "one safeguards.ledger:Entry a line",
}
HEAD = """# Formats

Generated by `make docs` from the structs that the program encodes. Every `--json` prints ASCII, everything else escaped; `null` is
"undefined" or "not known", never zero. Fields may be added; one that is here keeps its name and meaning within a version of
its `format`.
"""


def formats_page() -> str:
    """Return docs/formats.md."""
    seen: dict[str, type] = {}
    lines = [HEAD, "## What --json prints", ""]
    for command, shape in OUTPUTS.items():
        how = "one object a line" if command in LINES else "a list of objects" if command in LISTS else ""
        lines += [f"### lockedroom {command}", ""]
        if isinstance(shape, str):
            lines += [f"{_worded(shape, seen)}{f', {how}' if how else ''}.", ""]
            continue
        lines += [f"It is {how}:", ""] if how else []
        lines += ["| key | what |", "|---|---|", *(f"| `{key}` | {_worded(text, seen)} |" for key, text in shape.items()), ""]  # fmt: skip
    lines += ["## What the files hold", "", "| file | what |", "|---|---|"]
    lines += [f"| `{name}` | {_worded(text, seen)} |" for name, text in FILES.items()]
    lines += ["", "## Types", ""]
    described: dict[str, list[str]] = {}
    while len(described) < len(seen):
        for name, found in list(seen.items()):
            if name not in described:
                described[name] = _described(name, found, seen)
    for name in sorted(described):
        lines += described[name]
    return "\n".join(lines).rstrip() + "\n"


def find_type(name: str) -> type:
    """Return the struct that module:Name stands for."""
    module, _, struct = name.partition(":")
    found: type = getattr(importlib.import_module(f"lockedroom.{module}"), struct)
    return found


def _worded(text: str, seen: dict[str, type]) -> str:
    """A shape in words, its types as links."""
    return " ".join(_link(find_type(word), seen) if ":" in word else word for word in text.split(" "))


def _name(found: type) -> str:
    return f"{found.__module__.rpartition('.')[2]}.{found.__name__}"


def _link(found: type, seen: dict[str, type]) -> str:
    name = _name(found)
    seen[name] = found
    return f"[{name}](#{name.lower().replace('.', '')})"


def _described(name: str, found: type, seen: dict[str, type]) -> list[str]:
    """A type: its docstring, then each field with its type."""
    config = msgspec.structs.fields(found)
    tag = found.__struct_config__.tag  # type: ignore[attr-defined]  # every struct has it
    rows = [f"| `{found.__struct_config__.tag_field}` | always `{tag}` |"] if tag else []  # type: ignore[attr-defined]  # as above
    sparing = found.__struct_config__.omit_defaults  # type: ignore[attr-defined]  # as above
    rows += [
        f"| `{field.encode_name}` | {_typed(field.type, seen)}{_left_out(field) if sparing else ''} |"
        for field in config
    ]
    about = " ".join((found.__doc__ or "").split())
    return [f"### {name}", "", about, "", "| field | type |", "|---|---|", *rows, ""]


def _left_out(field: msgspec.structs.FieldInfo) -> str:
    """Say when a field is not written: where it holds its default, in a struct that leaves those out."""
    if field.default_factory is not msgspec.NODEFAULT:
        return "; left out when empty"
    if field.default is msgspec.NODEFAULT:
        return ""
    value = msgspec.to_builtins(field.default)
    return f"; left out when `{json.dumps(value)}`" if value not in ("", [], {}) else "; left out when empty"


def _typed(hint: Any, seen: dict[str, type]) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_typed(one, seen) for one in arguments)
    if origin in (list, set, frozenset) or (origin is tuple and arguments[-1:] == (...,)):
        return f"list of {_typed(arguments[0], seen)}"
    if origin is tuple:
        return f"list of {', '.join(_typed(one, seen) for one in arguments)}"
    if origin is not None and issubclass(origin, typing.Mapping):
        return f"object, {_typed(arguments[0], seen)} → {_typed(arguments[1], seen)}"
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return _link(hint, seen)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return " or ".join(f"`{one.value}`" for one in hint)
    plain = {str: TEXT, pathlib.Path: TEXT, int: "whole number", float: NUMBER, bool: FLAG, type(None): "null", Any: "any JSON value",
             bytes: "base64 text", datetime.datetime: "time"}  # fmt: skip
    return plain[hint]
