"""KL(π ‖ π_ref) from log-probabilities: three estimators and the exact value. Nats; pure functions of tensors.

Letters: N completions, T tokens, R states, V vocabulary. log_ratio = log π − log π_ref of a sampled token (…_NT) or, summed over its
tokens, of a completion (…_N); every estimator here may be given either. Values: Schulman 2020, "Approximating KL
divergence". Gradients: Tang & Munos 2025, "On a few pitfalls in KL divergence gradient estimation for RL". All
statements about bias are for y ~ π.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def log_ratio(logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor) -> Tensor:
    """Return log π − log π_ref of each token, 0 outside the mask (whatever stands there); all of shape NT."""
    return (logprobs.where(mask, 0.0)) - (ref_logprobs.where(mask, 0.0))


def k1(log_ratio: Tensor) -> Tensor:
    """Return log π/π_ref. Value: unbiased, of either sign. As a loss: its expected gradient is zero.

    Detached and in the reward, times ∇log π, it gives the exact gradient of the reverse KL.
    """
    return log_ratio


def k2(log_ratio: Tensor) -> Tensor:
    """Return ½ (log π/π_ref)². Value: biased. As a loss, of a whole completion: exact gradient of the reverse KL.

    Of single tokens, summed: the gradient leaves out what a token does to the KL of later tokens.
    """
    return 0.5 * log_ratio.square()


def k3(log_ratio: Tensor) -> Tensor:
    """Return r − 1 − log r with r = π_ref/π. Value: unbiased, never negative; its variance is unbounded far from π_ref.

    As a loss it has the gradient of the *forward* KL(π_ref ‖ π). Times the importance ratio π/π_old before
    differentiating, its gradient is that of k2.
    """
    import torch

    return torch.expm1(-log_ratio) + log_ratio


def exact_per_state(logprobs_RV: Tensor, ref_logprobs_RV: Tensor) -> Tensor:
    """Return KL_R = Σ_v π (log π − log π_ref) of every state; states may have any shape before the vocabulary.

    Summed over the states of a completion: unbiased for the KL of completions, with less variance than k1 (Rao-Blackwell;
    Amini et al. 2025). Its gradient alone leaves out that π also chooses the states; `objective.policy_loss` adds that.
    A token that π never gives (log-probability −inf) counts 0.
    """
    probabilities_RV = logprobs_RV.exp()
    possible_RV = probabilities_RV > 0
    difference_RV = logprobs_RV.where(possible_RV, 0.0) - ref_logprobs_RV.where(possible_RV, 0.0)
    return (probabilities_RV.where(possible_RV, 0.0) * difference_RV).sum(-1)


def entropy_per_state(logprobs_RV: Tensor) -> Tensor:
    """Return −Σ_v π log π of every state, in nats; a token of probability 0 counts 0."""
    import torch

    probabilities_RV = logprobs_RV.exp()
    entropy_R: Tensor = -torch.special.xlogy(probabilities_RV, probabilities_RV).sum(-1)
    return entropy_R


def to_go(values_NT: Tensor) -> Tensor:
    """Return at every token the sum of the values from it on."""
    return values_NT.flip(-1).cumsum(-1).flip(-1)
