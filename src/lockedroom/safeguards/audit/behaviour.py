"""What a scorer does besides paying: does it give the same verdict wherever, whenever and in whatever order it is asked?"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import msgspec

from lockedroom.records import Example, Failure, Score
from lockedroom.safeguards.audit import instrument
from lockedroom.safeguards.audit.asking import Asker, Clock, Question, Said, is_deadly
from lockedroom.safeguards.audit.cases import Case, Kind, answer_key
from lockedroom.safeguards.audit.report import Hit, What, what_failed
from lockedroom.safeguards.audit.surroundings import C_LOCALE, installed_locale
from lockedroom.wording import counted

if TYPE_CHECKING:
    from lockedroom.safeguards.audit.examination import Examination

# The share of the remaining time that the calls of the drift check may take.
SHARE = 0.2
# Calls in one process that may not change a verdict.
DRIFT_CALLS = 60_000
_AT_ONCE = 512
_MOST_CASES = 80
_METADATA = {"source": "audit", "tags": ["one", "two"], "nested": {"depth": [1, 2]}}


def behave(exam: Examination) -> None:
    """Ask one set of questions in every way that must not matter, and compare."""
    exam.behaviour = questions(exam)
    cases = [_as_case(question) for question in exam.behaviour]
    plan = Ways(exam.seed, exam.plan.drift_calls, installed_locale())
    if plan.locale is None:
        exam.notes.append("no locale but C is installed here: verdicts were compared under that one only")
    for way in ways(exam.fresh, exam.behaviour, exam.clock, plan):
        for case, said in zip(cases, way.said, strict=False):  # the calls in a random order are not kept
            exam.ledger.watch(case, said, way.mode)
        for position, said in way.differing:
            hit = Hit(msgspec.structs.replace(cases[position], attack=way.how), said, What.UNSTABLE, question=position)
            exam.ledger.hits.append(hit)
        for position, said in way.deadly:
            assert isinstance(said.result, Failure), "only a failure is deadly"
            case = msgspec.structs.replace(cases[position], attack=way.how)
            exam.ledger.hits.append(Hit(case, said, what_failed(said.result)))
        exam.ledger.unasked += way.unasked
        exam.notes += way.notes


class Ways(msgspec.Struct, frozen=True):
    """What decides the ways of asking: the seed of the random order, its number of calls, a locale that is not C."""

    seed: int
    drift_calls: int
    locale: str | None


class Way(msgspec.Struct, frozen=True):
    """What came of one way of asking: the verdicts, and (with the position of their question) those that differ from the first,
    and calls that never came back.
    """

    how: str
    said: Sequence[Said | None] = ()
    differing: Sequence[tuple[int, Said]] = ()
    deadly: Sequence[tuple[int, Said]] = ()
    unasked: int = 0
    notes: tuple[str, ...] = ()
    mode: str = instrument.PLAIN


def ways(
    fresh: Callable[..., AbstractContextManager[Asker]], asked: Sequence[Question], clock: Clock, plan: Ways
) -> Iterator[Way]:
    """Ask in one way after the other, each compared with the first verdicts. The same every time for a stable scorer."""
    with fresh() as asker:
        plain = asker.ask(asked, clock)
        yield _compared("plain", plain, plain)
        for how, mode in (
            ("when repeated", instrument.WATCHED),
            ("in a thread that is not the main one", instrument.THREAD),
            ("in several threads at once", instrument.TOGETHER),
        ):
            again = asker.ask([msgspec.structs.replace(question, mode=mode) for question in asked], clock)
            yield msgspec.structs.replace(_compared(how, plain, again), mode=mode)
    if clock.left() <= 0:
        return
    with fresh() as asker:
        backwards = asker.ask(asked[::-1], clock)
        yield _compared("in another order, in another process", plain, backwards[::-1])
        yield _drift(asker, asked, plain, clock, plan)
    for locale in (C_LOCALE, plan.locale):
        if locale is not None and clock.left() > 0:
            with fresh(elsewhere=locale) as asker:
                other = "locale" if locale == C_LOCALE else f"locale ({locale})"
                yield _compared(f"under another hash seed, {other} and time zone", plain, asker.ask(asked, clock))


def same(one: Said, other: Said) -> bool:
    """Say whether two verdicts would be the same record. The words of an exception, which may hold an address, do not count."""
    if isinstance(one.result, Failure) and isinstance(other.result, Failure):
        return one.result.code is other.result.code
    return one.result == other.result


def questions(exam: Examination) -> list[Question]:
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
    return [Question(example, text) for example, text in pairs[:_MOST_CASES]]


def _as_case(question: Question) -> Case:
    return Case(family="behaviour", attack="", example=question.example, completion=question.completion)


def _compared(how: str, before: Sequence[Said | None], after: Sequence[Said | None]) -> Way:
    differing, deadly = [], []
    unasked = without_thread = 0
    for position, (one, other) in enumerate(zip(before, after, strict=True)):
        if one is None or other is None:
            unasked += 1
        elif isinstance(other.result, Score) and other.result.details.code == instrument.NO_THREAD:
            without_thread += 1
        elif is_deadly(other):
            deadly.append((position, other))
        elif not is_deadly(one) and not same(one, other):
            differing.append((position, other))
    no_room = f"{counted(without_thread, 'question was', 'questions were')} not asked {how}: --scorer-memory leaves no room for threads; raise it"
    return Way(how, after, differing, deadly, unasked, (no_room,) if without_thread else ())


def _drift(asker: Asker, asked: Sequence[Question], plain: Sequence[Said | None], clock: Clock, plan: Ways) -> Way:
    """Thousands of calls in one process, in a seeded random order, each compared with its first verdict."""
    steady = [(i, said) for i, said in enumerate(plain) if said is not None and not is_deadly(said)]
    how = "in a random order"
    if not steady:
        return Way(how)
    order = random.Random(plan.seed)
    until = clock.left() * (1 - SHARE)
    calls = 0
    while calls < plan.drift_calls and clock.left() > until:
        part = [order.choice(steady) for _ in range(_AT_ONCE)]
        said = asker.ask([asked[i] for i, _ in part], clock, patience=1)
        for (position, first), now in zip(part, said, strict=True):
            if now is not None and not same(now, first):
                found = [(position, now)]
                note = f"its verdicts drift: the first difference came within {counted(calls + _AT_ONCE, 'call')}"
                how = "after thousands of calls" if calls else how
                return (
                    Way(how, deadly=found, notes=(note,))
                    if is_deadly(now)
                    else Way(how, differing=found, notes=(note,))
                )
        calls += len(list(itertools.takewhile(lambda one: one is not None, said)))
    return Way(how, notes=(f"no drift over {counted(calls, 'call')} in one process",))
