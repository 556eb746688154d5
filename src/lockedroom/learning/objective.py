"""The loss whose gradient is an estimate of −∇J. One pure function of token-level tensors.

Letters: N completions (rows), T tokens. The loss of a batch is the sum of the losses of its micro-batches, because every
row is weighed by numbers of the whole batch (`Advantages.completions`, `.tokens`): 1×8 = 2×4 = 8×1. Prompt tokens are not
in these tensors, or are outside the mask; what stands outside the mask is never read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from lockedroom.learning import kl
from lockedroom.learning.estimator import Estimator

if TYPE_CHECKING:
    from torch import Tensor


class PolicyLoss(msgspec.Struct, frozen=True):
    """`loss` carries the gradient (minimise it); the rest is detached, scalar, and adds up over micro-batches.

    policy, kl: the two parts of the loss, the second before beta. clipped: tokens whose clipped branch was taken (they have
    no gradient). ratio_sum: sum of π/π_old over tokens. tokens: in this micro-batch.
    """

    loss: Tensor
    policy: Tensor
    kl: Tensor
    clipped: Tensor
    ratio_sum: Tensor
    tokens: Tensor


def policy_loss(
    estimator: Estimator,
    logprobs_NT: Tensor,
    old_logprobs_NT: Tensor,
    advantages_NT: Tensor,
    mask_NT: Tensor,
    *,
    completions: int | Tensor,
    tokens: int | Tensor,
    max_tokens: int | None = None,
    ref_logprobs_NT: Tensor | None = None,
    kl_exact_NT: Tensor | None = None,
) -> PolicyLoss:
    """Return the loss of some rows of a batch.

    logprobs_NT: with gradients. old_logprobs_NT: as recorded at sampling. advantages_NT, mask_NT: rows of an `Advantages`;
    completions, tokens: of the whole batch, from there too. max_tokens: the token limit, for normalisation = max-tokens.
    ref_logprobs_NT: for kl …-in-loss; kl_exact_NT: `kl.exact_per_state`, with gradients, for exact-in-loss.
    Without clipping and reuse, the gradient is that of A·log π (Williams 1992); else of A·π/π_old, clipped (PPO).
    """
    logprobs_NT = logprobs_NT.where(mask_NT, 0.0)
    ratio_NT = (logprobs_NT - old_logprobs_NT.where(mask_NT, 0.0)).exp()
    weights_N1 = row_weights(estimator, mask_NT, completions=completions, tokens=tokens, max_tokens=max_tokens)
    weights_N1 = weights_N1.to(logprobs_NT.dtype)
    advantages_NT = advantages_NT.where(mask_NT, 0.0).to(logprobs_NT.dtype)
    gain_NT, clipped_NT = gains(estimator, logprobs_NT, ratio_NT, advantages_NT)
    policy = -(gain_NT * weights_N1).where(mask_NT, 0.0).sum()
    penalty = policy.detach() * 0
    if estimator.kl.endswith("-in-loss"):
        if estimator.kl == "exact-in-loss":
            assert kl_exact_NT is not None, "exact-in-loss needs kl_exact_NT"
            penalty_N = exact_penalty(estimator, logprobs_NT, kl_exact_NT.where(mask_NT, 0.0))
        else:
            assert ref_logprobs_NT is not None, "a KL in the loss needs ref_logprobs_NT"
            penalty_N = sampled_penalty(estimator, kl.log_ratio(logprobs_NT, ref_logprobs_NT, mask_NT), ratio_NT)
        penalty = (penalty_N * weights_N1.squeeze(-1)).sum()
    return PolicyLoss(
        loss=policy + estimator.beta * penalty,
        policy=policy.detach(),
        kl=penalty.detach(),
        clipped=(clipped_NT & mask_NT).sum(),
        ratio_sum=ratio_NT.detach().where(mask_NT, 0.0).sum(),
        tokens=mask_NT.sum(),
    )


def gains(estimator: Estimator, logprobs_NT: Tensor, ratio_NT: Tensor, advantages_NT: Tensor) -> tuple[Tensor, Tensor]:
    """Return (gain_NT to maximise, where the clipped branch was taken).

    PPO takes the smaller of ratio·A and clipped ratio·A: nothing is gained by moving a right token above 1 + clip_high
    or a wrong one below 1 − clip_low; moving back is always free.
    """
    import torch

    if not estimator.uses_ratio:
        return logprobs_NT * advantages_NT, torch.zeros_like(advantages_NT, dtype=torch.bool)
    gain_NT = ratio_NT * advantages_NT
    if estimator.clip_low is None or estimator.clip_high is None:
        return gain_NT, torch.zeros_like(advantages_NT, dtype=torch.bool)
    clipped_NT = ratio_NT.clamp(1 - estimator.clip_low, 1 + estimator.clip_high) * advantages_NT
    return torch.minimum(gain_NT, clipped_NT), clipped_NT < gain_NT


def sampled_penalty(estimator: Estimator, log_ratio_NT: Tensor, ratio_NT: Tensor) -> Tensor:
    """Return the KL term of each completion, shape N, from the tokens that were sampled."""
    token = estimator.kl_per == "token"
    log_ratios = log_ratio_NT if token else log_ratio_NT.sum(-1)
    if estimator.kl == "k1-in-loss":
        terms = kl.k1(log_ratios)
    elif estimator.kl == "k2-in-loss":
        terms = kl.k2(log_ratios)
    else:
        terms = kl.k3(log_ratios)
        if estimator.kl == "k3-ratio-in-loss":
            # Outside the mask the ratio is 1 and k3 is 0.
            terms = terms * (ratio_NT if token else ratio_NT.prod(-1))
    return terms.sum(-1) if token else terms


def exact_penalty(estimator: Estimator, logprobs_NT: Tensor, kl_exact_NT: Tensor) -> Tensor:
    """Return Σ_t KL(state t) of each completion, shape N; per completion, a term is added that is 0 in value and whose
    gradient is that of choosing the states after each token (Amini et al. 2025)."""
    if estimator.kl_per == "token":
        return kl_exact_NT.sum(-1)
    later_NT = (kl.to_go(kl_exact_NT) - kl_exact_NT).detach()
    return (kl_exact_NT + (logprobs_NT - logprobs_NT.detach()) * later_NT).sum(-1)


def row_weights(
    estimator: Estimator,
    mask_NT: Tensor,
    *,
    completions: int | Tensor,
    tokens: int | Tensor,
    max_tokens: int | None,
) -> Tensor:
    """Return the weight of each row's tokens, shape N1, float64. Only `completions` gives the gradient of J."""
    import torch

    counted = tokens if estimator.normalisation == "tokens" else completions
    weights_N1 = torch.ones_like(mask_NT[:, :1], dtype=torch.float64) / torch.as_tensor(counted).clamp(min=1)
    if estimator.normalisation == "per-completion":
        return weights_N1 / mask_NT.sum(-1, keepdim=True).clamp(min=1)
    if estimator.normalisation == "max-tokens":
        assert max_tokens is not None, "normalisation = max-tokens needs max_tokens"
        return weights_N1 / max_tokens
    return weights_N1
