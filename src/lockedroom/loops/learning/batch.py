"""What was drawn for one step, as the tensors that an update needs.

Shape letters: P prompts, G completions of each, N = P·G rows prompt by prompt, T tokens of the longest. A row without a
completion (the policy failed) is outside every mask.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec
import torch
from torch import Tensor

from lockedroom.errors import BadInput
from lockedroom.learning.advantages import Advantages
from lockedroom.protocols import TrainablePolicy, TrainingPass
from lockedroom.records import Completion, Example, Failure, Outcome, Record, Score


class Draw(msgspec.Struct, frozen=True):
    """What was drawn for a step and how it was judged: rows prompt by prompt, completion by completion."""

    examples: list[Example]
    completions: list[Completion | Failure]
    results: list[Score | Failure]
    seconds: tuple[float, float]


class Part(msgspec.Struct, frozen=True):
    """Prompts of one pass with the completions that were drawn for them; `rows` are their rows of the batch."""

    prompts: list[tuple[int, ...]]
    groups: list[list[tuple[int, ...]]]
    rows: Tensor


class Batch:
    """The drawn groups as tensors; `old_NT` are the log-probabilities recorded at sampling."""

    def __init__(self, policy: TrainablePolicy, draw: Draw, group: int, micro_batch: int | None) -> None:
        P, G = len(draw.examples), group
        ids = [_sampled_ids(one) for one in draw.completions]
        T = max([1, *map(len, ids)])
        self.mask_NT = torch.tensor([[True] * len(row) + [False] * (T - len(row)) for row in ids])
        recorded = [one.token_logprobs or () if isinstance(one, Completion) else () for one in draw.completions]
        self.old_NT = torch.tensor([[*row, *[0.0] * (T - len(row))] for row in recorded], dtype=torch.float64)
        scores = [one if isinstance(one, Score) else None for one in draw.results]
        self.rewards_PG = torch.tensor(
            [0.0 if one is None else one.reward for one in scores], dtype=torch.float64
        ).view(P, G)
        self.scored_PG = torch.tensor([one is not None for one in scores]).view(P, G)
        self.passed_PG = torch.tensor(
            [one is not None and one.details.outcome is Outcome.CORRECT for one in scores]
        ).view(P, G)
        self.parts = list(_parts(policy, draw.examples, ids, G, micro_batch or P))


def _sampled_ids(drawn: Completion | Failure) -> tuple[int, ...]:
    if isinstance(drawn, Failure):
        return ()
    if not drawn.token_ids or drawn.token_logprobs is None or len(drawn.token_logprobs) != len(drawn.token_ids):
        raise BadInput("the policy gave a completion without its token ids and their log-probabilities; fix the policy")
    return drawn.token_ids


def _parts(
    policy: TrainablePolicy, examples: Sequence[Example], ids: Sequence[tuple[int, ...]], G: int, prompts: int
) -> Iterator[Part]:
    """Yield so many prompts at a time, without those for which nothing was drawn."""
    drawn = [(p, [n for n in range(p * G, p * G + G) if ids[n]]) for p in range(len(examples))]
    drawn = [(p, rows) for p, rows in drawn if rows]
    for start in range(0, len(drawn), prompts):
        some = drawn[start : start + prompts]
        yield Part(
            [policy.prompt_ids(examples[p].prompt) for p, _ in some],
            [[ids[n] for n in rows] for _, rows in some],
            torch.tensor([n for _, rows in some for n in rows]),
        )


def largest_mismatch(read: TrainingPass, old_NT: Tensor) -> float:
    recomputed_NT = read.logprobs_NT.detach().double().cpu()
    recorded_NT = old_NT[:, : recomputed_NT.shape[1]]
    return float((recomputed_NT - recorded_NT).where(read.mask_NT.cpu(), 0.0).abs().max())


def records_of(draw: Draw, group: int, k1_NT: Tensor | None, batch: Batch) -> list[Record]:
    """Return the step's records: the reference's log-probability instead of token-level ones."""
    ratios: list[float] | None = None if k1_NT is None else (k1_NT * batch.mask_NT).sum(-1).tolist()
    records = []
    for n, (drawn, result) in enumerate(zip(draw.completions, draw.results, strict=True)):
        kept = None
        if isinstance(drawn, Completion):
            logprob = drawn.logprob if drawn.logprob is not None else math.fsum(drawn.token_logprobs or ())
            ref_logprob = None if ratios is None else logprob - ratios[n]
            kept = Completion(drawn.text, logprob, ref_logprob, drawn.finish_reason, drawn.token_ids)
        records.append(Record(draw.examples[n // group].id, n % group, kept, result))
    return records


def mean_advantages(found: Advantages) -> list[float | None]:
    tokens_N = found.mask_NT.sum(-1)
    means_N = (found.advantages_NT.where(found.mask_NT, 0.0).sum(-1) / tokens_N.clamp(min=1)).tolist()
    return [mean if count else None for mean, count in zip(means_N, tokens_N.tolist(), strict=True)]
