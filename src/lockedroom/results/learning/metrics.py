"""What a learning run measures: the metrics of one step, and those of one evaluation in between.

What a step's records give again (`Drawn`) is told apart from what only training knows, so that `verify` can derive the
first part with no model. `docs/loop-c.md` defines every metric once, with its unit; nothing here is defined twice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import msgspec

from lockedroom.records import Failure, FinishReason, Outcome, Record, Score
from lockedroom.stats.intervals import wilson

STEPS, EVALUATIONS, EVALUATION_RECORDS, TIMING = "steps.jsonl", "evaluations.jsonl", "evaluations-records.jsonl", "timing.jsonl"  # fmt: skip


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """What the records of some groups of completions say. A mean over nothing is None; nats throughout.

    reward, pass_rate, format_share: means over scored completions; format_share counts what is not malformed.
    truncated: completions that hit the token limit. length: tokens a completion, end token included. entropy: mean of
    −log-probability a token, of the distribution sampled from. kl: mean over completions of log π − log π_ref (k1).
    groups_without_signal: share of groups in which no scored completion has another reward than another.
    """

    completions: int
    scored: int
    failed: int
    reward: float | None
    pass_rate: float | None
    format_share: float | None
    codes: dict[str, int]
    failures: dict[str, int]
    truncated: int
    tokens: int
    length: float | None
    entropy: float | None
    kl: float | None
    groups_without_signal: float


class StepMetrics(Drawn, frozen=True, kw_only=True):
    """One step of learning: what was drawn, and what the update did with it.

    learning_rate: of this step. loss: what was minimised, of the last epoch. loss_kl: its KL term before β.
    gradient_norm: before clipping, of the last epoch. clipped: share of tokens on PPO's clipped branch, of all epochs.
    baseline: mean of what was subtracted from the rewards. mismatch: largest |recomputed − recorded| log-probability of
    a token before the first update. drift: completions whose text would be tokenised otherwise than it was sampled.
    kl_exact: as of an evaluation, before the update; None where the vocabulary is too large to hold it in every step.
    """

    step: int
    learning_rate: float
    loss: float
    loss_kl: float
    gradient_norm: float
    clipped: float
    baseline: float
    mismatch: float
    drift: int
    kl_exact: float | None = None

    @property
    def distance(self) -> float | None:
        """KL to the reference in nats a completion: exact in every state where that is known, else as sampled."""
        return self.kl if self.kl_exact is None else self.kl_exact


class Evaluation(Drawn, frozen=True, kw_only=True):
    """The policy after `step` updates on the dev examples, one completion each.

    pass_low, pass_high: Wilson's interval of pass_rate at the run's confidence; None where nothing was scored.
    exact_pass_at_1: from the policy's probabilities, where scorer and policy allow it. kl_exact, entropy_exact: Σ_t over
    a completion's states of the exact KL(π(·|state) ‖ π_ref(·|state)), mean over completions, and mean entropy a state.
    """

    step: int
    pass_low: float | None
    pass_high: float | None
    exact_pass_at_1: float | None
    kl_exact: float
    entropy_exact: float


class StepTiming(msgspec.Struct, frozen=True):
    """Seconds of wall time of one step, by what they went into; never part of what is compared between runs."""

    step: int
    draw: float
    judge: float
    reference: float
    update: float


def measure_drawn(records: Sequence[Record], group: int) -> Drawn:
    """Return what whole groups of `group` records say."""
    scores = [record.result for record in records if type(record.result) is Score]
    failures = Counter(record.result.code.value for record in records if isinstance(record.result, Failure))
    drawn = [record.completion for record in records if record.completion is not None]
    tokens = sum(len(one.token_ids or ()) for one in drawn)
    logprobs = [one.logprob for one in drawn if one.logprob is not None]
    ratios = [one.logprob - one.ref_logprob for one in drawn if one.logprob is not None and one.ref_logprob is not None]
    outcomes = [score.details.outcome for score in scores]
    return Drawn(
        completions=len(drawn),
        scored=len(scores),
        failed=sum(failures.values()),
        reward=_mean([score.reward for score in scores]),
        pass_rate=_mean([float(outcome is Outcome.CORRECT) for outcome in outcomes]),
        format_share=_mean([float(outcome is not Outcome.MALFORMED) for outcome in outcomes]),
        codes=dict(sorted(Counter(score.details.code for score in scores).items())),
        failures=dict(sorted(failures.items())),
        truncated=sum(one.finish_reason is FinishReason.LENGTH for one in drawn),
        tokens=tokens,
        length=tokens / len(drawn) if drawn else None,
        entropy=-math.fsum(logprobs) / tokens if tokens and logprobs else None,
        kl=_mean(ratios),
        groups_without_signal=_share_without_signal(records, group),
    )


def pass_interval(drawn: Drawn, confidence: float) -> tuple[float | None, float | None]:
    """Return Wilson's interval of the pass rate of one completion an example."""
    if drawn.pass_rate is None:
        return None, None
    found = wilson(round(drawn.pass_rate * drawn.scored), drawn.scored, confidence)
    return found.low, found.high


def _mean(values: Sequence[float]) -> float | None:
    if not values:
        return None
    try:
        return math.fsum(values) / len(values)
    except OverflowError:  # the sum is too large for a float, the mean is not
        return math.fsum(value / len(values) for value in values)


def _share_without_signal(records: Sequence[Record], group: int) -> float:
    groups = [
        {record.result.reward for record in records[start : start + group] if isinstance(record.result, Score)}
        for start in range(0, len(records), group)
    ]
    return sum(len(rewards) < 2 for rewards in groups) / len(groups)
