"""The shape of the code: what is public, and how long anything may be."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import lockedroom

SOURCE = Path(lockedroom.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
LONGEST_MODULE, LONGEST_FUNCTION, LONGEST_LOOP = 400, 50, 80
LOOPS = {"evaluate", "select", "learn"}
BANNED = {"util", "utils", "common", "helper", "helpers", "base", "core", "misc", "manager", "managers"}


def _name(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def test_the_public_names_are_exactly_those_in_all() -> None:
    modules = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or path.is_dir()}
    public = {name for name in vars(lockedroom) if not name.startswith("_")} - modules
    assert public | set(lockedroom._LATER) | {"__version__"} == set(lockedroom.__all__)


@pytest.mark.parametrize("name", lockedroom.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(lockedroom, name) is not None


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_module_fits_in_the_head(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_MODULE


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_function_fits_on_a_screen(path: Path) -> None:
    limit = {name: LONGEST_LOOP for name in LOOPS if path.parent.name == "loops" and path.stem == name}
    long = [
        f"{_name(path)}:{node.lineno} {node.name}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
        if node.end_lineno - node.lineno + 1 > limit.get(node.name, LONGEST_FUNCTION)
    ]
    assert long == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    names = {part for path in MODULES for part in path.relative_to(SOURCE).with_suffix("").parts}
    assert names & BANNED == set()


# Where everything is caught and not raised again, and whose exceptions those are.
BROAD = {
    "adapters/logs_inspect.py": "Inspect's reader: what a broken log raises is up to its decompressors",
    "learning/foreign.py": "a person's loss or advantage function",
    "loops/attempt.py": "a scorer's crash becomes a Failure",
    "loops/microscope/court_foreign.py": "a person's module, as it is imported; and a bug in the child, raised again by the parent",
    "policy/huggingface/loading.py": "a foreign folder: the tokenizers library raises Exception itself, remote code anything",
    "safeguards/audit/instrument.py": "a scorer called from threads, or with a text that listens, to see what it does",
    "safeguards/audit/mutants.py": "scorers broken on purpose",
    "scorer/loading.py": "a person's scorer, as it is imported",
    "scorer/worker.py": "a person's scorer, in its own process",
}


def _catches_everything(handler: ast.ExceptHandler) -> bool:
    """True for a handler of every exception that does not raise it again."""
    parts = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    broad = any(
        part is None or (isinstance(part, ast.Name) and part.id in {"Exception", "BaseException"}) for part in parts
    )
    again = any(isinstance(line, ast.Raise) and line.exc is None for line in handler.body)
    return broad and not again


def test_a_broad_except_stands_only_where_foreign_code_is_called() -> None:
    broad = {
        _name(path)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler) and _catches_everything(node)
    }
    assert broad == set(BROAD)
