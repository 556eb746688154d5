"""Forward passes whose result for one sequence never depends on the sequences beside it.

Floating-point sums depend on the kernel, and kernels are chosen by shape. So only fixed shapes are ever run: prompts are
padded to a bucket length and prefilled `PREFILL_ROWS` at a time, single tokens are decoded `DECODE_ROWS` rows at a time
against a key length that follows from the row's own bucket and depth. A row is then a function of its own tokens alone,
bit for bit: in a batch of one, in a batch of thousands, at any place in it. Sampling and exact probabilities both use
these passes, so they see the same numbers.

Shape letters: L layers, P prompts, R rows (one row is one completion, or one node of a token tree), K key slots, H heads,
D width of a head, C width, V vocabulary. A row's slots are its prompt (padded to the bucket), then its completion.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec
import torch
from torch import Tensor
from torch.nn import functional

from lockedroom.policy.tiny.model import Block, TinyModel
from lockedroom.policy.tiny.tokenizer import END

PREFILL_ROWS = 16
DECODE_ROWS = 64
PROMPT_BUCKETS = (12, 16, 24, 32, 48, 64, 96)  # beyond the last: multiples of 64
SLOT_STEP = 8  # key slots are allocated this many at a time


class Cache(msgspec.Struct):
    """Keys [L, R, H, D, K] and values [L, R, H, K, D] of R rows at one depth.

    mask [R, K] is 0 where a slot may be read, else −∞. `lengths` [R] are true prompt lengths. The completion's slots begin
    at `bucket`, and `depth` tokens of it are held.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor
    lengths: Tensor
    bucket: int
    depth: int

    def select(self, rows_R: Tensor) -> Cache:
        """Return the cache of the given rows, in that order; a row may appear many times (a prompt's draws)."""
        return Cache(
            self.keys.index_select(1, rows_R),
            self.values.index_select(1, rows_R),
            self.mask.index_select(0, rows_R),
            self.lengths.index_select(0, rows_R),
            self.bucket,
            self.depth,
        )

    def shrink(self, live_N: Tensor, rows: int) -> Tensor:
        """Keep `rows` rows, moving those of `live_N` that stand beyond into dead places; return where each one is now."""
        free_R = torch.ones(len(self.lengths), dtype=torch.bool)
        free_R[live_N] = False
        beyond_N = live_N >= rows
        moved = live_N[beyond_N]
        free = free_R[:rows].nonzero()[: len(moved), 0]
        self.keys[:, free] = self.keys[:, moved]
        self.values[:, free] = self.values[:, moved]
        self.mask[free] = self.mask[moved]
        self.lengths[free] = self.lengths[moved]
        self.keys, self.values = self.keys[:, :rows], self.values[:, :rows]
        self.mask, self.lengths = self.mask[:rows], self.lengths[:rows]
        return live_N.masked_scatter(beyond_N, free)

    def reserve(self, slots: int) -> None:
        """Make room for at least `slots` key slots, in whole steps of SLOT_STEP."""
        missing = _ceil(slots, SLOT_STEP) - self.mask.shape[1]
        if missing > 0:
            self.keys = functional.pad(self.keys, (0, missing))
            self.values = functional.pad(self.values, (0, 0, 0, missing))
            self.mask = functional.pad(self.mask, (0, missing), value=-math.inf)


def bucket_of(length: int) -> int:
    """Return the padded length of a prompt: a function of its own length only."""
    return next((b for b in PROMPT_BUCKETS if length <= b), _ceil(length, 64))


@torch.inference_mode()
def prefill(model: TinyModel, prompts: Sequence[tuple[int, ...]], bucket: int) -> tuple[Cache, Tensor]:
    """Return the cache of prompts (all of one bucket) and logits_PV for each one's first completion token."""
    parts = [_prefill_block(model, prompts[i : i + PREFILL_ROWS], bucket) for i in range(0, len(prompts), PREFILL_ROWS)]
    caches = [cache for cache, _ in parts]
    joined = Cache(
        torch.cat([c.keys for c in caches], 1),
        torch.cat([c.values for c in caches], 1),
        torch.cat([c.mask for c in caches]),
        torch.cat([c.lengths for c in caches]),
        bucket,
        0,
    )
    joined.reserve(bucket + 1)  # before the rows are multiplied
    return joined.select(torch.arange(len(prompts), device=joined.lengths.device)), torch.cat(
        [logits for _, logits in parts]
    )[: len(prompts)]


