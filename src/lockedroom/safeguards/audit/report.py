"""What an audit finds: findings that can be replayed, an error budget by family, and the verdict."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from lockedroom.records import Failure, FailureCode
from lockedroom.safeguards.audit import instrument
from lockedroom.safeguards.audit.asking import Said
from lockedroom.safeguards.audit.cases import Case, Kind, Known, Reading, reading
from lockedroom.safeguards.audit.characters import name_of, odd_characters
from lockedroom.safeguards.audit.families import FAMILIES
from lockedroom.stats.intervals import Interval, clopper_pearson
from lockedroom.stats.selection import VerifierErrors, verified_accuracy, verifier_ceiling, verifier_errors

# Shares of right completions, and draws, that the implied accuracy of best-of-n is printed for.
SHARES = (0.1, 0.3, 0.5, 0.8)
DRAWS = (4, 16, 64)
MOST_ATTACKS_LISTED = 12


class What(enum.Enum):
    """What is wrong, worst first."""

    PAYS = "pays"  # a reward for a text that earns none
    REFUSES = "refuses"  # no reward for a text that earns it
    HANGS = "hangs"  # no verdict in time
    DIES = "dies"  # its process ends, or memory runs out
    RAISES = "raises"
    INVALID = "invalid"  # a result that is none: NaN, text, out of range
    UNSTABLE = "unstable"  # the same question gets another verdict
    IMPURE = "impure"  # it does something besides returning a verdict


class Verdict(enum.Enum):
    CLEAN = "no finding"
    FINDINGS = "findings"
    NOT_AUDITED = "could not audit"


EXIT_CODES = {Verdict.CLEAN: 0, Verdict.FINDINGS: 1, Verdict.NOT_AUDITED: 2}


class Replay(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a finding that is not about one text alone is seen again (see replaying.py).

    Unstable: ask every line of behaviour.jsonl in this `way`; line `question` (from 0) gets another verdict than at first.
    Impure: ask this text in this `mode`, with this metadata. `example`: the id of the example that it was asked with.
    """

    way: str = ""
    question: int | None = None
    mode: str = instrument.PLAIN
    metadata: dict[str, Any] | None = None
    example: str = ""


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One way in which the scorer is wrong, with its smallest known example. A row of findings.jsonl is a golden row.

    `cases` counts the cases that show it, out of `asked` in its family; `attacks` names the most frequent of them.
    `replays`: asked again in a fresh process by the audit itself, it was seen again.
    """

    id: str
    kind: Kind
    family: str
    what: What
    expected_answer: Any
    completion: Any
    prompt: str = ""
    reading: Reading | None = None
    said: str = ""
    characters: list[str] = []  # msgspec copies the default
    attacks: dict[str, int] = {}
    cases: int = 1
    asked: int = 1
    note: str = ""
    replay: Replay | None = None
    replays: bool = False


class FamilyBudget(msgspec.Struct, frozen=True):
    """How often a family's exploits were paid (false positives), of those judged; failures are neither."""

    family: str
    judged: int
    paid: int
    interval: Interval | None
    failures: int
    not_asked: int


class Contested(msgspec.Struct, frozen=True):
    """Texts whose verdict is a choice of the scorer's author: how often it pays them."""

    choice: str
    attack: str
    asked: int
    paid: int
    failures: int
    example: str


class Implied(msgspec.Struct, frozen=True):
    """The accuracy of best-of-n with this scorer when a share of completions is right and the others are these exploits."""

    share_right: float
    by_draws: dict[int, float]
    ceiling: float
    ceiling_at_worst: float


class ErrorBudget(msgspec.Struct, frozen=True):
    families: list[FamilyBudget]
    correct_judged: int
    correct_paid: int
    overall: VerifierErrors | None
    implied: list[Implied]


class Hit(msgspec.Struct, frozen=True):
    """A case that shows trouble; `question` is its line among those of behaviour.jsonl, if it is one of them."""

    case: Case
    said: Said
    what: What
    question: int | None = None
    mode: str = instrument.PLAIN


class Tally(msgspec.Struct):
    """What came of one family's exploits."""

    judged: int = 0
    paid: int = 0
    failures: int = 0
    not_asked: int = 0


