"""What the microscope saw: every draw, every update, the baselines compared, and what is wrong with the run, if anything.

All numbers named "exact" come from listing every round and every completion of the world. Rewards are in units of pay,
KL and entropy in nats a completion. Completions are in the order of `texts`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Literal

import msgspec

FORMAT = "lockedroom.bandit/1"
DRAWS_JSONL, STEPS_JSONL, RESULT_JSON, RESULT_MD = "draws.jsonl", "steps.jsonl", "summary.json", "summary.md"
POLICY_FILE = "policy.safetensors"
CERTAIN = 0.1  # nats of entropy below which a policy hardly draws anything but its favourite
FAR = 0.5  # nats that one update should never move a policy by
MOST_COMPLETIONS = 65_536  # of one update
LARGEST_SEED = 2**63 - 1


class BanditSetting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to look at. An update learns from `rounds` rounds of `draws` completions each.

    sabotage: `sign` turns every gradient round, `learning-rate` multiplies the rate by 100. credit: which step of the
    two-step world is told of the reward. measured: updates drawn for each measured variance; 0 for none.
    """

    world: str = "stochastic"
    baseline: Literal["none", "batch-mean", "leave-one-out", "ema", "value"] = "ema"
    draws: int = 1
    rounds: int = 1
    steps: int = 300
    learning_rate: float = 0.3
    seed: int = 0
    sabotage: Literal["none", "sign", "learning-rate"] = "none"
    credit: Literal["both", "first", "second"] = "both"
    measured: int = 200


class DrawLine(msgspec.Struct, frozen=True):
    """One completion that was learned from. `probability` is that with which it was drawn; baseline and advantage have one
    number for every step of the completion."""

    step: int
    round: str
    context: str
    text: str
    probability: float
    reward: float
    baselines: list[float]
    advantages: list[float]


class StepLine(msgspec.Struct, frozen=True):
    """One update. reward: mean of what was drawn. expected_reward: exact E[R] after it. gradient_norm: of ∇J before it.

    cosine: between the change of the logits and ∇J, None where one of them is 0. kl_step: KL(after ‖ before).
    probabilities_CY: after it.
    """

    step: int
    reward: float
    expected_reward: float
    gradient_norm: float
    cosine: float | None
    kl_step: float
    entropy: float
    probabilities_CY: list[list[float]]


class Measured(msgspec.Struct, frozen=True):
    """From so many updates of the real learner at a rate of 0: variance with its standard error, share of ∇J with its."""

    updates: int
    variance: float
    variance_error: float
    share: float
    share_error: float


class BaselineRow(msgspec.Struct, frozen=True):
    """How an estimator with this baseline does at the policy that learning starts from; share and variance are exact.

    share: its mean along ∇J, in units of ∇J (1 is unbiased). variance: trace of its covariance. ratio: to that without
    baseline. exact is None for all three where the groups are too many to list.
    """

    baseline: str
    about: str
    share: float | None
    variance: float | None
    ratio: float | None
    measured: Measured | None


class BaselineTable(msgspec.Struct, frozen=True):
    """The rows, and why: variance as a function of a constant baseline is a parabola around `optimal`.

    expected_reward is what a mean baseline subtracts; mean_helps says on which side of 2·b* it lies. one_none, one_mean,
    one_optimal: exact variance of one draw with no baseline, the mean, and b*. mean_squared_score is E‖∇log π‖².
    """

    draws: int
    optimal: float
    expected_reward: float
    mean_squared_score: float
    one_none: float
    one_mean: float
    one_optimal: float
    mean_helps: bool
    rows: list[BaselineRow]


class BanditResult(msgspec.Struct, frozen=True):
    """A finished look. ceiling: the best that any policy can do; reachable: that one with this credit can.

    moved: the largest change of a logit in each step of a completion. findings: what is wrong, as sentences.
    """

    format: str
    setting: BanditSetting
    about: str
    contexts: list[str]
    texts: list[str]
    means_CY: list[list[float]]
    start_CY: list[list[float]]
    start: float
    final: float
    ceiling: float
    blind_ceiling: float
    reachable: float
    moved: list[float]
    baselines: BaselineTable
    findings: list[str]


def find_trouble(result: BanditResult, steps: Sequence[StepLine]) -> list[str]:
    """Return what the lab sees, from the numbers alone: it is not told of a sabotage."""
    found = []
    cosines = [line.cosine for line in steps if line.cosine is not None]
    if len(cosines) > 1:
        mean, error = statistics.fmean(cosines), statistics.stdev(cosines) / math.sqrt(len(cosines))
        if mean + 2 * error < 0:
            found.append(
                f"WRONG WAY: the updates point against the gradient of E[R] (mean cosine {mean:+.2f}, standard error "
                f"{error:.2f}); look for a lost minus sign: what is minimised must be −A·log π"
            )
    farthest = max(steps, key=lambda line: line.kl_step)
    if farthest.kl_step > FAR:
        found.append(
            f"TOO FAR: update {farthest.step + 1} moved the policy by {farthest.kl_step:.2f} nats at once (healthy: a few "
            "hundredths); a gradient is only true close by: lower the learning rate"
            + (", or what happens to pay first is all that is ever drawn" if farthest.entropy < CERTAIN else "")
        )
    last = steps[-1]
    if last.gradient_norm < 0.01 and result.reachable - result.final > 0.05 and last.entropy < CERTAIN:
        found.append(
            f"STUCK: the policy is certain (entropy {last.entropy:.2g} nats) of what pays {result.final:.2f} where "
            f"{result.reachable:.2f} can be had, so it hardly draws anything else and ‖∇J‖ is {last.gradient_norm:.1g}: "
            "more steps will not help"
        )
    if result.final < result.start - 0.01:
        found.append(f"WORSE: E[R] fell from {result.start:.3f} to {result.final:.3f}")
    if not any(result.moved):
        found.append(
            "NOTHING MOVED: every advantage was 0, so there was nothing to learn from; draw more, or for longer"
        )
    for step, moved in enumerate(result.moved):
        if moved == 0 and any(result.moved):
            found.append(
                f"NO CREDIT: the logits of step {step + 1} have not moved at all; no gradient reaches them, and with them as "
                f"they are E[R] cannot exceed {result.reachable:.3f} of {result.ceiling:.3f}"
            )
    return found
