"""One audit, stage by stage. Read `examine` from top to bottom: the order is from what decides to what refines.

Every stage asks within the budget and enters verdicts into the ledger. Hits are then grouped, made small, and asked again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import msgspec

from lockedroom.records import Example, Failure, ScorerSpec
from lockedroom.safeguards.audit import behaviour, constants, dictionary, endurance, replaying, search, stages
from lockedroom.safeguards.audit.asking import PATIENCE, Asker, Clock, Question, Said, is_deadly
from lockedroom.safeguards.audit.cases import Case, Golden, Kind, Reading, know
from lockedroom.safeguards.audit.families import seed_of
from lockedroom.safeguards.audit.goldens import choose_seeds, wrong_answer
from lockedroom.safeguards.audit.grammar import Grammar
from lockedroom.safeguards.audit.report import (
    Contested,
    ErrorBudget,
    Finding,
    Hit,
    Ledger,
    Replay,
    Verdict,
    What,
    error_budget,
    grouped,
    hit_reading,
    make_finding,
    what_failed,
)
from lockedroom.safeguards.audit.shrinking import shrink
from lockedroom.safeguards.audit.surroundings import installed_locale
from lockedroom.visible import visible
from lockedroom.wording import counted

MOST_SEEDS = 6
CASES_A_SEED = 1300
# The share of the budget that is kept for making findings small.
RESERVED = 0.15
SHRINK_SECONDS = 2.0
# So many calls that ran out of time are the scorer's doing, even if each came back when repeated alone.
NO_ACCIDENT = 3
MOST_FINDINGS = 120
# Hits that would lose their meaning in a smaller text.
_AS_THEY_ARE = (What.UNSTABLE,)
_WHOLE = ("best_constant",)
_WORST_FIRST = {what: i for i, what in enumerate(What)}
_READINGS: dict[Reading | None, int] = {read: i for i, read in enumerate((*Reading, None))}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What an audit is made with. `drift_calls` in one process may not change a verdict; `reference` lists every text that an example's scorer accepts, where that is known."""

    goldens: list[Golden]
    dataset: list[Example]
    dataset_name: str
    source: str
    budget_s: float
    seed: int = 0
    confidence: float = 0.95
    allowed: tuple[str, ...] = ()
    drift_calls: int = behaviour.DRIFT_CALLS
    reference: Callable[[Example], tuple[str, ...]] | None = None
    grammar: Grammar | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """`reasons` say why there was no audit; `incomplete` names stages that the budget cut short.

    `behaviour` holds the questions that were asked in several ways, which replaying an unstable finding needs.
    """

    verdict: Verdict
    reasons: list[str]
    scorer: ScorerSpec
    findings: list[Finding]
    errors: ErrorBudget | None
    contested: list[Contested]
    constants: constants.Constants | None
    impure: dict[str, int]
    notes: list[str]
    incomplete: list[str]
    goldens: int
    seeds: list[str]
    allowed: tuple[str, ...]
    calls: int
    seconds: float
    budget_s: float
    behaviour: list[Question]


class Examination:
    """What the stages share: the scorer, the goldens, the ledger, the time."""

    def __init__(self, asker: Asker, fresh: Callable[..., AbstractContextManager[Asker]], plan: Plan) -> None:
        self.asker, self.fresh, self.plan = asker, fresh, plan
        self.goldens, self.dataset, self.dataset_name = plan.goldens, plan.dataset, plan.dataset_name
        self.seed, self.confidence, self.reference = plan.seed, plan.confidence, plan.reference
        self.clock = Clock(plan.budget_s * (1 - RESERVED))
        self.ledger = Ledger(know(plan.goldens, frozenset(plan.allowed), plan.grammar), asker.spec.reward_range[1])
        self.dictionary = dictionary.mine(plan.source)
        self.behaviour: list[Question] = []
        self.notes: list[str] = []
        self.incomplete: list[str] = []
        self.call_s = math.inf
        correct = [golden for golden in plan.goldens if golden.kind is Kind.CORRECT]
        self.seeds = [seed_of(golden, wrong_answer(golden, correct)) for golden in choose_seeds(correct, MOST_SEEDS)]

    def ask(self, cases: Sequence[Case], patience: int = PATIENCE) -> list[Said | None]:
        return self.asker.ask([Question(case.example, case.completion) for case in cases], self.clock, patience)

    def has_time(self) -> bool:
        return self.clock.left() > 0

    def run(self, name: str, stage: Callable[[Examination], object]) -> None:
        """Run one stage; what the budget did not allow is named."""
        began = time.monotonic()
        if self.has_time():
            stage(self)
        if not self.has_time():
            self.incomplete.append(f"{name} ({time.monotonic() - began:.1f} s)")


