"""Worlds so small that every completion can be listed: J, ∇J, KL, pass@k and best-of-n are exact, in float64.

Letters: X prompts, M completions (all there are), T tokens, S states (prefixes), V vocabulary. The policy is a table of
logits_XSV. Any other softmax policy's gradient is a linear map of this table's, so an estimator that is unbiased here is
unbiased there. A completion ends with the end token (the last of the vocabulary) or at the length limit; the bandit is
the world of length one, where every token is an arm.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import msgspec
import torch

from lockedroom.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_VOCABULARY, LONGEST = 8, 4


class Completions(msgspec.Struct, frozen=True):
    """All completions of a world. tokens_MT, states_MT (which prefix each token follows), mask_MT; 0 outside the mask."""

    tokens_MT: Tensor
    states_MT: Tensor
    mask_MT: Tensor
    states: int
    vocabulary: int


class MicroWorld(msgspec.Struct, frozen=True):
    """A policy, the one its completions were drawn from (`old`), a reference policy, and the reward of everything.

    Prompts are asked equally often. values_XS: some value of every state, for estimators with a value head; what it holds
    changes the variance and never the bias.
    """

    name: str
    listed: Completions
    logits_XSV: Tensor
    old_logits_XSV: Tensor
    ref_logits_XSV: Tensor
    rewards_XM: Tensor
    values_XS: Tensor


def list_completions(vocabulary: int, length: int, *, ends: bool = True) -> Completions:
    """Return every completion of at most `length` tokens. With `ends`, the last token of the vocabulary ends one early.

    Raises BadInput for a world too large to list (vocabulary over 8, length over 4).
    """
    if not (2 <= vocabulary <= LARGEST_VOCABULARY and 1 <= length <= LONGEST):
        raise BadInput(
            f"a world of vocabulary {vocabulary}, length {length}: at least 2 tokens and 1 position, at most "
            f"{LARGEST_VOCABULARY} and {LONGEST}"
        )
    writing = vocabulary - 1 if ends else vocabulary
    prefixes = [p for size in range(length) for p in itertools.product(range(writing), repeat=size)]
    state_of = {prefix: number for number, prefix in enumerate(prefixes)}
    full = [(*prefix, token) for prefix in prefixes if len(prefix) == length - 1 for token in range(writing)]
    listed = [(*prefix, vocabulary - 1) for prefix in prefixes] + full if ends else full
    tokens_MT = torch.zeros(len(listed), length, dtype=torch.long)
    states_MT, mask_MT = torch.zeros_like(tokens_MT), torch.zeros_like(tokens_MT, dtype=torch.bool)
    for row, completion in enumerate(listed):
        for position, token in enumerate(completion):
            tokens_MT[row, position] = token
            states_MT[row, position] = state_of[completion[:position]]
            mask_MT[row, position] = True
    return Completions(tokens_MT, states_MT, mask_MT, len(prefixes), vocabulary)


def token_logprobs(listed: Completions, logits_XSV: Tensor) -> Tensor:
    """Return logprobs_XMT of every token of every completion; 0 outside the mask."""
    table_XSV = logits_XSV.log_softmax(-1)
    return table_XSV[:, listed.states_MT, listed.tokens_MT].where(listed.mask_MT, 0.0)


def logprobs(listed: Completions, logits_XSV: Tensor) -> Tensor:
    """Return log π(y|x) of every completion, shape XM; its exponential sums to one."""
    return token_logprobs(listed, logits_XSV).sum(-1)


def reverse_kl(logprobs_XM: Tensor, ref_logprobs_XM: Tensor) -> Tensor:
    """Return KL(π ‖ π_ref) per prompt, shape X, in nats a completion. KL(π_ref ‖ π) is the same with the two exchanged."""
    return (logprobs_XM.exp() * (logprobs_XM - ref_logprobs_XM)).sum(-1)


def entropy(logprobs_XM: Tensor) -> Tensor:
    """Return the entropy of the completions per prompt, shape X, in nats."""
    return -(logprobs_XM.exp() * logprobs_XM).sum(-1)


def objective(world: MicroWorld, logits_XSV: Tensor, beta: float = 0.0) -> Tensor:
    """Return J = mean over prompts of E[R] − β·KL(π ‖ π_ref), differentiable in the logits."""
    logprobs_XM = logprobs(world.listed, logits_XSV)
    reward_X = (logprobs_XM.exp() * world.rewards_XM).sum(-1)
    return (reward_X - beta * reverse_kl(logprobs_XM, logprobs(world.listed, world.ref_logits_XSV))).mean()


def exact_gradient(world: MicroWorld, beta: float = 0.0) -> Tensor:
    """Return ∇J at the world's policy, shape XSV."""
    logits_XSV = world.logits_XSV.clone().requires_grad_()
    (gradient_XSV,) = torch.autograd.grad(objective(world, logits_XSV, beta), logits_XSV)
    return gradient_XSV


