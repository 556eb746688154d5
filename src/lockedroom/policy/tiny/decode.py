"""Forward passes whose result for one sequence never depends on the sequences beside it.

Floating-point sums depend on the kernel, and kernels are chosen by shape. So only fixed shapes are ever run: prompts are
padded to a bucket length and prefilled `PREFILL_ROWS` at a time, single tokens are decoded `DECODE_ROWS` rows at a time
against a key length that follows from the row's own bucket and depth. A row is then a function of its own tokens alone,
bit for bit: in a batch of one, in a batch of thousands, at any place in it. Sampling and exact probabilities both use
these passes, so they see the same numbers.

Shape letters: L layers, P prompts, R rows (a row is a prompt and the beginning of a completion), K key slots, H heads,
D width of a head, C width, V vocabulary. A row's slots are its prompt (padded to the bucket), then its completion.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import torch
from torch import Tensor
from torch.nn import functional

from lockedroom.policy.tiny.model import TinyModel
from lockedroom.policy.tiny.tokenizer import END

PREFILL_ROWS = 32
DECODE_ROWS = 64
PROMPT_BUCKETS = (8, 16, 24, 32, 48, 64, 96)  # beyond the last: multiples of 64
SLOT_STEP = 8  # key slots are allocated this many at a time


class Cache(msgspec.Struct):
    """Keys and values of R rows at one depth, in one tensor `pairs` [L, R, 2, H * D * K].

    A row's keys are [H, D, K] and its values [H, K, D]. mask [R, K] is 0 where a slot may be read, else −∞. `lengths`
    [R] are true prompt lengths. The completion's slots begin at `bucket`, and `depth` tokens of it are held.
    """

    pairs: Tensor
    mask: Tensor
    lengths: Tensor
    bucket: int
    depth: int

    def keys_and_values(self, layer: int, rows: slice, heads: int) -> tuple[Tensor, Tensor]:
        """Return views keys_RHDK and values_RHKD of one layer; writing to them writes to the cache."""
        both_R2 = self.pairs[layer, rows]
        R, K = both_R2.shape[0], self.mask.shape[1]
        return both_R2[:, 0].view(R, heads, -1, K), both_R2[:, 1].view(R, heads, K, -1)

    def select(self, rows_R: Tensor) -> Cache:
        """Return the cache of the given rows, in that order; a row that branches appears several times."""
        return Cache(
            self.pairs.index_select(1, rows_R),
            self.mask.index_select(0, rows_R),
            self.lengths.index_select(0, rows_R),
            self.bucket,
            self.depth,
        )

    def reserve(self, slots: int, heads: int) -> None:
        """Make room for at least `slots` key slots, in whole steps of SLOT_STEP."""
        missing = _ceil(slots, SLOT_STEP) - self.mask.shape[1]
        if missing <= 0:
            return
        layers = []
        for layer in range(len(self.pairs)):
            keys_RHDK, values_RHKD = self.keys_and_values(layer, slice(None), heads)
            wider = functional.pad(keys_RHDK, (0, missing)), functional.pad(values_RHKD, (0, 0, 0, missing))
            layers.append(torch.stack([pair.flatten(1) for pair in wider], 1))
        self.pairs = torch.stack(layers)
        self.mask = functional.pad(self.mask, (0, missing), value=-math.inf)


def bucket_of(length: int) -> int:
    """Return the padded length of a prompt: a function of its own length only."""
    return next((b for b in PROMPT_BUCKETS if length <= b), _ceil(length, 64))


@torch.inference_mode()
def prefill(model: TinyModel, prompts: Sequence[tuple[int, ...]], bucket: int) -> tuple[Cache, Tensor]:
    """Return the cache of prompts (all of one bucket) and logits_PV for each one's first completion token."""
    config, device, dtype = model.config, model.wte.device, model.wte.dtype
    padded = [*prompts, *[(END,)] * (-len(prompts) % PREFILL_ROWS)]
    tokens_PK = torch.tensor([(*ids, *[END] * (bucket - len(ids))) for ids in padded], device=device)
    lengths_P = torch.tensor([len(ids) for ids in padded], device=device)
    slots = _ceil(bucket + 1, SLOT_STEP)  # with room for the first token, before the rows are multiplied
    pairs = torch.zeros(config.layers, len(padded), 2, config.width * slots, dtype=dtype, device=device)
    mask_PK = torch.zeros(len(padded), slots, dtype=dtype, device=device)
    mask_PK.masked_fill_(torch.arange(slots, device=device) >= lengths_P[:, None], -math.inf)
    cache = Cache(pairs, mask_PK, lengths_P, bucket, 0)
    blocks = [slice(i, i + PREFILL_ROWS) for i in range(0, len(padded), PREFILL_ROWS)]
    logits_PV = torch.cat([_prefill_block(model, cache, rows, tokens_PK[rows]) for rows in blocks])
    return cache, logits_PV[: len(prompts)]


