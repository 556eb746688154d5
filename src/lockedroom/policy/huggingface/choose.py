"""Drawing tokens from large vocabularies.

The distribution, the random numbers and the ties are those of `policy.tiny.sample`; a softmax and a cumulative sum in
float64 of 50,000 tokens a row would cost as much as a small model's forward pass. So without truncation the softmax is
float32, as the logits are, and the cumulative distribution is inverted in two steps: the block of BLOCK tokens, then the
token in it. A token's chance differs from its recorded probability by a millionth of it at most.
Shape letters: N draws, R rows (distinct beginnings), V vocabulary, B blocks, C tokens of a block.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lockedroom.policy.tiny.sample import choose as choose_truncated
from lockedroom.records import Sampling

BLOCK = 128
WHOLE = 8 * BLOCK  # a vocabulary of up to this many is inverted in one step


def choose(logits_RV: Tensor, row_N: Tensor, uniform_N: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor, Tensor]:
    """Return for N draws the token drawn, its logprob as sampled, and its logprob under the policy itself (float64).

    Draw n reads row `row_N[n]` of the logits, and nothing that it gets depends on the other rows.
    """
    if sampling.temperature > 0 and (sampling.top_k or sampling.top_p < 1):
        return choose_truncated(logits_RV, row_N, uniform_N, sampling)
    logits_RV = logits_RV if logits_RV.dtype == torch.float64 else logits_RV.float()
    if sampling.temperature == 0:
        token_N = logits_RV.argmax(-1)[row_N]  # the first of equals
        return token_N.cpu(), torch.zeros(len(row_N), dtype=torch.float64), _own_logprobs(logits_RV, row_N, token_N)
    if sampling.temperature == 1:
        token_N, logprob_N = _draw(torch.softmax(logits_RV, -1), row_N, uniform_N)
        return token_N.cpu(), logprob_N, logprob_N
    # below the largest first: what is small enough to matter then keeps its digits when it is divided
    tempered_RV = (logits_RV - logits_RV.amax(-1, keepdim=True)) / sampling.temperature
    token_N, logprob_N = _draw(torch.softmax(tempered_RV, -1), row_N, uniform_N)
    return token_N.cpu(), logprob_N, _own_logprobs(logits_RV, row_N, token_N)


def _own_logprobs(logits_RV: Tensor, row_N: Tensor, token_N: Tensor) -> Tensor:
    return torch.log_softmax(logits_RV, -1)[row_N, token_N].double().cpu()


def _draw(probability_RV: Tensor, row_N: Tensor, uniform_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return the tokens and their log-probabilities on the CPU."""
    R, V = probability_RV.shape
    if V <= WHOLE:
        cdf_NV = probability_RV.double().cumsum(-1)[row_N]
        token_N1 = _place(cdf_NV, uniform_N[:, None] * cdf_NV[:, -1:])
        probability_N = probability_RV[row_N, token_N1[:, 0]].double() / cdf_NV[:, -1]
        return token_N1[:, 0], probability_N.log().cpu()
    blocks_RBC = functional.pad(probability_RV, (0, -V % BLOCK)).view(R, -1, BLOCK)
    cdf_NB = blocks_RBC.sum(-1).double().cumsum(-1)[row_N]
    total_N1 = cdf_NB[:, -1:]
    block_N1, rest_N1 = _invert(cdf_NB, uniform_N[:, None] * total_N1)
    chosen_NC = blocks_RBC[row_N, block_N1[:, 0]].double()
    inside_NC = chosen_NC.cumsum(-1)
    place_N1 = _place(inside_NC, rest_N1 * inside_NC[:, -1:])
    probability_N = chosen_NC.gather(-1, place_N1)[:, 0] / total_N1[:, 0]
    return (block_N1 * BLOCK + place_N1)[:, 0], probability_N.log().cpu()


def _invert(cdf_NX: Tensor, at_N1: Tensor) -> tuple[Tensor, Tensor]:
    """Return the place of `at` (see `_place`), and which share (in [0, 1]) of that place's own step lies below."""
    place_N1 = _place(cdf_NX, at_N1)
    below_N1 = torch.where(place_N1 > 0, cdf_NX.gather(-1, (place_N1 - 1).clamp(min=0)), 0.0)
    step_N1 = cdf_NX.gather(-1, place_N1) - below_N1
    return place_N1, ((at_N1 - below_N1) / step_N1).clamp(0.0, 1.0)


def _place(cdf_NX: Tensor, at_N1: Tensor) -> Tensor:
    """Return the first place where the sum exceeds `at`.

    Where rounding has made `at` the whole sum it is the last place with a step, so that nothing improbable is drawn.
    """
    last_N1 = torch.searchsorted(cdf_NX, cdf_NX[:, -1:].contiguous())
    return torch.minimum(torch.searchsorted(cdf_NX, at_N1, right=True), last_N1)
