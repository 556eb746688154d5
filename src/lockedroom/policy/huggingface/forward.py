"""Forward passes of fixed shape, so that what a sequence gets does not depend on its neighbours.

The last bit of a matrix product depends on the shapes that are multiplied. So a prompt is padded on the left, by an
amount that depends on its own length alone: to a multiple of READ_STEP slots to be read, PREFILL_ROWS prompts at a time,
and to one of SLOT_STEP slots to be continued, `batch` rows at a time (at least one slot, so that there is always a mask,
which chooses the kernel). Missing rows are copies. A row's position counts its own tokens only. What a chat template puts
before every prompt is read once (`Start`).
Shape letters: R rows, K slots (padding, prompt and completion), V vocabulary, H heads, D width of a head.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

READ_STEP = 8
SLOT_STEP = 64  # coarse: prompts of other slots cannot share a pass, and attention to padding is cheap
WHOLE_STEP = 16  # of sequences that are read whole
PREFILL_ROWS = 8
ROOM = 16  # slots that a growing cache is enlarged by
READ_ROWS = 8  # sequences in one pass that reads whole sequences
READ_LOGITS = 512  # and at most this many rows of logits, where completions are long


def slots_of(length: int, step: int = SLOT_STEP) -> int:
    """Return the slots that a sequence of this many tokens is padded to: a multiple of `step`, at least one spare."""
    return (length // step + 1) * step


class Prefixes:
    """Beginnings of completions as the network remembers them: `rows` of them, then copies up to whole blocks."""

    def __init__(self, caches: list[Cache], mask_RK: Tensor, positions_R: Tensor, rows: int) -> None:
        self.caches, self.mask_RK, self.positions_R, self.rows = caches, mask_RK, positions_R, rows


class _GrowingLayer(DynamicLayer):
    """One layer's keys_RHKD and values_RHKD with room behind them: a token is written in its place, and nothing is copied."""

    def __init__(self, keys_RHKD: Tensor, values_RHKD: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers does not annotate it
        self.lazy_initialization(keys_RHKD, values_RHKD)
        self._roomy_keys, self._roomy_values = _with_room(keys_RHKD), _with_room(values_RHKD)
        self._show(keys_RHKD.shape[2])

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        *_args: Any,
        **_kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        before = self._slots
        after = before + key_states.shape[2]
        if after > self._roomy_keys.shape[2]:
            self._roomy_keys, self._roomy_values = _with_room(self._roomy_keys), _with_room(self._roomy_values)
        self._roomy_keys[:, :, before:after] = key_states
        self._roomy_values[:, :, before:after] = value_states
        return self._show(after)

    def _show(self, slots: int) -> tuple[Tensor, Tensor]:
        self._slots = slots
        self.keys, self.values = self._roomy_keys[:, :, :slots], self._roomy_values[:, :, :slots]
        return self.keys, self.values


def _with_room(states_RHKD: Tensor) -> Tensor:
    return functional.pad(states_RHKD, (0, 0, 0, ROOM))


def _growing(pairs: Sequence[tuple[Tensor, Tensor]]) -> Cache:
    return Cache(layers=[_GrowingLayer(keys, values) for keys, values in pairs])


def pad_left(sequences: Sequence[Sequence[int]], slots: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return tokens_RK and mask_RK (1 for tokens, 0 for padding)."""
    tokens_RK = torch.zeros(len(sequences), slots, dtype=torch.long)
    mask_RK = torch.zeros(len(sequences), slots, dtype=torch.long)
    for row, ids in enumerate(sequences):
        tokens_RK[row, slots - len(ids) :] = torch.tensor(ids)
        mask_RK[row, slots - len(ids) :] = 1
    return tokens_RK.to(device), mask_RK.to(device)


def _positions(mask_RK: Tensor) -> Tensor:
    return (mask_RK.cumsum(-1) - 1).clamp(min=0)


class Start:
    """The first tokens of every prompt (none where there are none in common), as the network remembers them."""

    def __init__(self, ids: tuple[int, ...], pairs: list[tuple[Tensor, Tensor]]) -> None:
        self.ids, self.pairs = ids, pairs

    def rest_of(self, prompt: Sequence[int]) -> Sequence[int]:
        """Return what of a prompt is still to be read: all of it, where it does not begin with these tokens."""
        beyond = len(prompt) > len(self.ids) and tuple(prompt[: len(self.ids)]) == self.ids
        return prompt[len(self.ids) :] if beyond else prompt

    def slots(self, prompt: Sequence[int]) -> int:
        """Return the slots that a prompt is padded to."""
        rest = self.rest_of(prompt)
        return len(prompt) - len(rest) + slots_of(len(rest))


@torch.inference_mode()
def read_start(model: Any, ids: tuple[int, ...]) -> Start:
    """Read the start of all prompts; not for layers with a window, which would count the padding behind it."""
    if not ids or windowed(model):
        return Start((), [])
    cache = DynamicCache()
    tokens_1K = torch.tensor([ids], device=model.device)
    model(input_ids=tokens_1K, **_given(model, cache), logits_to_keep=1)
    return Start(ids, _pairs(cache))


def _given(model: Any, cache: Cache) -> dict[str, Any]:
    """Return the arguments that hand a model its cache, to be read and added to."""
    network: nn.Module = model.get_base_model() if hasattr(model, "peft_config") else model
    return {_cache_argument(type(network).forward): cache, "use_cache": True}


@functools.lru_cache
def _cache_argument(forward: Callable[..., Any]) -> str:
    """Return what a model's class calls its cache: `cache` since transformers 5.24, `past_key_values` before that."""
    return "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"


def _pairs(cache: Any) -> list[tuple[Tensor, Tensor]]:
    """Return keys_RHKD and values_RHKD of each layer."""
    return [(layer.keys, layer.values) for layer in cache.layers]


def windowed(model: Any) -> bool:
    """Say whether some layers see a window of the sequence only."""
    return any(kind != "full_attention" for kind in getattr(model.config.get_text_config(), "layer_types", None) or ())


@torch.inference_mode()
def prefill(model: Any, start: Start, prompts: Sequence[Sequence[int]]) -> tuple[Prefixes, Tensor]:
    """Return the prompts as prefixes and logits_RV for their next token; all prompts have one `Start.slots`."""
    slots = start.slots(prompts[0])
    rests = [start.rest_of(prompt) for prompt in prompts]
    groups: dict[tuple[bool, int], list[int]] = {}
    for i, (prompt, rest) in enumerate(zip(prompts, rests, strict=True)):
        groups.setdefault((len(rest) < len(prompt), slots_of(len(rest), READ_STEP)), []).append(i)
    found: dict[int, tuple[list[tuple[Tensor, Tensor]], Tensor, Tensor]] = {}
    for (started, length), members in groups.items():
        for first in range(0, len(members), PREFILL_ROWS):
            block = members[first : first + PREFILL_ROWS]
            past = start if started else Start((), [])
            cache, mask_RK, logits_RV = _read_rests(model, past, [rests[i] for i in block], length)
            wide_RK = functional.pad(mask_RK, (slots - mask_RK.shape[1], 0))
            pairs = [(_widen(keys, slots), _widen(values, slots)) for keys, values in _pairs(cache)]
            for row, i in enumerate(block):
                own = slice(row, row + 1)
                found[i] = ([(keys[own], values[own]) for keys, values in pairs], wide_RK[own], logits_RV[own])
    rows = [found[i] for i in range(len(prompts))]
    layers = zip(*(pairs for pairs, _, _ in rows), strict=True)
    joined = [(torch.cat([keys for keys, _ in layer]), torch.cat([values for _, values in layer])) for layer in layers]
    mask_RK = torch.cat([mask for _, mask, _ in rows])
    logits_RV = torch.cat([logits for _, _, logits in rows])
    return Prefixes([_growing(joined)], mask_RK, mask_RK.sum(-1), len(prompts)), logits_RV


def _read_rests(
    model: Any, start: Start, rests: Sequence[Sequence[int]], slots: int
) -> tuple[DynamicCache, Tensor, Tensor]:
    padded = [*rests, *[rests[0]] * (PREFILL_ROWS - len(rests))]
    tokens_RK, mask_RK = pad_left(padded, slots, model.device)
    whole_RK = functional.pad(mask_RK, (len(start.ids), 0), value=1)
    pairs = [
        (keys.expand(len(padded), -1, -1, -1), values.expand(len(padded), -1, -1, -1)) for keys, values in start.pairs
    ]
    cache = DynamicCache(pairs) if pairs else DynamicCache()
    out = model(
        input_ids=tokens_RK,
        attention_mask=whole_RK,
        position_ids=_positions(whole_RK)[:, len(start.ids) :],
        **_given(model, cache),
        logits_to_keep=1,
    )
    return cache, whole_RK, out.logits[:, -1]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Return the rows of all parts; one part is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _widen(states_RHKD: Tensor, slots: int) -> Tensor:
    """Return keys_RHKD or values_RHKD with empty slots in front, up to `slots` of them."""
    return functional.pad(states_RHKD, (0, 0, slots - states_RHKD.shape[2], 0))


@torch.inference_mode()
def extend(model: Any, prefixes: Prefixes, parents_R: Tensor, tokens_R: Tensor, batch: int) -> tuple[Prefixes, Tensor]:
    """Return the prefixes `parents_R`, each longer by one token of `tokens_R`, and logits_RV for the next token."""
    rows = len(parents_R)
    padding = -rows % batch
    parents_R = torch.cat([parents_R, parents_R[:1].expand(padding)]).to(model.device)
    tokens_R = torch.cat([tokens_R, tokens_R[:1].expand(padding)]).to(model.device)
    longer = _select(prefixes, parents_R, rows, batch)
    longer.mask_RK = functional.pad(longer.mask_RK, (0, 1), value=1)
    logits = []
    for number, cache in enumerate(longer.caches):
        block = slice(number * batch, (number + 1) * batch)
        out = model(
            input_ids=tokens_R[block, None],
            attention_mask=longer.mask_RK[block],
            position_ids=longer.positions_R[block, None],
            **_given(model, cache),
        )
        logits.append(out.logits[:, -1])
    longer.positions_R = longer.positions_R + 1
    return longer, _joined(logits)[:rows]


def _select(prefixes: Prefixes, parents_R: Tensor, rows: int, batch: int) -> Prefixes:
    """Return the chosen prefixes in blocks of `batch`; nothing is copied where they stand as they should."""
    same = torch.arange(len(parents_R), device=parents_R.device)
    whole = len(prefixes.mask_RK) == len(parents_R) == batch * len(prefixes.caches)
    if whole and torch.equal(parents_R[:rows], same[:rows]):
        return Prefixes(prefixes.caches, prefixes.mask_RK, prefixes.positions_R, rows)
    blocks = [parents_R[start : start + batch] for start in range(0, len(parents_R), batch)]
    pairs: list[list[tuple[Tensor, Tensor]]] = [[] for _ in blocks]
    for layer in zip(*(_pairs(cache) for cache in prefixes.caches), strict=True):
        keys_RHKD = _joined([keys for keys, _ in layer])
        values_RHKD = _joined([values for _, values in layer])
        for block, chosen in zip(pairs, blocks, strict=True):
            block.append((keys_RHKD[chosen], values_RHKD[chosen]))
    caches = [_growing(block) for block in pairs]
    return Prefixes(caches, prefixes.mask_RK[parents_R], prefixes.positions_R[parents_R], rows)


@torch.inference_mode()
def completion_logits(model: Any, sequences: Sequence[Sequence[int]], slots: int, keep: int) -> Tensor:
    """Return logits_RSV for the last `keep` tokens of up to READ_ROWS sequences, each read whole in one pass."""
    padded = [*sequences, *[sequences[0]] * (rows_read_at_once(keep) - len(sequences))]
    tokens_RK, mask_RK = pad_left(padded, slots, model.device)
    out = model(
        input_ids=tokens_RK,
        attention_mask=mask_RK,
        position_ids=_positions(mask_RK),
        use_cache=False,
        logits_to_keep=keep + 1,
    )
    logits: Tensor = out.logits[: len(sequences), -keep - 1 : -1]
    return logits


def rows_read_at_once(keep: int) -> int:
    return max(1, min(READ_ROWS, READ_LOGITS // keep))