def _prefill_block(model: TinyModel, cache: Cache, rows: slice, tokens_PK: Tensor) -> Tensor:
    P, K = tokens_PK.shape
    slots_K = torch.arange(K, device=tokens_PK.device)
    future_KK = torch.full((K, K), -math.inf, dtype=model.wte.dtype, device=tokens_PK.device).triu(1)
    x_PKC = model.embed(tokens_PK, slots_K.clamp(max=model.config.context - 1)[None].expand_as(tokens_PK))
    for layer, block in enumerate(model.blocks()):
        x_PKC, k_PHKD, v_PHKD = block(x_PKC, future_KK)
        keys_PHDK, values_PHKD = cache.keys_and_values(layer, rows, block.heads)
        keys_PHDK[..., :K] = k_PHKD.transpose(2, 3)
        values_PHKD[:, :, :K] = v_PHKD
    return model.unembed(x_PKC[torch.arange(P, device=tokens_PK.device), cache.lengths[rows] - 1])


@torch.inference_mode()
def extend(model: TinyModel, cache: Cache, parents_R: Tensor, tokens_R: Tensor) -> tuple[Cache, Tensor]:
    """Return the cache of rows `parents_R`, each longer by one token of `tokens_R`, and logits_RV for the next one."""
    padding = (0, -len(parents_R) % DECODE_ROWS)
    device = cache.lengths.device
    longer = cache.select(functional.pad(parents_R, padding).to(device))
    slot = longer.bucket + longer.depth
    longer.reserve(slot + 1, model.config.heads)
    longer.mask[:, slot] = 0
    x_RC = model.embed(functional.pad(tokens_R, padding).to(device), longer.lengths + longer.depth)
    # The products of attention are by far the largest intermediate results; one buffer serves them all.
    products = x_RC.new_empty(DECODE_ROWS * x_RC.shape[1] * longer.mask.shape[1])
    blocks = [slice(i, i + DECODE_ROWS) for i in range(0, len(x_RC), DECODE_ROWS)]
    logits_RV = torch.cat([_decode_block(model, longer, rows, x_RC[rows], products) for rows in blocks])
    longer.depth += 1
    return longer, logits_RV[: len(parents_R)]


def _decode_block(model: TinyModel, cache: Cache, rows: slice, x_RC: Tensor, products: Tensor) -> Tensor:
    mask_R1K = cache.mask[rows, None]
    slot = cache.bucket + cache.depth
    for layer, block in enumerate(model.blocks()):
        q_RHD, k_RHD, v_RHD = block.attn_in(block.ln_1(x_RC)).view(len(x_RC), 3, block.heads, -1).unbind(1)
        keys_RHDK, values_RHKD = cache.keys_and_values(layer, rows, block.heads)
        keys_RHDK[..., slot] = k_RHD
        values_RHKD[:, :, slot] = v_RHD
        mixed_RHD = _attend(q_RHD, keys_RHDK, values_RHKD, mask_R1K, products)
        x_RC = x_RC + block.attn_out(mixed_RHD.reshape(x_RC.shape))
        x_RC = x_RC + block.feed_forward(x_RC)
    return model.unembed(x_RC)


def _attend(q_RHD: Tensor, keys_RHDK: Tensor, values_RHKD: Tensor, mask_R1K: Tensor, products: Tensor) -> Tensor:
    """Attend from one token a row, by sums of products: a batched matrix product of such thin matrices is slower."""
    scaled_RHD1 = (q_RHD * q_RHD.shape[-1] ** -0.5)[..., None]
    scores_RHK = torch.mul(scaled_RHD1, keys_RHDK, out=products.view(keys_RHDK.shape)).sum(2) + mask_R1K
    weights_RHK1 = torch.softmax(scores_RHK, -1)[..., None]
    return torch.mul(weights_RHK1, values_RHKD, out=products.view(values_RHKD.shape)).sum(2)


def _ceil(value: int, step: int) -> int:
    return -(-value // step) * step
