"""What a scorer does besides paying: does it give the same verdict wherever, whenever and in whatever order it is asked?"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from lockedroom.records import Example
from lockedroom.safeguards.audit import instrument
from lockedroom.safeguards.audit.asking import Asker, Question, Said, is_deadly
from lockedroom.safeguards.audit.cases import Case, Kind, answer_key
from lockedroom.safeguards.audit.report import Hit, What
from lockedroom.safeguards.audit.stages import questions
from lockedroom.scorer.identity import verdict_line

if TYPE_CHECKING:
    from lockedroom.safeguards.audit.examination import Examination

# The share of the remaining time that the calls of the drift check may take.
SHARE = 0.2
_MOST_CASES = 80
_METADATA = {"source": "audit", "tags": ["one", "two"], "nested": {"depth": [1, 2]}}


def behave(exam: Examination) -> None:
    """Ask one set of questions in every way that must not matter, and compare."""
    cases = _cases(exam)
    with exam.fresh(elsewhere=False) as asker:
        plain = asker.ask(list(questions(cases, instrument.PLAIN)), exam.clock)
        for case, said in zip(cases, plain, strict=True):
            exam.ledger.watch(case, said)
        _compare(exam, cases, plain, _ask(exam, asker, cases, instrument.WATCHED), "when repeated")
        _compare(
            exam, cases, plain, _ask(exam, asker, cases, instrument.THREAD), "in a thread that is not the main one"
        )
        _compare(exam, cases, plain, _ask(exam, asker, cases, instrument.TOGETHER), "in several threads at once")
    with exam.fresh(elsewhere=False) as asker:
        backwards = asker.ask(list(questions(cases[::-1], instrument.PLAIN)), exam.clock)
        _compare(exam, cases, plain, backwards[::-1], "in another order, in another process")
        _drift(exam, asker, cases, plain)
    with exam.fresh(elsewhere=True) as asker:
        away = asker.ask(list(questions(cases, instrument.PLAIN)), exam.clock)
        _compare(exam, cases, plain, away, "under another hash seed, locale and time zone")


def _cases(exam: Examination) -> list[Case]:
    """Goldens, each also against another answer, attacks of every kind, and the scorer's own constants."""
    goldens = [golden for golden in exam.goldens if golden.kind is Kind.CORRECT][:10]
    examples = [
        Example(id=g.id, prompt=g.prompt, expected_answer=g.expected_answer, metadata=_METADATA) for g in goldens
    ]
    pairs: list[tuple[Example, Any]] = [
        (example, golden.completion) for example, golden in zip(examples, goldens, strict=True)
    ]
    for example, golden in zip(examples, goldens, strict=True):
        other = next(
            (one for one in examples if answer_key(one.expected_answer) != answer_key(example.expected_answer)), None
        )
        if other is not None:
            pairs.append((other, golden.completion))
    attacks = ["", "x", "Final: ", "1\n2\n3", "\u0664\u0662", "\ud800", "1" * 5000, " " * 1000, "{answer}", "\0"]
    pairs += [(examples[0], text) for text in (*attacks, *exam.dictionary)]
    return [
        Case(family="behaviour", attack="", example=example, completion=text) for example, text in pairs[:_MOST_CASES]
    ]


def _ask(exam: Examination, asker: Asker, cases: Sequence[Case], mode: str) -> list[Said | None]:
    said = asker.ask(list(questions(cases, mode)), exam.clock)
    for case, one in zip(cases, said, strict=True):
        exam.ledger.watch(case, one)
    return said


def _compare(
    exam: Examination, cases: Sequence[Case], before: Sequence[Said | None], after: Sequence[Said | None], how: str
) -> None:
    for case, one, other in zip(cases, before, after, strict=True):
        exam.ledger.unasked += one is None or other is None
        if one is None or other is None or is_deadly(one) or is_deadly(other):
            continue
        if verdict_line(one.result) != verdict_line(other.result):
            exam.ledger.hits.append(Hit(msgspec.structs.replace(case, attack=how), other, What.UNSTABLE))


def _drift(exam: Examination, asker: Asker, cases: Sequence[Case], plain: Sequence[Said | None]) -> None:
    """Thousands of calls in one process, in a seeded random order, each compared with its first verdict."""
    steady = [(case, said) for case, said in zip(cases, plain, strict=True) if said is not None and not is_deadly(said)]
    if not steady:
        return
    order = random.Random(exam.seed)
    until = exam.clock.left() * (1 - SHARE)
    asked = 0
    while asked < exam.plan.drift_calls and exam.clock.left() > until:
        part = [order.choice(steady) for _ in range(256)]
        said = asker.ask([Question(case.example, case.completion) for case, _ in part], exam.clock)
        for (case, first), now in zip(part, said, strict=True):
            if now is not None and not is_deadly(now) and verdict_line(now.result) != verdict_line(first.result):
                how = "after thousands of calls" if asked else "in a random order"
                exam.ledger.hits.append(Hit(msgspec.structs.replace(case, attack=how), now, What.UNSTABLE))
                exam.notes.append(f"its verdicts drift: the first difference came within {asked + 256:,} calls")
                return
        asked += len(list(itertools.takewhile(lambda one: one is not None, said)))
    exam.notes.append(f"no drift over {asked:,} calls in one process")
