"""What is asked about payments: goldens, attacks, other answers, the scorer's own constants, what is no text.

Every stage takes the examination, asks, and enters the verdicts into its ledger.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from lockedroom.records import Example, Failure, Score
from lockedroom.safeguards.audit import dictionary, instrument
from lockedroom.safeguards.audit.asking import Question, Said
from lockedroom.safeguards.audit.cases import Case, Golden, Kind, answer_key
from lockedroom.safeguards.audit.families import FAMILIES, Seed, non_strings, sweep
from lockedroom.safeguards.audit.report import Hit, What, what_failed
from lockedroom.wording import counted

if TYPE_CHECKING:
    from lockedroom.safeguards.audit.examination import Examination

REPEATS = 5
# Expected answers that the golden frame is filled with: what is paid for 42 has to be paid for these too.
OTHER_ANSWERS = (1, 9, 10, 11, 99, 100, 101, 1234, 65536, 99999, 10**6, 2**31, -1, -9, -10, -1234)
# Answers beyond the integers that a float or a machine word can hold, each with a neighbour that such a scorer takes for it.
BIG_ANSWERS = ((10**12 + 1, 10**12), (2**53 + 1, 2**53), (10**18 + 1, 10**18), (10**40 + 7, 10**40 + 8), (2**64 + 5, 5))
_MINED = (
    "{c}",
    "{x}{c}",
    "{x} {c}",
    "{x}\n{c}",
    "{c}{x}",
    "{c} {x}",
    "{c}\n{x}",
    "{b}{c}{a}",
    "{g}{c}",
    "{g} {c}",
    "{c}{g}",
    "{c} {g}",
    "{b}{{c}}{a}",
    "{c}{c}{c}{c}{c}{c}{c}{c}",
)
_MOST_PAIRS = 60
MOST_PATTERNS, LONGEST_JOINED = 20, 5000
MOST_LENGTHS, LONGEST_TEXT = 300, 100_000


def baseline(exam: Examination) -> list[str]:
    """Ask every golden correct, several times over; return why there can be no audit, if anything is wrong with them."""
    goldens = [golden for golden in exam.goldens if golden.kind is Kind.CORRECT]
    if len({answer_key(golden.expected_answer) for golden in goldens}) < 2:
        return ["there are no golden completions for at least two different answers; give --golden FILE with completions that "
                "must score 1"]  # fmt: skip
    cases = [_case_of(golden) for golden in goldens]
    trouble = []
    rounds = []
    for _ in range(REPEATS):
        began = time.monotonic()
        rounds.append(exam.ask(cases, patience=1))
        exam.call_s = min(exam.call_s, (time.monotonic() - began) / len(cases))  # the fastest: others start processes
    for golden, case, *said in zip(goldens, cases, *rounds, strict=True):
        first = said[0]
        exam.ledger.correct(case, first)
        if first is None:
            trouble.append(f"golden {golden.id!r} got no verdict before the scorer had to be given up")
        elif first.reward != exam.ledger.full:
            trouble.append(
                f"golden {golden.id!r} (expected {answer_key(golden.expected_answer)[:60]}) does not score "
                f"{exam.ledger.full:g}: {_in_short(first)}"
            )
        elif any(other is None or other.result != first.result for other in said):
            trouble.append(f"golden {golden.id!r} gets another verdict when asked again")
            exam.ledger.hits.append(Hit(msgspec.structs.replace(case, attack="when repeated"), first, What.UNSTABLE))
    return trouble[:3] + ([f"and {counted(len(trouble) - 3, 'more golden')}"] if len(trouble) > 3 else [])


def attack(exam: Examination) -> None:
    """Ask every case of every family."""
    for family in FAMILIES:
        enter(exam, list(sweep(exam.seeds, family)))
    given = [golden for golden in exam.goldens if golden.kind is not Kind.CORRECT]
    for family in dict.fromkeys(golden.family for golden in given):
        enter(exam, [_case_of(golden) for golden in given if golden.family == family])


def other_answers(exam: Examination) -> None:
    """The golden frame with another answer must be paid for that answer, and only for that one."""
    right, crossed = [], []
    for seed in exam.seeds:
        slot = seed.slot
        if slot is None or not slot.integer:
            continue
        for answer in OTHER_ANSWERS:
            expected = str(answer) if isinstance(seed.golden.expected_answer, str) else answer
            example = Example(id=f"{seed.golden.id}:{answer}", prompt=seed.golden.prompt, expected_answer=expected)
            text = f"{slot.before}{answer}{slot.after}"
            right.append(
                Case(family="other_answers", attack="another answer", example=example, completion=text, marks=(text,))
            )
            if str(answer) != slot.answer:
                crossed.append(_crossed(seed, text))
    for case, said in zip(right, exam.ask(right), strict=True):
        exam.ledger.correct(case, said)
    enter(exam, crossed)
    _big_answers(exam)


def _big_answers(exam: Examination) -> None:
    """A text that is wrong by little must not be paid for a big answer. Whether big answers are taken at all is a choice."""
    cases = []
    for seed in [seed for seed in exam.seeds if seed.slot is not None and seed.slot.integer][:2]:
        slot = seed.slot
        assert slot is not None, "only seeds with a slot were kept"
        for answer, neighbour in BIG_ANSWERS:
            expected = str(answer) if isinstance(seed.golden.expected_answer, str) else answer
            example = Example(id=f"{seed.golden.id}:{answer}", prompt=seed.golden.prompt, expected_answer=expected)
            text, near = (f"{slot.before}{number}{slot.after}" for number in (answer, neighbour))
            ask = functools.partial(Case, family="numeric_comparison", example=example)
            cases.append(ask(attack="a big answer", completion=text, contested="digit caps"))
            cases.append(ask(attack="near a big answer", completion=near, marks=(str(neighbour),)))
    enter(exam, cases)


def cross(exam: Examination) -> None:
    """A text that was just paid for its own answer must not be paid for another one: a cache keyed on text alone does."""
    goldens = [golden for golden in exam.goldens if golden.kind is Kind.CORRECT]
    cases = []
    for golden in goldens[:_MOST_PAIRS]:
        other = next(
            (one for one in goldens if answer_key(one.expected_answer) != answer_key(golden.expected_answer)), None
        )
        if other is not None and golden.completion not in exam.ledger.known.right[answer_key(other.expected_answer)]:
            example = Example(id=other.id, prompt=other.prompt, expected_answer=other.expected_answer)
            crossed = Case(
                family="cross_answer", attack="right for another answer", example=example, completion=golden.completion
            )
            cases += [_case_of(golden), crossed]
    enter(exam, cases)


def mined(exam: Examination) -> None:
    """The scorer's own constants, and what it was heard to compare texts with, alone and around right and wrong answers."""
    cases = []
    for seed in exam.seeds[:2]:
        words = list(dict.fromkeys([*exam.dictionary, *_overheard(exam, seed)]))
        joined = " ".join(words)[:LONGEST_JOINED]  # for a scorer that wants two of them
        for word in [*words, joined]:
            for template in _MINED:
                text = seed.fill(template.replace("{c}", "\0")) if word else None
                if text is not None:
                    text = text.replace("\0", word)
                    cases.append(
                        Case(
                            family="mined_constants",
                            attack=template,
                            example=seed.example,
                            completion=text,
                            marks=() if word is joined else (word,),
                        )
                    )
    enter(exam, cases + _lengths(exam))


