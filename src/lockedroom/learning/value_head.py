"""A learned baseline: the expected reward, linear in frozen features of the state before each token.

Letters: N completions, T tokens, C features. The head is fitted by ridge regression on decayed sums, so that an update is
exact and has no learning rate. Predict a batch *before* updating on it: a baseline that has seen the completion's own reward
is biased.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from torch import Tensor


class ValueHead(msgspec.Struct, frozen=True):
    """weights_D: of the C features and a constant (D = C + 1). gram_DD, moments_D: decayed sums Σ φφᵀ and Σ φ·return."""

    weights_D: Tensor
    gram_DD: Tensor
    moments_D: Tensor


def new_value_head(features: int) -> ValueHead:
    """Return a head that predicts 0 everywhere, in float64."""
    import torch

    size = features + 1
    zeros = torch.zeros(size, dtype=torch.float64)
    return ValueHead(zeros, torch.zeros(size, size, dtype=torch.float64), zeros.clone())


def predict_values(head: ValueHead, features_NTC: Tensor) -> Tensor:
    """Return values_NT: the reward expected from the state before each token."""
    return features_NTC.double() @ head.weights_D[:-1] + head.weights_D[-1]


def value_loss(values_NT: Tensor, returns_NT: Tensor, mask_NT: Tensor) -> Tensor:
    """Return the mean squared error over the tokens of the mask; 0 when there are none."""
    error_NT = (values_NT - returns_NT).where(mask_NT, 0.0)
    return error_NT.square().sum() / mask_NT.sum().clamp(min=1)


def updated_value_head(
    head: ValueHead,
    features_NTC: Tensor,
    returns_NT: Tensor,
    mask_NT: Tensor,
    *,
    decay: float = 0.1,
    ridge: float = 1e-3,
) -> ValueHead:
    """Return the head after a batch: the old sums keep 1 − decay, the tokens of the mask are added as a mean.

    ridge draws all weights to 0; it is relative to the mean square of the features. Nothing changes when no token is in
    the mask.
    """
    import torch

    if not bool(mask_NT.any()):
        return head
    phi_ND = torch.nn.functional.pad(features_NTC.double()[mask_NT], (0, 1), value=1.0)
    returns_N = returns_NT.double()[mask_NT]
    gram_DD = (1 - decay) * head.gram_DD + decay * phi_ND.T @ phi_ND / len(phi_ND)
    moments_D = (1 - decay) * head.moments_D + decay * phi_ND.T @ returns_N / len(phi_ND)
    damped_DD = gram_DD + ridge * gram_DD.diagonal().mean() * torch.eye(len(gram_DD), dtype=torch.float64)
    return ValueHead(torch.linalg.solve(damped_DD, moments_D), gram_DD, moments_D)
