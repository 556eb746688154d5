"""Rewards become advantages. Pure functions of tensors; nothing here sees a failure's reward, for it has none.

Letters: P prompts, G completions of each (a group), N = P·G rows prompt by prompt, T tokens. A failure is where `scored`
is False; what stands in `rewards` there is never read. Compute in float64 where it costs nothing: rewards are few.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from lockedroom.errors import BadInput
from lockedroom.learning.estimator import Estimator
from lockedroom.learning.kl import to_go

if TYPE_CHECKING:
    from torch import Tensor

STD_FLOOR = 1e-4  # added to a group's standard deviation, as in TRL


class Advantages(msgspec.Struct, frozen=True):
    """What `policy_loss` needs of a whole batch, and what a log says of it.

    advantages_NT: 0 outside the mask. mask_NT: tokens of the completions that are learned from. completions, tokens:
    their numbers in the whole batch, the denominators of the loss. ema: the running mean after this batch.
    groups_without_signal: groups in which no scored completion stands out from another (all equal, one, or none).
    groups_failed: groups whose scores all failed. failures: completions without a score.
    baseline_mean: of the baselines subtracted from scored completions (0 where none is).
    """

    advantages_NT: Tensor
    mask_NT: Tensor
    completions: int
    tokens: int
    ema: float
    groups_without_signal: int
    groups_failed: int
    failures: int
    baseline_mean: float


def estimate_advantages(
    estimator: Estimator,
    rewards_PG: Tensor,
    scored_PG: Tensor,
    mask_NT: Tensor,
    *,
    k1_NT: Tensor | None = None,
    values_NT: Tensor | None = None,
    passed_PG: Tensor | None = None,
    ema: float = 0.0,
) -> Advantages:
    """Return the advantage of every token of a whole batch (never of a micro-batch: denominators are global).

    k1_NT: log π_old − log π_ref as sampled, for kl = k1-in-reward. values_NT: the value head's prediction before each
    token, made before it learned from this batch, for baseline = value. passed_PG: for keep = passed. ema: running mean
    so far. Raises BadInput for an empty group and for a scored reward that is not finite.
    """
    rewards_PG = checked_rewards(rewards_PG, scored_PG)
    done = token_advantages(
        estimator, rewards_PG, scored_PG, mask_NT, k1_NT=k1_NT, values_NT=values_NT, passed_PG=passed_PG, ema=ema
    )
    used_PG = done.used_PG
    return Advantages(
        advantages_NT=done.advantages_NT,
        mask_NT=done.mask_NT,
        completions=int(used_PG.sum()),
        tokens=int(done.mask_NT.sum()),
        ema=updated_ema(estimator, ema, done.shaped_PG, scored_PG),
        groups_without_signal=int((group_spread(rewards_PG, scored_PG) == 0).sum()),
        groups_failed=int((~scored_PG.any(-1)).sum()),
        failures=int((~scored_PG).sum()),
        baseline_mean=float(done.baseline_PG[used_PG].mean()) if bool(used_PG.any()) else 0.0,
    )


class TokenAdvantages(msgspec.Struct, frozen=True):
    """shaped_PG: rewards less a KL that is charged to whole completions. used_PG: what is learned from."""

    advantages_NT: Tensor
    mask_NT: Tensor
    baseline_PG: Tensor
    shaped_PG: Tensor
    used_PG: Tensor


def token_advantages(
    estimator: Estimator,
    rewards_PG: Tensor,
    scored_PG: Tensor,
    mask_NT: Tensor,
    *,
    k1_NT: Tensor | None = None,
    values_NT: Tensor | None = None,
    passed_PG: Tensor | None = None,
    ema: float = 0.0,
) -> TokenAdvantages:
    """The part of `estimate_advantages` that is nothing but tensor arithmetic (the court runs it under vmap).

    rewards_PG is 0 where nothing was scored.
    """
    groups = rewards_PG.shape
    mask_PGT = mask_NT.reshape(*groups, -1)
    shaped_PG = rewards_PG
    if estimator.kl == "k1-in-reward" and estimator.kl_per == "completion":
        k1_PG = _given(k1_NT, "k1_NT").where(mask_NT, 0.0).sum(-1).reshape(groups)
        shaped_PG = rewards_PG - estimator.beta * k1_PG
    if estimator.keep == "passed":
        used_PG = scored_PG & _given(passed_PG, "passed_PG")
        baseline_PG, advantages_PG = shaped_PG * 0, used_PG.to(rewards_PG.dtype)
    else:
        baseline_PG, used_PG = baselines(estimator, shaped_PG, scored_PG, ema)
        advantages_PG = (shaped_PG - baseline_PG) * used_PG
    if estimator.scale == "group-std":
        advantages_PG = advantages_PG / (group_std(shaped_PG, scored_PG) + STD_FLOOR)
    advantages_PGT = advantages_PG.unsqueeze(-1).expand(mask_PGT.shape)
    if estimator.baseline == "value":
        advantages_PGT = advantages_PGT - _given(values_NT, "values_NT").reshape(mask_PGT.shape)
    if estimator.kl == "k1-in-reward" and estimator.kl_per == "token":
        to_go_NT = to_go(_given(k1_NT, "k1_NT").where(mask_NT, 0.0))
        advantages_PGT = advantages_PGT - estimator.beta * to_go_NT.reshape(mask_PGT.shape)
    used_PGT = mask_PGT & used_PG.unsqueeze(-1)
    advantages_NT = advantages_PGT.where(used_PGT, 0.0).reshape(mask_NT.shape)
    return TokenAdvantages(advantages_NT, used_PGT.reshape(mask_NT.shape), baseline_PG, shaped_PG, used_PG)


def baselines(estimator: Estimator, rewards_PG: Tensor, scored_PG: Tensor, ema: float) -> tuple[Tensor, Tensor]:
    """Return (baseline_PG, used_PG): what to subtract, and where there is something to subtract it from.

    A value head's baseline is per token and is not in here. A completion alone in its group has no leave-one-out
    baseline and is not used: neither summed nor counted.
    """
    if estimator.baseline == "leave-one-out":
        return leave_one_out(rewards_PG, scored_PG)
    if estimator.baseline == "group-mean":
        return group_mean(rewards_PG, scored_PG)
    if estimator.baseline == "batch-mean":
        return batch_mean(rewards_PG, scored_PG).expand(rewards_PG.shape), scored_PG
    return rewards_PG * 0 + (ema if estimator.baseline == "ema" else 0.0), scored_PG


def leave_one_out(rewards_PG: Tensor, scored_PG: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of the *other* scored rewards of the group, and where there is one. Unbiased (Kool et al. 2019)."""
    others_PG = scored_PG.sum(-1, keepdim=True) - scored_PG.to(rewards_PG.dtype)
    total_P1 = (rewards_PG * scored_PG).sum(-1, keepdim=True)
    used_PG = scored_PG & (others_PG > 0)
    baseline_PG = (total_P1 - rewards_PG * scored_PG) / others_PG.clamp(min=1)
    # Equal rewards have no signal, to the last bit: a sum may be off by a rounding.
    equal_P1 = group_spread(rewards_PG, scored_PG).unsqueeze(-1) == 0
    return rewards_PG.where(equal_P1 & used_PG, baseline_PG), used_PG


