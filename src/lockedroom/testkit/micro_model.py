"""A language model so small that all of its completions can be listed; random weights, float64."""

from __future__ import annotations

from lockedroom.policy.tiny.model import TinyConfig, TinyModel
from lockedroom.policy.tiny.policy import TinyPolicy
from lockedroom.policy.tiny.tokenizer import Tokenizer, TokenizerFile
from lockedroom.records import PolicySpec


def micro_policy(
    alphabet: str = "ab", merges: tuple[tuple[str, str], ...] = (("a", "b"),), *, seed: int = 0, context: int = 16
) -> TinyPolicy:
    """Return a policy over `alphabet`, its merges and the end token; the weights are large, so it is far from uniform."""
    import torch

    tokenizer = Tokenizer(TokenizerFile(alphabet, merges))
    config = TinyConfig(tokenizer.vocabulary, context, width=8, layers=2, heads=2, feed_forward=16)
    model = TinyModel(config).double()
    model.initialise(torch.Generator().manual_seed(seed), scale=0.7)
    return TinyPolicy(model, tokenizer, PolicySpec("micro", "tiny", {"seed": seed}))