def scores(listed: Completions, logits_XSV: Tensor) -> Tensor:
    """Return ∇log π of every token, shape XMTSV, with respect to its own prompt's table; 0 outside the mask.

    ∂ log softmax(z)_v / ∂z = e_v − π.
    """
    probabilities_XSV = logits_XSV.softmax(-1)
    tokens_MTV = torch.nn.functional.one_hot(listed.tokens_MT, listed.vocabulary).double()
    states_MTS = torch.nn.functional.one_hot(listed.states_MT, listed.states).double() * listed.mask_MT.unsqueeze(-1)
    difference_XMTV = tokens_MTV - probabilities_XSV[:, listed.states_MT]
    return torch.einsum("mts,xmtv->xmtsv", states_MTS, difference_XMTV)


def optimum(ref_logprobs_XM: Tensor, rewards_XM: Tensor, beta: float) -> Tensor:
    """Return log π* of the policy that maximises J: π* ∝ π_ref·exp(R/β). Raises BadInput unless β > 0."""
    if not beta > 0:
        raise BadInput(f"beta = {beta}: the optimum has a closed form only for beta above 0")
    return (ref_logprobs_XM + rewards_XM / beta).log_softmax(-1)


def pass_at_k(logprobs_XM: Tensor, passed_XM: Tensor, k: int) -> Tensor:
    """Return the mean over prompts of 1 − (1 − p)^k, p the probability of a completion that passes."""
    passing_X = (logprobs_XM.exp() * passed_XM).sum(-1)
    return (1 - (1 - passing_X).pow(k)).mean()


def best_of_n(logprobs_XM: Tensor, rewards_XM: Tensor, n: int) -> Tensor:
    """Return the log-probability with which each completion is chosen as the best of n draws, shape XM.

    Ties go to the first drawn: with F the distribution function of the reward r of y,
    π_n(y) = π(y) / P(R = r) · (F(r)^n − F(r−)^n). −inf where that is 0.
    """
    if n < 1:
        raise BadInput(f"best of {n}: expected 1 or more")
    probabilities_XM = logprobs_XM.exp()
    below_XMM = rewards_XM.unsqueeze(-2) < rewards_XM.unsqueeze(-1)
    equal_XMM = rewards_XM.unsqueeze(-2) == rewards_XM.unsqueeze(-1)
    below_XM = (below_XMM * probabilities_XM.unsqueeze(-2)).sum(-1)
    equal_XM = (equal_XMM * probabilities_XM.unsqueeze(-2)).sum(-1)
    return logprobs_XM - equal_XM.log() + ((below_XM + equal_XM).pow(n) - below_XM.pow(n)).log()


class BaselineFacts(msgspec.Struct, frozen=True):
    """What constant baseline suits one prompt. `second_…`: E[(R − b)²·‖∇log π‖²] with b = 0, the mean reward, and b*.

    b* = E[R·‖∇log π‖²] / E[‖∇log π‖²] (Greensmith et al. 2004). The mean reward is far from it where completions of one
    verdict have much larger gradients than those of the other.
    """

    mean_reward: float
    best_baseline: float
    second_none: float
    second_mean: float
    second_best: float


def baseline_facts(world: MicroWorld) -> tuple[BaselineFacts, ...]:
    """Return, for each prompt, the variance-optimal constant baseline and the second moments around it."""
    facts = []
    probabilities_XM = logprobs(world.listed, world.logits_XSV).exp()
    square_XM = scores(world.listed, world.logits_XSV).sum(2).square().sum((-2, -1))
    for p_M, square_M, reward_M in zip(probabilities_XM, square_XM, world.rewards_XM, strict=True):
        mean = float((p_M * reward_M).sum())
        best = float((p_M * reward_M * square_M).sum() / (p_M * square_M).sum())
        moments = (float((p_M * (reward_M - b).square() * square_M).sum()) for b in (0.0, mean, best))
        facts.append(BaselineFacts(mean, best, *moments))
    return tuple(facts)
