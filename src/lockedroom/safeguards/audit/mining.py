"""Mining a run's own completions: passes that a stricter reader doubts, and losses that a generous reader would pay.

The split of all scored attempts is into four: paid and not doubted, paid and doubted, lost for the format only, and lost
for lack of the answer. Nothing here asks a scorer; the records' own rewards are read.
"""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from lockedroom.records import Example, Record, Score
from lockedroom.safeguards.audit.cases import answer_key, numbers_in
from lockedroom.safeguards.audit.characters import INVISIBLE, name_of, odd_characters
from lockedroom.scorer.judgeable import answer_digits
from lockedroom.stats.intervals import Interval
from lockedroom.stats.one_run import RunSums, estimate_run

MANY_NUMBERS = 12
SHOWN_OF_EACH = 5
LONGEST_SHOWN = 4000
_NUMBER = re.compile(r"-?[0-9][0-9,]*(?:\.[0-9]+)?")
_OR = re.compile(r"\b(?:or|maybe|perhaps|either)\b", re.IGNORECASE)


class Doubt(enum.Enum):
    """Why a paid completion is suspicious, worst first."""

    NO_ANSWER = "the expected answer is not in it"
    MANY_NUMBERS = "it holds many numbers"
    HEDGED = "it says or, maybe, either"
    NOT_LAST = "another number follows the answer"
    ECHO = "the prompt is repeated in it"
    ODD_CHARACTERS = "it holds characters that do not show"


class Loss(enum.Enum):
    """Where a generous reader finds the right answer in a completion that was not paid."""

    LAST_NUMBER = "its last number is the answer"
    BOXED = "the answer is marked as final"
    SOMEWHERE = "the answer stands in it, not as the last number"


# A completion that was not paid although the answer is plainly its last word lost its reward to the format.
FORMAT_LOSSES = (Loss.LAST_NUMBER, Loss.BOXED)


class Share(msgspec.Struct, frozen=True):
    """How many attempts, as a mean over examples (draws of one example are one cluster), with its interval."""

    what: str
    count: int
    share: float
    interval: Interval | None


class Mined(msgspec.Struct, frozen=True, kw_only=True):
    """`split` has four shares that add up to 1; `doubts` and `losses` may overlap and are counted each."""

    scored: int
    failures: int
    examples: int
    split: list[Share]
    doubts: list[Share]
    losses: list[Share]


class Find(msgspec.Struct, frozen=True):
    """One completion of the run to look at, as a golden row."""

    id: str
    kind: str
    family: str
    why: str
    expected_answer: Any
    completion: str
    prompt: str
    reward: float
    characters: list[str]


def doubt(example: Example, text: str) -> list[Doubt]:
    """Return why a stricter reader would not have paid this."""
    answer = answer_key(example.expected_answer)
    found: list[Doubt] = []
    if answer_digits(example.expected_answer) is not None:
        numbers = [_plain(number) for number in _NUMBER.findall(text)]
        if answer not in numbers and answer not in numbers_in(text):
            found.append(Doubt.NO_ANSWER)
        elif numbers and numbers[-1] != answer:
            found.append(Doubt.NOT_LAST)
        if len(set(numbers)) >= MANY_NUMBERS:
            found.append(Doubt.MANY_NUMBERS)
    elif answer.casefold() not in text.casefold():
        found.append(Doubt.NO_ANSWER)
    if any(answer in line and _OR.search(line) for line in text.splitlines()):
        found.append(Doubt.HEDGED)
    if len(example.prompt) > len(answer) and example.prompt.strip() and example.prompt.strip() in text:
        found.append(Doubt.ECHO)
    if any(character in text for character in INVISIBLE):
        found.append(Doubt.ODD_CHARACTERS)
    return found


