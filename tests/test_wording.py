"""Every count that is printed agrees with its noun."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import lockedroom
from lockedroom.wording import counted

SOURCE = Path(lockedroom.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
# What this program counts, where the same word is no verb.
COUNTED = (
    "attempts|batches|bytes|calls|cells|characters|combinations|comparisons|completions|counts|digits|draws|examples|failures|"
    "fields|files|findings|finds|goldens|groups|ids|kinds|labels|levels|lines|logits|looks|losses|mutants|oracles|pages|"
    "parameters|patterns|picks|prompts|questions|requests|results|rows|runs|seconds|sequences|simulations|steps|successes|"
    "tensors|texts|tokens|updates|verdicts|wins"
)
ADJECTIVES = (
    "scored|judged|different|parsed|fresh|drawn|sealed|further|more|other|missing|expected|wrong|dev|generated|token"
)
_NOUN = re.compile(rf" (({ADJECTIVES}) )*({COUNTED})\b")
# No count, or one that is only said of more than one.
_NEVER_ONE = {
    "loops/microscope/court_foreign.py": {"shape"},
    "policy/huggingface/policy.py": {"vocabulary"},
    "report/browse.py": {"total"},
    "report/comparison_sections.py": {"every"},
    "results/evaluation/rendering.py": {"summary.draws"},
    "results/selection/check.py": {"plan.selector"},
    "scorer/custom.py": {"len(payload)"},
    "safeguards/audit/endurance.py": {"kinds"},
}


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 examples"), (1, "1 example"), (2, "2 examples"), (1_000_000, "1,000,000 examples")]
)
def test_a_count_agrees_with_its_noun(count: int, said: str) -> None:
    assert counted(count, "example") == said


@pytest.mark.parametrize("noun", ["pass", "batch", "loss", "success"])
def test_a_noun_that_hisses_gets_es(noun: str) -> None:
    assert counted(3, noun) == f"3 {noun}es"


def test_a_verb_agrees_too() -> None:
    assert [counted(n, "row was", "rows were") for n in (1, 2)] == ["1 row was", "2 rows were"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_text_puts_a_plural_after_a_count_that_may_be_one(path: Path) -> None:
    allowed = _NEVER_ONE.get(str(path.relative_to(SOURCE)), set())
    plural = [
        f"{value.lineno}: {{{ast.unparse(value.value)}}}{said.value[:30]}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.JoinedStr)
        for value, said in zip(node.values, node.values[1:], strict=False)
        if isinstance(value, ast.FormattedValue) and isinstance(said, ast.Constant) and isinstance(said.value, str)
        if _NOUN.match(said.value) and not _is_a_fraction(value)
        if not ast.unparse(value.value).rpartition(".")[2].isupper() and not _is_a_word(value.value)
        if ast.unparse(value.value) not in allowed
    ]
    assert plural == []


def _is_a_fraction(value: ast.FormattedValue) -> bool:
    return value.format_spec is not None and ast.unparse(value.format_spec) not in ("f','", "f''")


def _is_a_word(value: ast.expr) -> bool:
    """`{visible(name, 60)} passes`, `{flag} calls`: no count."""
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in {"visible", "counted"}