def _lengths(exam: Examination) -> list[Case]:
    """Texts of every small length, and of the lengths that stand in the scorer: a reward for length alone is one for nothing."""
    seed = exam.seeds[0]
    numbers = {int(word) for word in exam.dictionary if word.isascii() and word.isdigit() and len(word) < 7}
    sizes = {*range(1, MOST_LENGTHS), *(size + more for size in numbers for more in (0, 1) if size <= LONGEST_TEXT)}
    return [
        Case(
            family="mined_constants",
            attack="of a length",
            example=seed.example,
            completion="x" * size,
            marks=("x" * size,),
        )
        for size in sorted(sizes)
        if size
    ]


def _overheard(exam: Examination, seed: Seed) -> list[str]:
    """Return what the scorer compares texts with, for this example, and a text that each of its regular expressions matches.

    Asked twice: with the first words in the text, it may look for a second one.
    """
    words: dict[str, None] = {}
    patterns: dict[tuple[str, int], None] = {}
    for texts in ((seed.golden.completion, seed.fill("{x}"), seed.golden.prompt, "x"), (None,)):
        joined = " ".join([*exam.dictionary, *words])[:LONGEST_JOINED]
        asked = [Question(seed.example, joined if text is None else text, instrument.OVERHEAR) for text in texts]
        for said in exam.asker.ask(asked, exam.clock, patience=1):
            if said is not None and isinstance(said.result, Score) and said.result.details.code == instrument.HEARD:
                heard = said.result.details.extra or {}
                words |= dict.fromkeys(heard["texts"])
                patterns |= dict.fromkeys((pattern, flags) for pattern, flags in heard["patterns"])
    samples = (dictionary.matching(pattern, flags, exam.seed) for pattern, flags in list(patterns)[:MOST_PATTERNS])
    return [*words, *(sample for sample in samples if sample is not None)]


def no_text(exam: Examination) -> None:
    """What is no string: to pay for it is a finding; to raise is a choice, as our own runs only ever hand over text."""
    cases = list(non_strings(exam.seeds[0]))
    for case, said in zip(cases, exam.ask(cases), strict=True):
        raised = said is not None and isinstance(said.result, Failure) and what_failed(said.result) is What.RAISES
        exam.ledger.exploit(msgspec.structs.replace(case, contested="non_strings") if raised else case, said)


def enter(exam: Examination, cases: Sequence[Case]) -> None:
    """Ask cases that must not be paid, and enter the verdicts; a golden correct among them is only asked."""
    for case, said in zip(cases, exam.ask(cases), strict=True):
        exam.ledger.exploit(case, said)


def _crossed(seed: Seed, text: str) -> Case:
    return Case(family="cross_answer", attack="the frame with another answer", example=seed.example, completion=text)


def _case_of(golden: Golden) -> Case:
    example = Example(id=golden.id, prompt=golden.prompt, expected_answer=golden.expected_answer)
    contested = "golden" if golden.kind is Kind.CONTESTED else None
    return Case(
        family=golden.family,
        attack=golden.note or "golden",
        example=example,
        completion=golden.completion,
        contested=contested,
    )


def _in_short(said: Said) -> str:
    result = said.result
    if isinstance(result, Failure):
        return f"{result.code.value}: {result.message}"
    return f"reward {result.reward:g}, code {result.details.code}"
