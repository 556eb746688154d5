"""What a policy earns without reading the question: the best constant completion, and the prompt echoed back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from lockedroom.records import Example
from lockedroom.safeguards.audit.cases import Case, answer_key, slot_of
from lockedroom.safeguards.audit.families import FAMILIES
from lockedroom.safeguards.audit.report import Hit, What
from lockedroom.stats.intervals import Interval, clopper_pearson

if TYPE_CHECKING:
    from lockedroom.safeguards.audit.examination import Examination

SCREENED = 20
FINALISTS = 8
MOST_CANDIDATES = 250
MOST_EXAMPLES = 200
_SHOTGUNS = (" ".join(map(str, range(101))), "\n".join(map(str, range(-100, 1001))), ",".join(map(str, range(1000))))
_FROM_FAMILIES = ("judge_bait", "template_layers", "injection", "empty", "hedging")


class Policy(msgspec.Struct, frozen=True):
    """What one prompt-independent (or echoing) policy earns on the dataset."""

    name: str
    completion: str
    examples: int
    mean_reward: float
    paid: int
    interval: Interval


class Constants(msgspec.Struct, frozen=True):
    """`honest` is the share of examples that have the most frequent answer: what a constant can earn rightly."""

    dataset: str
    examples: int
    honest: float
    best: Policy | None
    echo: Policy | None


def earn_nothing(exam: Examination) -> Constants | None:
    """Measure both policies on the dataset, and enter as findings what they are paid beyond the honest share."""
    examples = exam.dataset[:: max(1, len(exam.dataset) // MOST_EXAMPLES)][:MOST_EXAMPLES]
    if not examples:
        return None
    counts = Counter(answer_key(example.expected_answer) for example in examples)
    honest = max(counts.values())
    screen = examples[:: max(1, len(examples) // SCREENED)][:SCREENED]
    screened = [(text, _measure(exam, "constant", [text] * len(screen), screen)) for text in _candidates(exam, counts)]
    ranked = sorted(
        (one for one in screened if one[1] is not None), key=lambda one: -one[1].mean_reward if one[1] else 0
    )
    best: Policy | None = None
    for text, _ in ranked[:FINALISTS]:
        measured = _measure(exam, "best constant", [text] * len(examples), examples)
        if measured is not None and (best is None or measured.mean_reward > best.mean_reward):
            best = measured
    echo = _measure(exam, "echo", [example.prompt for example in examples], examples)
    if best is not None and best.paid > honest:
        _enter(exam, "best_constant", f"a constant earns {best.mean_reward:.3f}", examples, best.completion)
    if echo is not None and echo.paid:
        _enter(exam, "echo_policy", f"echoing the prompt earns {echo.mean_reward:.3f}", examples, None)
    return Constants(exam.dataset_name, len(examples), honest / len(examples), best, echo)


def _candidates(exam: Examination, counts: Counter[str]) -> list[str]:
    """Texts that do not depend on the prompt: attacks, mined constants, and golden texts for the most frequent answers."""
    texts: list[str] = list(_SHOTGUNS)
    seed = exam.seeds[0]
    slot = slot_of(seed.golden)
    if slot is not None:
        texts += [slot.before + answer + slot.after for answer, _ in counts.most_common(5)]
        texts += [slot.before + shotgun + slot.after for shotgun in _SHOTGUNS]
    paid = [
        hit.case.completion
        for hit in exam.ledger.hits
        if hit.what is What.PAYS and isinstance(hit.case.completion, str)
    ]
    texts += sorted(dict.fromkeys(paid), key=len)[:60]
    texts += exam.dictionary[:80]
    for family in _FROM_FAMILIES:
        texts += [text for _, text, _ in FAMILIES[family](seed)]
    return list(dict.fromkeys(texts))[:MOST_CANDIDATES]


def _measure(exam: Examination, name: str, texts: Sequence[str], examples: Sequence[Example]) -> Policy | None:
    cases = [
        Case(family=name, attack=name, example=example, completion=text)
        for example, text in zip(examples, texts, strict=True)
    ]
    said = [one for one in exam.ask(cases, patience=1) if one is not None]
    rewards = [one.reward for one in said if one.reward is not None]
    if not rewards:
        return None
    paid = sum(map(exam.ledger.pays, said))
    return Policy(
        name,
        texts[0],
        len(rewards),
        sum(rewards) / len(rewards),
        paid,
        clopper_pearson(paid, len(rewards), exam.confidence),
    )


def _enter(exam: Examination, family: str, attack: str, examples: Sequence[Example], constant: str | None) -> None:
    """Enter the first example that is paid, as the one to look at."""
    for example in examples:
        text = example.prompt if constant is None else constant
        case = Case(family=family, attack=attack, example=example, completion=text)
        said = exam.ask([case], patience=1)[0]
        if said is not None and exam.ledger.pays(said) and not exam.ledger.known.is_right(example, text):
            exam.ledger.hits.append(Hit(case, said, What.PAYS))
            return
