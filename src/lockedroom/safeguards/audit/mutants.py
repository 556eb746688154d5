"""Auditing the audit: `final-int` with one thing broken, generated from its source, and what notices.

A mutant that nothing notices is a missing golden case, or it is equivalent, and then somebody has to say why.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from lockedroom.records import Example, Score
from lockedroom.safeguards.audit.families import FAMILIES, Seed, non_strings, sweep
from lockedroom.scorer.battery import BATTERY

# The parts of final_int.py that decide a verdict; tables of words and what others ask of it are left alone.
_DECIDING = {
    "PREFIX", "LINE_BREAKS", "WHITESPACE", "_is_integer", "_integer_then_whitespace", "_leading_zero", "_any_line_break", "_any_digit",
    "score", "_holds_line_break", "_malformed_code",
}  # fmt: skip
_COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.Lt: (ast.LtE, ast.Gt),
    ast.In: (ast.NotIn,),
}  # fmt: skip
_METHODS = {
    "startswith": ("endswith",), "removesuffix": ("rstrip", "removeprefix"), "fullmatch": ("match", "search"), "match": ("search", "fullmatch"),
    "search": ("match", "fullmatch"),
}  # fmt: skip

# Answers that no dataset may hold, and that a caller may pass all the same.
_ODD_ANSWERS: tuple[Any, ...] = (True, None, 4.0, "042", "x", "", [42], {"answer": 42}, "-0", "\u0664")
# Mutants that give every completion the verdict of the original, and why.
_LONG_AND_SHORT = "both ways of looking for a line break give the same result; SHORT decides only which is quicker"
EQUIVALENT = {
    "score: if type(answer) is int: → if False:": "answer_digits gives an int the same digits; the branch is a short cut",
    "score: completion if type(completion) is str else plain_text(completion) → completion if False else plain_text(completion)":
        "plain_text returns a str itself; the branch is a short cut",
    "_holds_line_break: if len(body) < SHORT: → if True:": _LONG_AND_SHORT,
    "_holds_line_break: if len(body) < SHORT: → if False:": _LONG_AND_SHORT,
    "_holds_line_break: len(body) < SHORT → len(body) <= SHORT": _LONG_AND_SHORT,
    "_holds_line_break: len(body) < SHORT → len(body) > SHORT": _LONG_AND_SHORT,
}  # fmt: skip

Case = tuple[Example, Any]
Scoring = Callable[[Example, Any], Score]


class Mutant(msgspec.Struct, frozen=True):
    """One change: where it is and what it does, and the whole source with it."""

    name: str
    source: str


class Killed(msgspec.Struct, frozen=True):
    """How many cases of each set see a mutant; all zero: it survived."""

    name: str
    by: dict[str, int]

    @property
    def survived(self) -> bool:
        return not any(self.by.values())


def generate(source: str) -> list[Mutant]:
    """Return every mutant of the operators below, in the order of the source; each changes one place."""
    tree = ast.parse(source)
    mutants: dict[str, Mutant] = {}
    for statement in tree.body:
        name = _name_of(statement)
        if name not in _DECIDING:
            continue
        for node in ast.walk(statement):
            for change, undo in _changes(node, name):
                after = ast.unparse(tree)
                label = f"{name}: {change}"
                number = 1
                while label in mutants:
                    number += 1
                    label = f"{name}: {change} ({number})"
                mutants[label] = Mutant(label, after)
                undo()
    original = ast.unparse(tree)
    return [mutant for mutant in mutants.values() if mutant.source != original]


def compiled(mutant_source: str) -> Scoring | None:
    """Return a mutant's `score`, or None when it cannot even be imported (a broken pattern): that is noticed, too."""
    namespace: dict[str, Any] = {"__name__": "mutant"}
    try:
        exec(compile(mutant_source, "mutant", "exec"), namespace)
    except Exception:  # noqa: BLE001  # a mutant may break in any way
        return None
    score: Scoring = namespace["score"]
    return score


def case_sets(goldens: Sequence[Case], seeds: Sequence[Seed]) -> dict[str, list[Case]]:
    """Return what mutants are asked: the golden files, the fixed battery, and each attack family."""
    sets = {"goldens": list(goldens), "battery": [(example, text) for example, text in BATTERY]}
    sets["odd answers"] = [
        (Example(id="odd", prompt="", expected_answer=answer), f"Final: {text}")
        for answer in _ODD_ANSWERS
        for text in (answer, 42)
    ]
    for family in FAMILIES:
        sets[family] = [(case.example, case.completion) for case in sweep(seeds, family)]
    sets["non_strings"] = [(case.example, case.completion) for case in non_strings(seeds[0])]
    return sets


