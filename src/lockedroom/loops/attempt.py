"""One attempt: an example, a completion, a verdict. Every loop makes its records here."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from lockedroom.errors import BadInput
from lockedroom.protocols import BatchScorer, Policy, Scorer
from lockedroom.records import Completion, Example, Failure, FailureCode, Record, Sampling, Score
from lockedroom.scorer.builtin import BuiltinScorer
from lockedroom.scorer.validate import rules_for, to_score
from lockedroom.visible import visible
from lockedroom.wording import counted


def attempt(
    policy: Policy, scorer: Scorer, examples: Sequence[Example], draws: range, sampling: Sampling
) -> list[Record]:
    """Draw `len(draws)` completions for each example and judge each: example by example, draw by draw."""
    completions = list(policy.complete(examples, draws, sampling))
    count = len(examples) * len(draws)
    if len(completions) != count:
        raise BadInput(
            f"policy {policy.spec.name}: gave {counted(len(completions), 'result')} for {count} asked; fix the policy"
        )
    return records_of(scorer, examples, draws, completions)


def records_of(
    scorer: Scorer, examples: Sequence[Example], draws: range, completions: Sequence[Completion | Failure]
) -> list[Record]:
    """Judge the completions of examples, `len(draws)` of each, example by example."""
    asked = list(examples) if len(draws) == 1 else [example for example in examples for _ in draws]
    results = judge(scorer, asked, completions)
    drawn = [completion if type(completion) is Completion else None for completion in completions]
    return list(map(Record, [example.id for example in asked], itertools.cycle(draws), drawn, results))


def judge(
    scorer: Scorer, examples: Sequence[Example], completions: Sequence[Completion | Failure]
) -> list[Score | Failure]:
    """Score each completion against its example. Whatever the scorer does, each gets a Score or a Failure."""
    if isinstance(scorer, BatchScorer):
        return _judge_isolated(scorer, examples, completions)
    score = scorer.score
    if isinstance(scorer, BuiltinScorer):
        texts = [drawn.text for drawn in completions if type(drawn) is Completion]
        if len(texts) == len(completions):  # the built-in scorers are total, so nothing has to be caught
            return list(map(scorer.score, examples, texts))
    rules = None if isinstance(scorer, BuiltinScorer) else rules_for(scorer.spec)
    results: list[Score | Failure] = []
    keep = results.append
    for example, drawn in zip(examples, completions, strict=True):
        if isinstance(drawn, Failure):
            keep(drawn)
            continue
        try:
            result = score(example, drawn.text)
        except Exception as error:  # noqa: BLE001  (house rule 15: the one place where a scorer's crash becomes a Failure)
            keep(Failure(FailureCode.SCORER_RAISED, visible(f"{type(error).__name__}: {error}", 200)))
            continue
        keep(result if rules is None else to_score(result, rules))
    return results


def _judge_isolated(
    scorer: BatchScorer, examples: Sequence[Example], completions: Sequence[Completion | Failure]
) -> list[Score | Failure]:
    drawn = [i for i, completion in enumerate(completions) if isinstance(completion, Completion)]
    texts = [completion.text for completion in completions if isinstance(completion, Completion)]
    judged = iter(scorer.score_batch([examples[i] for i in drawn], texts))
    return [completion if isinstance(completion, Failure) else next(judged) for completion in completions]
