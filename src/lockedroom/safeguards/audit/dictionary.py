"""The scorer's own constants as a fuzzing dictionary: no list of attacks holds the trigger word somebody left in."""

from __future__ import annotations

import ast
import random
import re
import types
import warnings
from collections.abc import Iterator
from typing import Any

LONGEST = 200
MOST = 400


def mine(source: str) -> list[str]:
    """Return the strings of a Python source, constant expressions folded, and the literal runs of its regular expressions.

    Short ones first, docstrings of more than LONGEST characters left out. An unreadable source gives none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = compile(source, "scorer", "exec", dont_inherit=True)
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    found = dict.fromkeys(_constants(code))
    found.update(dict.fromkeys(_literals(tree)))
    found.update(dict.fromkeys(_identifiers(tree)))
    texts = [text for text in found if 0 < len(text) <= LONGEST]
    runs = [run for text in texts for run in _literal_runs(text)]
    return sorted(dict.fromkeys([*texts, *runs]), key=lambda text: (len(text), text))[:MOST]


def matching(pattern: str, flags: int, seed: int) -> str | None:
    """Return one text that a regular expression matches, or None where none is found."""
    from hypothesis import HealthCheck, Phase, find, settings
    from hypothesis.errors import HypothesisException
    from hypothesis.strategies import from_regex

    quick = settings(
        max_examples=20, database=None, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
    )
    try:
        text = find(
            from_regex(re.compile(pattern, flags), fullmatch=True),
            lambda _: True,
            settings=quick,
            random=random.Random(seed),
        )
    except (re.error, ValueError, OverflowError, NotImplementedError, HypothesisException):
        return None
    return text if 0 < len(text) <= LONGEST else None


def _literals(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _identifiers(tree: ast.AST) -> Iterator[str]:
    """Yield names that may be compared or looked up by text: attributes, keyword arguments and globals in capitals."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id.isupper():
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.keyword) and node.arg is not None:
            yield node.arg


def _constants(code: types.CodeType) -> Iterator[str]:
    for constant in code.co_consts:
        yield from _texts(constant)
        if isinstance(constant, types.CodeType):
            yield from _constants(constant)


def _texts(constant: Any) -> Iterator[str]:
    if isinstance(constant, str):
        yield constant
    elif isinstance(constant, bytes):
        yield constant.decode("utf-8", "surrogateescape")
    elif isinstance(constant, (int, float)) and not isinstance(constant, bool):
        yield str(constant) if not isinstance(constant, int) or constant.bit_length() < 1000 else ""
    elif isinstance(constant, (tuple, frozenset)):
        for item in constant:
            yield from _texts(item)


def _literal_runs(pattern: str) -> Iterator[str]:
    """Yield runs of plain characters of what may be a regular expression, classes and groups left out."""
    if re.search(r"[\\\[(*+?]", pattern):
        for run in re.split(r"\\[a-zA-Z]|\[[^]]*\]|[()*+?|^$.]|\{[0-9,]*\}|\\", pattern):
            if len(run) > 1:
                yield run
