"""Reading prompts: what stands at the start of all of them once, and many others in one pass.

Short prompts are packed behind one another, PACK tokens a pass, each with attention to itself alone (see `attending`). A
longer one is read in a pass of its own, padded. Models whose attention cannot be taken apart read prompts of nearly
the same length together, padded. Shape letters: R rows, K slots, V vocabulary.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache

from lockedroom.policy.huggingface.attending import Packed, Run, attending
from lockedroom.policy.huggingface.forward import (
    CONTINUED_STEP,
    Filling,
    Prefixes,
    given,
    pad_left,
    positions,
    reading_mask,
    slots_of,
    takes_masks,
)

PACK = 192  # tokens in one pass: more are read no faster, and fewer leave less of a pass empty
LONGEST_PACKED = PACK // 2
PACKED_PROMPTS = 16  # in one pass, at most; so many rows of logits are made
PADDED = 80  # tokens in one pass that reads padded prompts
_PACKS: weakref.WeakKeyDictionary[nn.Module, bool] = weakref.WeakKeyDictionary()


def read_slots(length: int, spare: int) -> int:
    """Return the slots in which a prompt of this many tokens is read: besides `spare`, an eighth are empty at most.

    An even number, as of rows: of an odd number the last is multiplied by another kernel.
    """
    step = min(CONTINUED_STEP, 1 << max(1, length.bit_length() - 4))  # so not more slots than it is continued in
    return -(-(length + spare) // step) * step


def read_rows(slots: int) -> int:
    """Return how many padded prompts are read in one pass: one, or an even number."""
    return max(1, min(8, PADDED // slots) & ~1)


def continued_slots(length: int) -> int:
    """Return the slots before a completion, where its prompt has this many tokens."""
    return slots_of(length, CONTINUED_STEP // 2 if length < CONTINUED_STEP // 2 else CONTINUED_STEP)


class Start:
    """The first tokens of every prompt (none where there are none in common), as the network remembers them.

    `packed`: whether the model reads and continues sequences of different slots in one pass.
    """

    def __init__(self, packed: bool, ids: tuple[int, ...] = (), pairs: Sequence[tuple[Tensor, Tensor]] = ()) -> None:
        self.packed, self.ids, self.pairs = packed, ids, pairs

    def rest_of(self, prompt: Sequence[int]) -> Sequence[int]:
        """Return what of a prompt is still to be read: all of it, where it does not begin with these tokens."""
        beyond = len(prompt) > len(self.ids) and tuple(prompt[: len(self.ids)]) == self.ids
        return prompt[len(self.ids) :] if beyond else prompt

    def slots(self, prompt: Sequence[int]) -> int:
        """Return the slots that a prompt is padded to."""
        rest = self.rest_of(prompt)
        return len(prompt) - len(rest) + continued_slots(len(rest))

    def cache(self, rows: int) -> DynamicCache:
        """Return what is remembered, once for each row."""
        pairs = [tuple(states.expand(rows, -1, -1, -1) for states in pair) for pair in self.pairs]
        return DynamicCache(pairs) if pairs else DynamicCache()


@torch.inference_mode()
def read_start(model: Any, ids: tuple[int, ...]) -> Start:
    """Read the start of all prompts; not for windows and distances that would count the padding behind it."""
    packed = packs(model)
    if not ids or not takes_masks(model):
        return Start(packed)
    cache = DynamicCache()
    tokens_1K = torch.tensor([ids], device=model.device)
    model(input_ids=tokens_1K, **given(model, cache), logits_to_keep=1)
    return Start(packed, ids, _pairs(cache))


def packs(model: Any) -> bool:
    """Say whether a model can read packed sequences: found out once, by reading two in one pass and each by itself."""
    if model.config.get_text_config()._attn_implementation != "sdpa" or not takes_masks(model):
        return False
    if model not in _PACKS:
        _PACKS[model] = _reads_packed(model)
    return _PACKS[model]


def _reads_packed(model: Any) -> bool:
    sequences = [[1, 2, 3, 4, 5], [2, 4, 1]]
    plan = Packed([Run(len(ids), 1) for ids in sequences])
    cache, packed_RV = _read_pack(model, Start(packed=True), sequences, plan, tokens=12)
    plain = [model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits for ids in sequences]
    plain_RV = torch.cat([logits_1SV[:, -1] for logits_1SV in plain])
    apart = (torch.log_softmax(packed_RV[:2].double(), -1) - torch.log_softmax(plain_RV.double(), -1)).abs()
    return plan.calls == len(cache.layers) and bool(apart.mean(-1).max() < 0.05)


def _pairs(cache: Any) -> list[tuple[Tensor, Tensor]]:
    """Return keys_RHKD and values_RHKD of each layer."""
    return [(layer.keys, layer.values) for layer in cache.layers]


@torch.inference_mode()
def prefill(model: Any, start: Start, prompts: Sequence[Sequence[int]], batch: int) -> tuple[Prefixes, Tensor]:
    """Return the prompts as prefixes and logits_RV for their next token.

    Unless `start.packed`, all prompts have one `Start.slots`; those that have the same should be neighbours.
    """
    filling = Filling(model, [start.slots(prompt) for prompt in prompts], batch)
    for started in (True, False):
        of_these = [i for i, prompt in enumerate(prompts) if (start.rest_of(prompt) is not prompt) is started]
        past = start if started else Start(start.packed)
        rests = {i: start.rest_of(prompts[i]) for i in of_these}
        short = [i for i in of_these if start.packed and len(rests[i]) <= LONGEST_PACKED]
        for pack in _packs_of({i: len(rests[i]) for i in short}):
            _fill_packed(model, past, filling, {i: rests[i] for i in pack})
        _fill_padded(model, past, filling, {i: rest for i, rest in rests.items() if i not in set(short)})
    return filling.prefixes(), filling.logits()


def _packs_of(lengths: dict[int, int]) -> Iterator[list[int]]:
    """Yield which prompts share a pass, those of one length beside one another: the longest first, each where it fits."""
    packs: list[tuple[int, list[int]]] = []
    for i in sorted(lengths, key=lambda i: -lengths[i]):
        fits = (n for n, (used, pack) in enumerate(packs) if used + lengths[i] <= PACK and len(pack) < PACKED_PROMPTS)
        n = next(fits, None)
        if n is None:
            packs.append((lengths[i], [i]))
        else:
            packs[n] = packs[n][0] + lengths[i], [*packs[n][1], i]
    return (pack for _, pack in packs)


def _fill_packed(model: Any, past: Start, filling: Filling, rests: dict[int, Sequence[int]]) -> None:
    """Read prompts in one pass; their order is that of their lengths."""
    lengths = [len(rest) for rest in rests.values()]
    runs = [Run(length, lengths.count(length)) for length in dict.fromkeys(lengths)]
    cache, logits_RV = _read_pack(model, past, list(rests.values()), Packed(runs), tokens=PACK)
    rows, behind, at = list(rests), len(past.ids), 0
    for length, count in runs:
        rows_R = torch.tensor(rows[:count], device=model.device)
        rows = rows[count:]
        for layer, pair in enumerate(_pairs(cache)):
            own = [states[0, :, behind + at : behind + at + length * count] for states in pair]
            apart = [states.reshape(len(states), count, length, -1).transpose(0, 1) for states in own]
            if behind:
                begun = [states[:, :, :behind].expand(count, -1, -1, -1) for states in pair]
                apart = [torch.cat(both, 2) for both in zip(begun, apart, strict=True)]
            filling.write(layer, rows_R, *apart)
        filling.mark(rows_R, torch.ones(count, behind + length, dtype=torch.long, device=model.device))
        at += length * count
    filling.keep(list(rests), logits_RV[: len(rests)])


def _read_pack(
    model: Any, past: Start, rests: Sequence[Sequence[int]], plan: Packed, *, tokens: int
) -> tuple[DynamicCache, Tensor]:
    """Read the rests behind one another, in a pass of so many tokens; return its cache and logits_RV behind each."""
    ids = [i for rest in rests for i in rest]
    places = [len(past.ids) + place for rest in rests for place in range(len(rest))]
    ends, end = [], -1
    for rest in rests:
        end += len(rest)
        ends.append(end)
    empty = tokens - len(ids)
    cache = past.cache(1)
    with attending(model, plan):
        out = model(
            input_ids=torch.tensor([ids + [0] * empty], device=model.device),
            attention_mask=torch.zeros(1, 1, tokens, len(past.ids) + tokens, dtype=model.dtype, device=model.device),
            position_ids=torch.tensor([places + [0] * empty], device=model.device),
            **given(model, cache),
            logits_to_keep=torch.tensor(ends + ends[-1:] * (PACKED_PROMPTS - len(ends)), device=model.device),
        )
    return cache, out.logits[0]


def _fill_padded(model: Any, past: Start, filling: Filling, rests: dict[int, Sequence[int]]) -> None:
    """Read prompts beside others of nearly the same length."""
    spare = 0 if takes_masks(model) else 1
    groups: dict[int, list[int]] = {}
    for i, rest in rests.items():
        groups.setdefault(read_slots(len(rest), spare), []).append(i)
    for slots, members in groups.items():
        together = read_rows(slots)
        for first in range(0, len(members), together):
            block = members[first : first + together]
            cache, whole_RK, logits_RV = _read_padded(model, past, [rests[i] for i in block], slots, together)
            rows_R = torch.tensor(block, device=model.device)
            for layer, (keys, values) in enumerate(_pairs(cache)):
                filling.write(layer, rows_R, keys[: len(block)], values[: len(block)])
            filling.mark(rows_R, whole_RK[: len(block)])
            filling.keep(block, logits_RV[: len(block)])


def _read_padded(
    model: Any, past: Start, rests: Sequence[Sequence[int]], slots: int, rows: int
) -> tuple[DynamicCache, Tensor, Tensor]:
    padded = [*rests, *[rests[0]] * (rows - len(rests))]
    tokens_RK, mask_RK = pad_left(padded, slots, model.device)
    whole_RK = functional.pad(mask_RK, (len(past.ids), 0), value=1)
    cache = past.cache(rows)
    out = model(
        input_ids=tokens_RK,
        attention_mask=reading_mask(model, whole_RK, slots),
        position_ids=positions(whole_RK)[:, len(past.ids) :],
        **given(model, cache),
        logits_to_keep=1,
    )
    return cache, whole_RK, out.logits[:, -1]