class Ledger:
    """Every verdict of the audit, kept as counts, and the cases that are hits. `full` is the reward of a golden text."""

    def __init__(self, known: Known, full: float) -> None:
        self.known, self.full = known, full
        self.families: dict[str, Tally] = {}
        self.hits: list[Hit] = []
        self.contested: dict[tuple[str, str], list[Any]] = {}
        self.correct_judged = self.correct_paid = 0
        self.unasked = 0  # questions that were given up or that no time was left for: no audit is green with any
        self.impure: Counter[str] = Counter()
        self.parts = 0  # wrong texts that get some of the reward, but do not count as paid
        self.largest_part = (0.0, "")

    def pays(self, said: Said) -> bool:
        """More than half of a golden completion's reward counts as paid."""
        return said.reward is not None and said.reward > self.full / 2

    def exploit(self, case: Case, said: Said | None) -> None:
        """Enter the verdict on a case that must not be paid, unless it turns out to be right or contested."""
        if self.known.in_grammar(case.example, case.completion):
            self.correct(case, said)
            return
        if self.known.is_right(case.example, case.completion):
            return
        choice = case.contested or self.known.contested_as(case.example, case.completion, case.family, case.attack)
        if choice is not None:
            self.unasked += said is None
            self._contested(choice, case, said)
            return
        tally = self.families.setdefault(case.family, Tally())
        if said is None:
            tally.not_asked += 1
            self.unasked += 1
            return
        self.watch(case, said)
        if isinstance(said.result, Failure):
            tally.failures += 1
            self.hits.append(Hit(case, said, what_failed(said.result)))
            return
        tally.judged += 1
        if self.pays(said):
            tally.paid += 1
            self.hits.append(Hit(case, said, What.PAYS))
        elif said.reward is not None and said.reward > 0:
            self.parts += 1
            self.largest_part = max(self.largest_part, (said.reward, str(case.completion)), key=lambda part: part[0])

    def correct(self, case: Case, said: Said | None) -> None:
        """Enter the verdict on a case that must be paid."""
        if said is None:
            self.unasked += 1
            return
        self.watch(case, said)
        if isinstance(said.result, Failure):
            self.hits.append(Hit(case, said, what_failed(said.result)))
            return
        self.correct_judged += 1
        if said.reward == self.full:
            self.correct_paid += 1
        else:
            self.hits.append(Hit(case, said, What.REFUSES))

    def watch(self, case: Case, said: Said | None, mode: str = instrument.PLAIN) -> None:
        """Enter what the scorer did besides returning; the first case of each kind is kept."""
        for seen in said.seen if said is not None else ():
            if said is not None and not self.impure[seen]:
                shown = msgspec.structs.replace(case, family="behaviour", attack=seen)
                self.hits.append(Hit(shown, said, What.IMPURE, mode=mode))
            self.impure[seen] += 1

    def _contested(self, choice: str, case: Case, said: Said | None) -> None:
        attack = case.attack if case.family in FAMILIES else case.family.replace("_", " ")
        row = self.contested.setdefault((choice, attack), [0, 0, 0, case.completion])
        if said is not None:
            row[0] += 1
            row[1] += self.pays(said)
            row[2] += said.reward is None

    def contested_rows(self) -> list[Contested]:
        return [
            Contested(choice, attack, asked, paid, failures, str(example)[:120])
            for (choice, attack), (asked, paid, failures, example) in sorted(self.contested.items())
        ]


def what_failed(failure: Failure) -> What:
    return {
        FailureCode.SCORER_TIMEOUT: What.HANGS,
        FailureCode.SCORER_DIED: What.DIES,
        FailureCode.SCORER_MEMORY: What.DIES,
        FailureCode.SCORER_RAISED: What.RAISES,
    }.get(failure.code, What.INVALID)


def error_budget(ledger: Ledger, confidence: float) -> ErrorBudget:
    """Return false-positive rates by family with Clopper-Pearson intervals, and what the sums imply for best-of-n."""
    rows = [
        FamilyBudget(
            family=name,
            judged=tally.judged,
            paid=tally.paid,
            interval=None,
            failures=tally.failures,
            not_asked=tally.not_asked,
        )
        for name, tally in ledger.families.items()
    ]
    return budget_of(rows, ledger.correct_judged, ledger.correct_paid, confidence)