def _prefill_block(model: TinyModel, prompts: Sequence[tuple[int, ...]], bucket: int) -> tuple[Cache, Tensor]:
    device, dtype = model.wte.device, model.wte.dtype
    padded = [*prompts, *[(END,)] * (PREFILL_ROWS - len(prompts))]
    tokens_PK = torch.tensor([(*ids, *[END] * (bucket - len(ids))) for ids in padded], device=device)
    lengths_P = torch.tensor([len(ids) for ids in padded], device=device)
    slots_K = torch.arange(bucket, device=device)
    future_KK = torch.full((bucket, bucket), -math.inf, dtype=dtype, device=device).triu(1)
    x_PKC = model.embed(tokens_PK, slots_K.clamp(max=model.config.context - 1)[None].expand_as(tokens_PK))
    keys: list[Tensor] = []
    values: list[Tensor] = []
    for block in model.blocks():
        x_PKC, k_PHKD, v_PHKD = block(x_PKC, future_KK)
        keys.append(k_PHKD.transpose(2, 3))
        values.append(v_PHKD)
    last_PC = x_PKC[torch.arange(PREFILL_ROWS, device=device), lengths_P - 1]
    mask_PK = torch.zeros(PREFILL_ROWS, bucket, dtype=dtype, device=device)
    mask_PK.masked_fill_(slots_K[None] >= lengths_P[:, None], -math.inf)
    return Cache(torch.stack(keys), torch.stack(values), mask_PK, lengths_P, bucket, 0), model.unembed(last_PC)


@torch.inference_mode()
def decode(model: TinyModel, cache: Cache, tokens_R: Tensor) -> Tensor:
    """Append one token to every row of the cache and return logits_RV for the next; R is a multiple of DECODE_ROWS."""
    slot = cache.bucket + cache.depth
    cache.reserve(slot + 1)
    cache.mask[:, slot] = 0
    # A row that has finished is still computed until the batch shrinks; its positions must not run off the table.
    positions_R = (cache.lengths + cache.depth).clamp(max=model.config.context - 1)
    x_RC = model.embed(tokens_R, positions_R)
    blocks = [slice(i, i + DECODE_ROWS) for i in range(0, len(tokens_R), DECODE_ROWS)]
    logits_RV = torch.cat([_decode_block(model, cache, rows, x_RC[rows]) for rows in blocks])
    cache.depth += 1
    return logits_RV


def _decode_block(model: TinyModel, cache: Cache, rows: slice, x_RC: Tensor) -> Tensor:
    for layer, block in enumerate(model.blocks()):
        x_RC = x_RC + _attend(block, cache, layer, rows, x_RC)
        x_RC = x_RC + block.feed_forward(x_RC)
    return model.unembed(x_RC)


def _attend(block: Block, cache: Cache, layer: int, rows: slice, x_RC: Tensor) -> Tensor:
    """Attend from one new token a row. Sums of products: a batched matrix product of such thin matrices is slower."""
    keys_RHDK, values_RHKD = cache.keys[layer, rows], cache.values[layer, rows]
    q_RHD, k_RHD, v_RHD = block.attn_in(block.ln_1(x_RC)).view(len(x_RC), 3, block.heads, -1).unbind(1)
    slot = cache.bucket + cache.depth
    keys_RHDK[..., slot] = k_RHD
    values_RHKD[:, :, slot] = v_RHD
    scale = q_RHD.shape[-1] ** -0.5
    scores_RHK = ((q_RHD * scale)[..., None] * keys_RHDK).sum(2) + cache.mask[rows, None]
    mixed_RHD = (torch.softmax(scores_RHK, -1)[..., None] * values_RHKD).sum(2)
    out_RC: Tensor = block.attn_out(mixed_RHD.reshape(x_RC.shape))
    return out_RC


def padded_rows(rows: Sequence[int]) -> Iterator[int]:
    """Yield row numbers followed by repeats of the first, up to a multiple of DECODE_ROWS."""
    yield from rows
    for _ in range(-len(rows) % DECODE_ROWS):
        yield rows[0]


def _ceil(value: int, step: int) -> int:
    return -(-value // step) * step
