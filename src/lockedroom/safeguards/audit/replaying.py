"""Seeing findings again: each is asked as it was found, in fresh processes, from what its audit folder holds alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import msgspec

from lockedroom.records import Example, Failure
from lockedroom.safeguards.audit import instrument
from lockedroom.safeguards.audit.asking import Asker, Clock, Question, Said
from lockedroom.safeguards.audit.behaviour import Ways, same, ways
from lockedroom.safeguards.audit.report import Finding, What, said_in_words, what_failed

# Whether these happen again depends on how fast the machine is, and how much memory it has.
OF_THE_MACHINE = (What.HANGS, What.DIES)
# How often, and for how long, a text is asked whose verdict was seen to change, where its finding names no question.
REPEATS, REPEATS_AT_ONCE, REPEAT_S = 2000, 100, 5.0
ALONE = "when asked alone in a fresh process"


class Replayed(msgspec.Struct, frozen=True):
    """`again` is None where the time ended before it was known."""

    id: str
    again: bool | None
    said: str = ""


class Subject(msgspec.Struct, frozen=True):
    """What is replayed against: fresh processes of the scorer, the reward of a golden text, the questions of behaviour.jsonl."""

    fresh: Callable[..., AbstractContextManager[Asker]]
    full: float
    behaviour: Sequence[Question]
    ways: Ways


def replay(findings: Sequence[Finding], subject: Subject, clock: Clock) -> list[Replayed]:
    """Ask every finding again, in the order given. All that are about one text are asked in one fresh process."""
    texts = [one for one in findings if one.what not in (What.UNSTABLE, What.IMPURE)]
    made = dict(zip([one.id for one in texts], _texts(texts, subject, clock), strict=True))
    unstable = [one for one in findings if one.what is What.UNSTABLE]
    made |= dict(zip([one.id for one in unstable], _unstable(unstable, subject, clock), strict=True))
    made |= {one.id: _impure(one, subject, clock) for one in findings if one.what is What.IMPURE}
    return [made[one.id] for one in findings]


def _texts(findings: Sequence[Finding], subject: Subject, clock: Clock) -> list[Replayed]:
    if not findings:
        return []
    if clock.left() <= 0:
        return [Replayed(one.id, None) for one in findings]
    with subject.fresh() as asker:
        said = asker.ask([_question(one) for one in findings], clock, patience=len(findings) + 1)
    return [
        Replayed(one.id, None if answer is None else _same_trouble(one, answer, subject.full), _words(answer))
        for one, answer in zip(findings, said, strict=True)
    ]


def _same_trouble(finding: Finding, said: Said, full: float) -> bool:
    if isinstance(said.result, Failure):
        return what_failed(said.result) is finding.what
    if finding.what is What.REFUSES:
        return said.reward != full
    return finding.what is What.PAYS and said.reward is not None and said.reward > full / 2


def _unstable(findings: Sequence[Finding], subject: Subject, clock: Clock) -> list[Replayed]:
    """Ask all questions in all ways once, as far as a finding asks for it; a finding without a question is asked alone."""
    wanted = {one.replay.way for one in findings if one.replay is not None and one.replay.question is not None}
    differing: dict[tuple[str, int], Said] = {}
    for way in ways(subject.fresh, subject.behaviour, clock, subject.ways) if wanted else ():
        differing |= {(way.how, position): said for position, said in way.differing}
        wanted.discard(way.how)
        if not wanted:
            break
    replayed = []
    for one in findings:
        if one.replay is None or one.replay.question is None:
            replayed.append(_repeated(one, subject, clock))
            continue
        found = differing.get((one.replay.way, one.replay.question))
        again = None if found is None and clock.left() <= 0 else found is not None
        replayed.append(Replayed(one.id, again, f"{one.replay.way}: {_words(found)}" if found else "the same verdict"))
    return replayed


def _repeated(finding: Finding, subject: Subject, clock: Clock) -> Replayed:
    """Ask about one text again and again in a fresh process, then once in another, behind all questions of behaviour.jsonl."""
    if clock.left() <= 0:
        return Replayed(finding.id, None)
    question = _question(finding)
    verdicts: list[Said] = []
    until = max(clock.left() - REPEAT_S, 0.0)
    with subject.fresh() as asker:
        while len(verdicts) < REPEATS and clock.left() > until:
            said = [one for one in asker.ask([question] * REPEATS_AT_ONCE, clock) if one is not None]
            verdicts += said
            other = next((one for one in said if not same(one, verdicts[0])), None)
            if other is not None:
                return Replayed(finding.id, True, f"when repeated: {_words(other)}")
            if not said:
                break
    if not verdicts:
        return Replayed(finding.id, None)
    with subject.fresh() as asker:
        *_, after = asker.ask([*subject.behaviour, question], clock)
    if after is not None and not same(after, verdicts[0]):
        return Replayed(finding.id, True, f"after other questions: {_words(after)}")
    return Replayed(finding.id, False if clock.left() > 0 else None, _words(verdicts[0]))


def _impure(finding: Finding, subject: Subject, clock: Clock) -> Replayed:
    """Ask in a process of its own: an import, say, happens at a first call only."""
    if clock.left() <= 0:
        return Replayed(finding.id, None)
    how = finding.replay
    mode = instrument.WATCHED if how is None or how.mode == instrument.PLAIN else how.mode
    with subject.fresh() as asker:
        (said,) = asker.ask([_question(finding, mode, None if how is None else how.metadata)], clock)
    what = next(iter(finding.attacks))
    return Replayed(finding.id, None if said is None else what in said.seen, _words(said))


def _question(finding: Finding, mode: str = instrument.PLAIN, metadata: dict[str, Any] | None = None) -> Question:
    name = finding.replay.example if finding.replay is not None else ""
    example = Example(
        id=name or finding.id, prompt=finding.prompt, expected_answer=finding.expected_answer, metadata=metadata
    )
    return Question(example, finding.completion, mode)


def _words(said: Said | None) -> str:
    return "not asked" if said is None else said_in_words(said)
