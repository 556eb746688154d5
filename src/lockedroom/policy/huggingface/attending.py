"""Attention sequence by sequence, in passes that hold sequences of many lengths.

What attention gives a token depends, in its last bit, on how many slots its sequence has. So where a pass holds sequences
of different lengths, those of each length are attended to by themselves, in the slots that each would have alone: all
other layers see passes of one shape, and attention sees one shape for each length. PyTorch's attention treats the
sequences of a batch one by one, so how many share a length changes nothing (tested, to the last bit).
This takes the place of the model's own SDPA attention while a pass is made, through the interface that `transformers`
has for it. Shape letters: R rows, S queries, K slots, H heads, D width of a head.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "lockedroom"
Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


class Run(NamedTuple):
    """Neighbours of one size: so many tokens of a sequence, or slots of a row."""

    size: int
    number: int


class Packed:
    """One row that holds whole sequences behind one another; each sees itself and what the cache held before."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs
        self.calls = 0

    def attend(self, attend: Attend, query: Tensor, key: Tensor, value: Tensor, _mask: Tensor | None) -> Tensor:
        past, at = key.shape[2] - query.shape[2], 0
        found = []
        for length, count in self.runs:
            ours, begin = slice(at, at + length * count), slice(0, past)
            parts = [_apart(query[:, :, ours], count)]
            for states in (key, value):
                own = _apart(states[:, :, past:][:, :, ours], count)
                parts.append(torch.cat([states[:, :, begin].expand(count, -1, -1, -1), own], 2) if past else own)
            mask = _causal_mask(length, past, query.dtype, query.device) if past else None
            found.append(attend(parts[0], parts[1], parts[2], mask).flatten(0, 1))
            at += length * count
        found.append(found[0].new_zeros(query.shape[2] - at, *found[0].shape[1:]))
        return torch.cat(found)[None]


class Beside:
    """Rows that are padded on the left to the slots of the longest: `runs` of rows that would have fewer alone."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs
        self.calls = 0

    def attend(self, attend: Attend, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        assert mask is not None
        at, found = 0, []
        for slots, count in self.runs:
            rows, last = slice(at, at + count), slice(-slots, None)
            found.append(attend(query[rows], key[rows, :, last], value[rows, :, last], mask[rows, ..., last]))
            at += count
        return torch.cat(found)


_PLAN: contextvars.ContextVar[Packed | Beside] = contextvars.ContextVar("plan")


def _apart(states_1HTD: Tensor, count: int) -> Tensor:
    """Return the states of `count` sequences of one length, which stand behind one another, as rows."""
    H, D = states_1HTD.shape[1], states_1HTD.shape[3]
    return states_1HTD[0].view(H, count, -1, D).transpose(0, 1)


@functools.lru_cache(maxsize=256)
def _causal_mask(length: int, past: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    added_SK = torch.full((length, past + length), torch.finfo(dtype).min, dtype=dtype, device=device)
    return added_SK.triu_(past + 1)[None, None]


def _forward(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    plan = _PLAN.get()
    plan.calls += 1

    def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        found: Tensor = sdpa_attention_forward(module, query, key, value, mask, **kwargs)[0]
        return found

    return plan.attend(attend, query, key, value, attention_mask), None


AttentionInterface.register(NAME, _forward)
AttentionMaskInterface.register(NAME, sdpa_mask)


@contextlib.contextmanager
def attending(model: Any, plan: Packed | Beside) -> Iterator[None]:
    """Make passes by this plan. The model's attention has to be SDPA."""
    config = model.config.get_text_config()
    token = _PLAN.set(plan)
    config._attn_implementation = NAME  # the one place where transformers looks it up
    try:
        yield
    finally:
        config._attn_implementation = "sdpa"
        _PLAN.reset(token)