def examine(asker: Asker, fresh: Callable[..., AbstractContextManager[Asker]], plan: Plan) -> Report:
    """Audit one scorer. `fresh(elsewhere=…)` opens another process of it. Raises nothing for what the scorer does."""
    exam = Examination(asker, fresh, plan)
    reasons = stages.baseline(exam)
    if reasons:
        return report_of(exam, [*reasons, _what_to_do(exam)], None)
    reasons = _fit(exam)
    if reasons:
        return report_of(exam, reasons, None)
    earned: list[constants.Constants | None] = []
    for name, stage in (
        ("attack families", stages.attack),
        ("other answers", stages.other_answers),
        ("cross-answer check", stages.cross),
        ("mined constants", stages.mined),
        ("what is no text", stages.no_text),
        ("purity and determinism", behaviour.behave),
        ("denial of service", endurance.endure),
        ("best constant and echo", lambda exam: earned.append(constants.earn_nothing(exam))),
        ("property search", search.search),
    ):
        exam.run(name, stage)
    return report_of(exam, [], earned[0] if earned else None)


def _fit(exam: Examination) -> list[str]:
    """Take as many seeds as the budget allows; say so when not even two fit."""
    a_call = exam.call_s
    fitting = int(0.5 * exam.clock.left() / (CASES_A_SEED * a_call)) if a_call > 0 else MOST_SEEDS
    if fitting < 2:
        needed = 2 * CASES_A_SEED * a_call / 0.5 / (1 - RESERVED)
        return [
            f"a call takes {a_call * 1000:.0f} ms, so the attacks alone need about {needed:.0f} s, and the budget is "
            f"{exam.plan.budget_s:g} s; give a --budget of at least {needed * 1.5:.0f}, or make the scorer faster"
        ]
    if fitting < len(exam.seeds):
        exam.notes.append(
            f"the scorer is slow ({a_call * 1000:.1f} ms a call): {fitting} of {counted(len(exam.seeds), 'golden was', 'goldens were')} transformed"
        )
        exam.seeds = exam.seeds[:fitting]
    return []


def _what_to_do(exam: Examination) -> str:
    return (
        "nothing was attacked: an audit needs goldens of at least two answers that score "
        f"{exam.ledger.full:g}, every time; correct the goldens, the scorer, or --signature"
    )


def report_of(exam: Examination, reasons: list[str], earned: constants.Constants | None) -> Report:
    """Make the findings of what the ledger holds, and the verdict. `reasons` given: there was no audit."""
    exam.clock = Clock(max(exam.plan.budget_s - exam.clock.spent(), exam.plan.budget_s * RESERVED / 2))
    findings = _replayed(exam, _findings(exam))
    if exam.ledger.parts:
        most, text = exam.ledger.largest_part
        exam.notes.append(
            f"{counted(exam.ledger.parts, 'wrong text gets', 'wrong texts get')} a part of the reward, {most:g} at most, which does not count as paid: {visible(text, 100)}"
        )
    if reasons:
        verdict = Verdict.NOT_AUDITED
    elif findings:
        verdict = Verdict.FINDINGS
    elif exam.incomplete:
        verdict = Verdict.NOT_AUDITED
        reasons = [
            f"the budget of {exam.plan.budget_s:g} s ended during: {', '.join(exam.incomplete)}; give a larger --budget"
        ]
    elif exam.ledger.unasked:
        verdict = Verdict.NOT_AUDITED
        reasons = [
            f"{counted(exam.ledger.unasked, 'question was', 'questions were')} given up after calls that ran out of time and did not when repeated; audit again on a "
            "quieter machine, or raise --scorer-timeout"
        ]
    else:
        verdict = Verdict.CLEAN
    return Report(
        verdict=verdict,
        reasons=reasons,
        scorer=exam.asker.spec,
        findings=findings,
        errors=error_budget(exam.ledger, exam.confidence) if exam.ledger.families else None,
        contested=exam.ledger.contested_rows(),
        constants=earned,
        impure=dict(exam.ledger.impure),
        notes=exam.notes,
        incomplete=exam.incomplete,
        goldens=len(exam.goldens),
        seeds=[seed.golden.id for seed in exam.seeds],
        allowed=exam.plan.allowed,
        calls=exam.asker.calls,
        seconds=0.0,
        budget_s=exam.plan.budget_s,
        behaviour=exam.behaviour,
    )