def loss(example: Example, text: str) -> Loss | None:
    """Return where a generous reader finds the answer in a completion that was not paid."""
    answer = answer_key(example.expected_answer)
    if answer_digits(example.expected_answer) is None:
        lines = text.strip().splitlines()
        return Loss.LAST_NUMBER if lines and lines[-1].strip(" .*`$").endswith(answer) else None
    for marked in re.findall(r"\\boxed\{([^{}]*)\}|####\s*(\S+)|<answer>([^<]*)</answer>|\*\*([^*]+)\*\*", text):
        if _plain("".join(marked).strip(" $.")) == answer:
            return Loss.BOXED
    numbers = [_plain(number) for number in _NUMBER.findall(text)]
    if numbers and numbers[-1] == answer:
        return Loss.LAST_NUMBER
    return Loss.SOMEWHERE if answer in numbers else None


class Miner:
    """Reads the pairs of a run once, example by example."""

    def __init__(self, full: float, confidence: float) -> None:
        self._full, self._confidence = full, confidence
        self._sums: dict[str, RunSums] = {}
        self._counts: Counter[str] = Counter()
        self.finds: list[Find] = []
        self._shown: Counter[str] = Counter()
        self._failures = self._examples = self._scored = 0

    def read(self, example: Example, records: Iterable[Record]) -> None:
        """Take all draws of one example."""
        marks: list[set[str]] = []
        for record in records:
            if not isinstance(record.result, Score) or record.completion is None:
                self._failures += 1
                continue
            marks.append(self._marks(example, record, record.completion.text, record.result.reward))
        self._examples += 1
        self._scored += len(marks)
        if not marks:
            return
        for name in _NAMES:
            hits = [float(name in mark) for mark in marks]
            self._counts[name] += int(sum(hits))
            self._sums.setdefault(name, RunSums()).add_example(hits)

    def _marks(self, example: Example, record: Record, text: str, reward: float) -> set[str]:
        if reward > self._full / 2:
            doubts = doubt(example, text)
            for one in doubts:
                self._show(example, record, one.name.lower(), one.value, "exploit")
            return {_DOUBTED if doubts else _PAID, *(one.value for one in doubts)}
        found = loss(example, text)
        if found in FORMAT_LOSSES:
            self._show(example, record, found.name.lower(), found.value, "contested")
            return {_FORMAT, found.value}
        return {_CAPABILITY} if found is None else {_CAPABILITY, found.value}

    def _show(self, example: Example, record: Record, family: str, why: str, kind: str) -> None:
        assert record.completion is not None, "only scored records are shown"
        assert isinstance(record.result, Score), "only scored records are shown"
        text = record.completion.text
        self._shown[family] += 1
        if self._shown[family] <= SHOWN_OF_EACH and len(text) <= LONGEST_SHOWN:
            self.finds.append(
                Find(f"{family}-{example.id}-{record.draw}", kind, family, why, example.expected_answer, text, example.prompt,
                     record.result.reward, [name_of(c) for c in odd_characters(text)][:12])
            )  # fmt: skip

    def result(self) -> Mined:
        return Mined(
            scored=self._scored,
            failures=self._failures,
            examples=self._examples,
            split=[self._share(name) for name in (_PAID, _DOUBTED, _FORMAT, _CAPABILITY)],
            doubts=[self._share(one.value) for one in Doubt if self._counts[one.value]],
            losses=[self._share(one.value) for one in Loss if self._counts[one.value]],
        )

    def _share(self, name: str) -> Share:
        estimate = estimate_run(self._sums[name], self._confidence) if name in self._sums else None
        return Share(
            name, self._counts[name], estimate.mean if estimate else 0.0, estimate.interval if estimate else None
        )


_PAID, _DOUBTED = "paid, and not doubted", "paid, and doubted by a stricter reader"
_FORMAT, _CAPABILITY = "lost for the format only", "lost: the answer is not given"
_NAMES = (_PAID, _DOUBTED, _FORMAT, _CAPABILITY, *(one.value for one in Doubt), *(one.value for one in Loss))


def _plain(number: str) -> str:
    """Return a number without separators and without a fraction of zeros."""
    number = number.replace(",", "")
    whole, point, fraction = number.partition(".")
    return whole if point and not fraction.strip("0") else number