def group_mean(rewards_PG: Tensor, scored_PG: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of the group's scored rewards. Biased: exactly 1 − 1/n times leave-one-out (n scored)."""
    others_P1 = (scored_PG.sum(-1, keepdim=True) - 1).to(rewards_PG.dtype)
    loo_PG, used_PG = leave_one_out(rewards_PG, scored_PG)
    return rewards_PG + (loo_PG - rewards_PG) * (others_P1 / (others_P1 + 1).clamp(min=1)), used_PG


def batch_mean(rewards_PG: Tensor, scored_PG: Tensor) -> Tensor:
    """Return the mean of all scored rewards, a scalar. Biased: 1 − 1/n of the gradient (n scored in the batch)."""
    return (rewards_PG * scored_PG).sum() / scored_PG.sum().clamp(min=1)


def group_std(rewards_PG: Tensor, scored_PG: Tensor) -> Tensor:
    """Return the standard deviation (n − 1) of each group's scored rewards, shape P1; 0 for fewer than two."""
    n_P1 = scored_PG.sum(-1, keepdim=True)
    mean_P1 = (rewards_PG * scored_PG).sum(-1, keepdim=True) / n_P1.clamp(min=1)
    squares_P1 = ((rewards_PG - mean_P1).square() * scored_PG).sum(-1, keepdim=True)
    return (squares_P1 / (n_P1 - 1).clamp(min=1)).sqrt()


def group_spread(rewards_PG: Tensor, scored_PG: Tensor) -> Tensor:
    """Return the largest minus the smallest scored reward of each group, shape P; 0 where nothing is scored."""
    high_P = rewards_PG.masked_fill(~scored_PG, -float("inf")).amax(-1)
    low_P = rewards_PG.masked_fill(~scored_PG, float("inf")).amin(-1)
    return (high_P - low_P).where(scored_PG.any(-1), 0.0)


def updated_ema(estimator: Estimator, ema: float, rewards_PG: Tensor, scored_PG: Tensor) -> float:
    """Return b ← (1 − α) b + α · (mean scored reward); unchanged where nothing is scored or the baseline is another."""
    if estimator.baseline != "ema" or not bool(scored_PG.any()):
        return ema
    return (1 - estimator.ema_decay) * ema + estimator.ema_decay * float(batch_mean(rewards_PG, scored_PG))


def checked_rewards(rewards_PG: Tensor, scored_PG: Tensor) -> Tensor:
    """Return the rewards with 0 where nothing was scored. Raises BadInput for what no gradient can be made of."""
    if rewards_PG.ndim != 2 or rewards_PG.shape != scored_PG.shape or 0 in rewards_PG.shape:
        raise BadInput(
            f"rewards of shape {tuple(rewards_PG.shape)}, scored of shape {tuple(scored_PG.shape)}: expected the same "
            "(prompts, completions of each), neither of them 0"
        )
    rewards_PG = rewards_PG.where(scored_PG, 0.0)
    if not bool(rewards_PG.isfinite().all()):
        raise BadInput("a scored reward is not a finite number; a completion that could not be judged is a failure")
    return rewards_PG


def _given(tensor: Tensor | None, name: str) -> Tensor:
    assert tensor is not None, f"this estimator needs {name}"
    return tensor
