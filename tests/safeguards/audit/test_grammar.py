"""A declared grammar: what is in it must be paid, what is not must not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from examining import examination, goldens

from lockedroom.cli.main import main
from lockedroom.errors import BadInput
from lockedroom.jsonl import encode_lines
from lockedroom.safeguards.audit.examination import Report, examine
from lockedroom.safeguards.audit.grammar import Grammar
from lockedroom.safeguards.audit.report import Verdict, What

LAST_LINE = r"(?s:.*\n)?Final: {answer}"
SCORERS = r"""
def last_line(example, completion):
    line = completion[completion.rfind("\n") + 1:] if isinstance(completion, str) else ""
    return {"reward": float(line == f"Final: {example.expected_answer}"), "details": {}}


def last_of_many(example, completion):
    return {"reward": float((completion.splitlines() or [""])[-1] == f"Final: {example.expected_answer}"), "details": {}}


def first_60(example, completion):
    return last_line(example, completion[:60])
"""


@pytest.fixture
def scorers(tmp_path: Path) -> Path:
    path = tmp_path / "scorers.py"
    path.write_text(SCORERS)
    return path


def audited(function: str, source: Path, grammar: str | None) -> Report:
    with examination(function, source, grammar=None if grammar is None else Grammar(grammar)) as exam:
        plan = msgspec.structs.replace(exam.plan, drift_calls=200)
        return examine(exam.asker, exam.fresh, plan)


def test_a_scorer_that_reads_the_last_line_is_clean_against_the_grammar_that_says_so(scorers: Path) -> None:
    assert audited("last_line", scorers, LAST_LINE).verdict is Verdict.CLEAN
    assert audited("last_line", scorers, None).findings


def test_what_is_paid_outside_the_grammar_is_still_a_finding(scorers: Path) -> None:
    found = {(one.family, one.what) for one in audited("last_of_many", scorers, LAST_LINE).findings}
    assert ("line_breaks", What.PAYS) in found
    assert ("anchoring", What.PAYS) not in found


def test_what_is_in_the_grammar_and_not_paid_is_a_finding_made_small(scorers: Path) -> None:
    report = audited("first_60", scorers, LAST_LINE)
    refused = [one for one in report.findings if one.what is What.REFUSES]
    assert refused
    assert min(len(one.completion) for one in refused) < 75
    assert report.errors is not None
    assert report.errors.correct_paid < report.errors.correct_judged


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ("Final: 7", "holds no {answer}"),
        ("Final: ({answer}", "is no regular expression"),
        ("Answer: {answer}", "is not in the grammar"),
    ],
)
def test_a_grammar_that_cannot_be_used_is_bad_input(
    scorers: Path, tmp_path: Path, grammar: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "goldens.jsonl").write_bytes(encode_lines(goldens()))
    command = [
        "audit",
        f"{scorers}:last_line",
        "--golden",
        str(tmp_path / "goldens.jsonl"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*command, "--grammar", grammar]) == 2
    assert message in capsys.readouterr().err


def test_a_grammar_without_end_is_interrupted_and_said(monkeypatch: Any) -> None:
    monkeypatch.setattr("lockedroom.safeguards.audit.grammar.LONGEST_S", 0.2)
    with pytest.raises(BadInput, match=r"took longer than 0\.2 s on a text of 41 characters"):
        Grammar("(a+)+{answer}").accepts(("7",), "a" * 40 + "!")


def test_any_json_spelling_of_an_answer_fits_its_place() -> None:
    grammar = Grammar("<{answer}>")
    assert grammar.accepts(("[1, 2]", "[1,2]"), "<[1,2]>")
    assert not grammar.accepts(("[1, 2]",), "<[1,2]>")
