"""The network: GPT-2's shape (Radford et al. 2019), with ReLU, small enough to learn on one core.

Tensors keep GPT-2's names and orientation (matrices are [in, out]), so the weights can be copied into
`transformers.GPT2LMHeadModel`. Shape letters: B sequences, T positions, C width, V vocabulary, H heads, D width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

LAYER_NORM_EPSILON = 1e-5


class TinyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shape of the network; the defaults are those of the shipped models."""

    vocabulary: int
    context: int = 128
    width: int = 64
    layers: int = 3
    heads: int = 4
    feed_forward: int = 256


class Block(nn.Module):
    """One layer: attention and a feed-forward network, each behind a LayerNorm and added to the residual stream."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        width, inner = config.width, config.feed_forward
        self.heads = config.heads
        self.ln_1 = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.ln_2 = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.attn_in = _Affine(width, 3 * width)
        self.attn_out = _Affine(width, width)
        self.mlp_in = _Affine(width, inner)
        self.mlp_out = _Affine(inner, width)

    def forward(self, x_BTC: Tensor, mask_TT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the block's output x_BTC, and the keys and values [B, H, T, D] that it attended to."""
        B, T, C = x_BTC.shape
        q_BTC, k_BTC, v_BTC = self.attn_in(self.ln_1(x_BTC)).split(C, dim=-1)
        q_BHTD, k_BHTD, v_BHTD = (y.view(B, T, self.heads, -1).transpose(1, 2) for y in (q_BTC, k_BTC, v_BTC))
        scores_BHTT = q_BHTD @ k_BHTD.transpose(2, 3) * q_BHTD.shape[-1] ** -0.5 + mask_TT
        mixed_BTC = (torch.softmax(scores_BHTT, -1) @ v_BHTD).transpose(1, 2).reshape(B, T, C)
        x_BTC = x_BTC + self.attn_out(mixed_BTC)
        return x_BTC + self.feed_forward(x_BTC), k_BHTD, v_BHTD

    def feed_forward(self, x_C: Tensor) -> Tensor:
        out: Tensor = self.mlp_out(self.mlp_in(self.ln_2(x_C)).relu_())
        return out


class _Affine(nn.Module):
    """x @ weight + bias with weight [in, out], as GPT-2 stores it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        flat = torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight)
        return flat.view(*x.shape[:-1], flat.shape[-1])


class TinyModel(nn.Module):
    """Token and position embeddings, layers, a last LayerNorm; the output matrix is the token embedding."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Parameter(torch.empty(config.vocabulary, config.width))
        self.wpe = nn.Parameter(torch.empty(config.context, config.width))
        self.h = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.ln_f = nn.LayerNorm(config.width, eps=LAYER_NORM_EPSILON)

    def blocks(self) -> Iterator[Block]:
        for block in self.h:
            assert isinstance(block, Block)
            yield block

    def initialise(self, generator: torch.Generator, scale: float = 0.02) -> None:
        """Draw weights as GPT-2 does: normal(0, scale), residual projections divided by sqrt(2 * layers)."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.ndim == 2:
                    residual = name.endswith(("attn_out.weight", "mlp_out.weight"))
                    parameter.normal_(
                        0, scale / math.sqrt(2 * self.config.layers) if residual else scale, generator=generator
                    )

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Return logits_BTV for sequences that start at position 0; padding on the right changes nothing before it."""
        T = tokens_BT.shape[1]
        positions_BT = torch.arange(T, device=tokens_BT.device)[None].expand_as(tokens_BT)
        future_TT = torch.full((T, T), -math.inf, dtype=self.wte.dtype, device=self.wte.device).triu(1)
        x_BTC = self.embed(tokens_BT, positions_BT)
        for block in self.blocks():
            x_BTC, _, _ = block(x_BTC, future_TT)
        return self.unembed(x_BTC)

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        return functional.embedding(tokens, self.wte) + functional.embedding(positions, self.wpe)

    def unembed(self, x_C: Tensor) -> Tensor:
        return functional.linear(self.ln_f(x_C), self.wte)


def next_token_logprobs(model: TinyModel, tokens_BT: Tensor) -> Tensor:
    """Return log π(tokens[t+1] | tokens[..t]) in nats as logprobs_BS, S = T − 1, differentiable."""
    logprobs_BTV = torch.log_softmax(model(tokens_BT)[:, :-1], -1)
    return logprobs_BTV.gather(-1, tokens_BT[:, 1:, None])[..., 0]