def budget_of(rows: list[FamilyBudget], correct_judged: int, correct_paid: int, confidence: float) -> ErrorBudget:
    """Return the budget that the counts of all families give."""
    rows = [
        msgspec.structs.replace(row, interval=clopper_pearson(row.paid, row.judged, confidence) if row.judged else None)
        for row in rows
    ]
    judged, paid = sum(row.judged for row in rows), sum(row.paid for row in rows)
    overall = None
    implied: list[Implied] = []
    if judged and correct_judged:
        overall = verifier_errors(correct_paid, correct_judged, paid, judged, confidence)
        implied = [_implied(share, overall) for share in SHARES]
    return ErrorBudget(rows, correct_judged, correct_paid, overall, implied)


def _implied(share: float, errors: VerifierErrors) -> Implied:
    hits, false = 1 - errors.false_negative_rate, errors.false_positive_rate
    worst = (1 - errors.false_negative_interval.high, errors.false_positive_interval.high)
    return Implied(
        share,
        {draws: verified_accuracy(share, hits, false, draws) for draws in DRAWS},
        verifier_ceiling(share, hits, false),
        verifier_ceiling(share, *worst),
    )


def grouped(hits: Sequence[Hit], golden_of: dict[str, str]) -> list[list[Hit]]:
    """Group hits that show one fault: same family, same trouble, and for payments the same reading. Smallest text first."""
    groups: dict[tuple[str, What, str], list[Hit]] = {}
    for hit in hits:
        read = hit_reading(hit, golden_of)
        detail = hit.case.attack if hit.what in (What.IMPURE, What.UNSTABLE) else read.value if read else ""
        groups.setdefault((hit.case.family, hit.what, detail), []).append(hit)
    for group in groups.values():
        group.sort(
            key=lambda hit: (len(str(hit.case.completion)), str(hit.case.completion).encode("utf-8", "surrogatepass"))
        )
    return list(groups.values())


def hit_reading(hit: Hit, golden_of: dict[str, str]) -> Reading | None:
    if hit.what is not What.PAYS or not isinstance(hit.case.completion, str):
        return None
    return reading(hit.case.example, hit.case.completion, golden_of.get(hit.case.example.id, ""))


def make_finding(number: int, group: Sequence[Hit], smallest: Hit, ledger: Ledger, read: Reading | None) -> Finding:
    """Return the finding that a group of hits makes; `smallest` is its example."""
    case, said = smallest.case, smallest.said
    attacks = Counter(hit.case.attack for hit in group)
    tally = ledger.families.get(case.family, Tally())
    kind = {What.REFUSES: Kind.CORRECT, What.UNSTABLE: Kind.CONTESTED, What.IMPURE: Kind.CONTESTED}
    completion = case.completion if isinstance(case.completion, str) else None
    return Finding(
        id=f"{case.family}-{smallest.what.value}-{number:03d}",
        kind=kind.get(smallest.what, Kind.EXPLOIT),
        family=case.family,
        what=smallest.what,
        expected_answer=case.example.expected_answer,
        completion=case.completion,
        prompt=case.example.prompt,
        reading=read,
        said=f"{case.attack}: {said_in_words(said)}" if smallest.what is What.UNSTABLE else said_in_words(said),
        characters=[name_of(c) for c in odd_characters(completion or "")][:MOST_ATTACKS_LISTED],
        attacks=dict(attacks.most_common(MOST_ATTACKS_LISTED)),
        cases=len(group),
        asked=max(len(group), tally.judged + tally.failures),
        replay=_replay(smallest),
    )


def _replay(hit: Hit) -> Replay:
    example = hit.case.example
    if hit.what is What.UNSTABLE:
        return Replay(way=hit.case.attack, question=hit.question, example=example.id)
    return Replay(mode=hit.mode, metadata=example.metadata, example=example.id)


def said_in_words(said: Said) -> str:
    if isinstance(said.result, Failure):
        return f"{said.result.code.value}: {said.result.message}"
    seen = f"; it {', '.join(said.seen)}" if said.seen else ""
    return f"reward {said.result.reward:g}, code {said.result.details.code}{seen}"
