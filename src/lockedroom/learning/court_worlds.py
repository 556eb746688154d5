"""The court's own worlds: a bandit, a text world whose batches can all be listed, and a larger one to draw from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import torch

from lockedroom.learning.enumeration import Completions, MicroWorld, list_completions

if TYPE_CHECKING:
    from torch import Tensor


def bandit_world() -> MicroWorld:
    """Two contexts, three arms, J = .6. In the first the right arm is nearly certain: there the mean reward, .9, is far from
    the best baseline, .07, and subtracting it makes the gradient noisier than subtracting nothing."""
    logits_XSV = torch.tensor([[[0.9, 0.05, 0.05]], [[0.3, 0.5, 0.2]]], dtype=torch.float64).log()
    rewards_XM = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    return _world("bandit", list_completions(3, 1, ends=False), logits_XSV, rewards_XM)


def text_world() -> MicroWorld:
    """Two prompts, two letters and the end token, at most two tokens: 7 completions. One reward is partial."""
    listed = list_completions(3, 2)
    # Completions: END, a·END, b·END, aa, ab, ba, bb.
    rewards_XM = torch.tensor([[0, 1, 0, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0.5, 0]], dtype=torch.float64)
    return _world("text", listed, _normal((2, listed.states, 3), seed=3), rewards_XM)


def large_world() -> MicroWorld:
    """Three prompts, five letters and the end token, at most three tokens: 156 completions, a third of which pass."""
    listed = list_completions(6, 3)
    shape = (3, len(listed.tokens_MT))
    rewards_XM = (torch.rand(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64) < 0.3).double()
    return _world("large", listed, _normal((3, listed.states, 6), seed=6), rewards_XM)


def second_update(world: MicroWorld) -> MicroWorld:
    """Return the world in which completions were sampled before the policy moved: what every update but the first sees."""
    moved_XSV = world.logits_XSV + 0.3 * _normal(tuple(world.logits_XSV.shape), seed=11)
    return msgspec.structs.replace(world, name=f"{world.name}, reused", old_logits_XSV=moved_XSV)


def _world(name: str, listed: Completions, logits_XSV: Tensor, rewards_XM: Tensor) -> MicroWorld:
    shape = tuple(logits_XSV.shape)
    ref_XSV = logits_XSV + 0.7 * _normal(shape, seed=9)
    return MicroWorld(name, listed, logits_XSV, logits_XSV, ref_XSV, rewards_XM, _normal(shape, seed=10).mean(-1))


def _normal(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