def kill_matrix(
    mutants: Sequence[Mutant], original: Scoring, sets: dict[str, list[Case]], *, stop_early: bool
) -> list[Killed]:
    """Ask every mutant every case. `stop_early`: one case of each set is enough."""
    expected = {name: [_verdict(original, *case) for case in cases] for name, cases in sets.items()}
    return [_kill(mutant, sets, expected, stop_early) for mutant in mutants]


def _kill(mutant: Mutant, sets: dict[str, list[Case]], expected: dict[str, list[Any]], stop_early: bool) -> Killed:
    score = compiled(mutant.source)
    if score is None:
        return Killed(mutant.name, {name: len(cases) for name, cases in sets.items()})
    by: dict[str, int] = {}
    for name, cases in sets.items():
        seen = 0
        for case, verdict in zip(cases, expected[name], strict=True):
            if _verdict(score, *case) != verdict:
                seen += 1
                if stop_early:
                    break
        by[name] = seen
    return Killed(mutant.name, by)


def _verdict(score: Scoring, example: Example, completion: Any) -> Any:
    try:
        result = score(example, completion)
        return result.reward, result.details.code, result.details.parsed
    except Exception as error:  # noqa: BLE001  # a mutant may break in any way
        return type(error).__name__


def _name_of(statement: ast.stmt) -> str:
    if isinstance(statement, ast.FunctionDef):
        return statement.name
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    return ""


def _changes(node: ast.AST, where: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """Change the node in place, yield what was done and how to undo it; the tree is whole again after each `undo`."""
    if isinstance(node, ast.Compare):
        for i, operator in enumerate(node.ops):
            for other in _COMPARED.get(type(operator), ()):
                yield from _set(node, "ops", [*node.ops[:i], other(), *node.ops[i + 1 :]])
    elif isinstance(node, ast.BoolOp):
        yield from _set(node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
        for i in range(len(node.values)):
            if len(node.values) > 1:
                yield from _set(node, "values", node.values[:i] + node.values[i + 1 :])
    elif isinstance(node, (ast.If, ast.IfExp)):
        for value in (True, False):
            yield from _set(node, "test", ast.Constant(value))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield from _set(node, "op", ast.UAdd())
    elif isinstance(node, ast.Attribute):
        for other_name in _METHODS.get(node.attr, ()):
            yield from _set(node, "attr", other_name)
    elif isinstance(node, ast.Constant):
        yield from _constants(node, where)


def _constants(node: ast.Constant, where: str) -> Iterator[tuple[str, Callable[[], None]]]:
    if isinstance(node.value, str):
        for changed in _texts(node.value, where):
            yield from _set(node, "value", changed)
    elif isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        for number in (node.value + 1, node.value - 1):
            yield from _set(node, "value", number)


def _set(node: Any, field: str, value: Any) -> Iterator[tuple[str, Callable[[], None]]]:
    old, before = getattr(node, field), ast.unparse(node)
    setattr(node, field, value)
    try:
        ast.fix_missing_locations(node)
        after = ast.unparse(copy.deepcopy(node))
        if isinstance(node, ast.If):
            before, after = f"if {before.splitlines()[0][3:]}", after.splitlines()[0]
        yield f"{before} → {after}", lambda: setattr(node, field, old)
    finally:
        setattr(node, field, old)


def _texts(text: str, where: str) -> Iterator[str]:
    """Yield a text with each character deleted, and with one that does not belong put before and behind it."""
    if " " in text and len(text) > 30 and where not in ("LINE_BREAKS", "WHITESPACE"):
        return  # a docstring
    for i in range(len(text)):
        yield text[:i] + text[i + 1 :]
    yield text + "x"
    yield "x" + text
    if "[0-9]" in text:
        yield text.replace("[0-9]", r"\d")
        yield text.replace("[0-9]*", "[0-9]+")


def unexplained(killed: Sequence[Killed]) -> list[str]:
    """Return the mutants that survived and are not known to be equivalent."""
    return [one.name for one in killed if one.survived and one.name not in EQUIVALENT]