def _replayed(exam: Examination, findings: list[Finding]) -> list[Finding]:
    """Ask every finding again in a fresh process, and say of each whether it was seen again. What was not is one more."""
    plan = behaviour.Ways(exam.seed, exam.plan.drift_calls, installed_locale())
    subject = replaying.Subject(exam.fresh, exam.ledger.full, exam.behaviour, plan)
    again = replaying.replay([one for one in findings if one.what not in replaying.OF_THE_MACHINE], subject, exam.clock)
    seen = {one.id for one in again if one.again}
    said = {one.id: one.said for one in again if one.again is False}
    replayed = [msgspec.structs.replace(one, replays=one.id in seen) for one in findings]
    lost = [one for one in replayed if one.id in said and one.what not in (What.UNSTABLE, What.IMPURE)]
    if not lost:
        return replayed
    one, other = lost[0], said[lost[0].id]
    unstable = Finding(
        id=f"behaviour-{What.UNSTABLE.value}-{len(findings) + 1:03d}", kind=Kind.CONTESTED, family="behaviour", what=What.UNSTABLE,
        expected_answer=one.expected_answer, completion=one.completion, prompt=one.prompt, characters=one.characters, cases=len(lost),
        asked=len(again), said=f"{one.said}; {replaying.ALONE}: {other}", attacks={replaying.ALONE: len(lost)},
        replay=msgspec.structs.replace(one.replay or Replay(), way=replaying.ALONE),
    )  # fmt: skip
    (shown,) = replaying.replay([unstable], subject, exam.clock)
    note = f"not seen again {replaying.ALONE}: see {unstable.id}"
    ids = {one.id for one in lost}
    return [
        *(msgspec.structs.replace(one, note=note) if one.id in ids else one for one in replayed),
        msgspec.structs.replace(unstable, replays=bool(shown.again)),
    ]


def _findings(exam: Examination) -> list[Finding]:
    golden_of = {golden.id: str(golden.completion) for golden in exam.goldens if golden.kind is Kind.CORRECT}
    groups = grouped(exam.ledger.hits, golden_of)
    groups.sort(
        key=lambda group: (
            _WORST_FIRST[group[0].what],
            _READINGS[hit_reading(group[0], golden_of)],
            group[0].case.family,
        )
    )
    findings: list[Finding] = []
    once = [hit for hit in exam.ledger.hits if hit.what is What.HANGS]
    for group in groups[:MOST_FINDINGS]:
        smallest = _smallest(exam, group[0], golden_of)
        if smallest is None and len(once) >= NO_ACCIDENT:
            smallest = group[0]
        if smallest is None:
            exam.ledger.unasked += 1
            exam.notes.append(f"one call ran out of time and did not when repeated: {group[0].case.attack}")
            continue
        read = hit_reading(smallest, golden_of)
        findings.append(make_finding(len(findings) + 1, group, smallest, exam.ledger, read))
    if len(groups) > MOST_FINDINGS:
        exam.notes.append(
            f"{counted(len(groups) - MOST_FINDINGS, 'more group of hits was', 'more groups of hits were')} not made findings"
        )
    return findings


def _smallest(exam: Examination, hit: Hit, golden_of: dict[str, str]) -> Hit | None:
    """Return the hit with its text made small; None for a hang that does not happen again."""
    case = hit.case
    if hit.what is What.HANGS:
        again = exam.ask([case], patience=1)[0]
        return None if again is not None and not is_deadly(again) else hit
    is_golden = hit.what is What.REFUSES and exam.plan.grammar is None
    if is_golden or hit.what in _AS_THEY_ARE or case.family in _WHOLE or not isinstance(case.completion, str):
        return hit
    read = hit_reading(hit, golden_of)
    best = hit
    until = exam.clock.left() - min(SHRINK_SECONDS, exam.clock.left() / 10)

    def still_wrong(text: str) -> bool:
        nonlocal best
        if exam.clock.left() < until or not all(mark in text for mark in case.marks):
            return False
        smaller = msgspec.structs.replace(case, completion=text)
        known = exam.ledger.known
        must_pay = hit.what is What.REFUSES
        if known.is_right(case.example, text) is not must_pay:
            return False
        if not must_pay and known.contested_as(case.example, text) is not None:
            return False
        said = exam.ask([smaller], patience=1)[0]
        if said is None or not _same_trouble(exam, hit, said):
            return False
        candidate = Hit(smaller, said, hit.what)
        if hit_reading(candidate, golden_of) is not read:
            return False
        best = candidate
        return True

    shrink(case.completion, still_wrong)
    return best


def _same_trouble(exam: Examination, hit: Hit, said: Said) -> bool:
    if isinstance(said.result, Failure):
        return what_failed(said.result) is hit.what
    if hit.what is What.IMPURE:
        return hit.case.attack in said.seen
    if hit.what is What.REFUSES:
        return said.reward != exam.ledger.full
    return hit.what is What.PAYS and exam.ledger.pays(said)
