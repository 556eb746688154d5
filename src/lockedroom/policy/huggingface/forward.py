"""Forward passes of fixed shape, so that what a sequence gets does not depend on its neighbours.

The last bit of a matrix product depends on the shapes that are multiplied. So a prompt is padded on the left, by an
amount that depends on its own length alone: to `Reading.slots` to be read, `Reading.rows` prompts at a time, and to
`continued_slots` to be continued, `batch` rows at a time. Every pass has a mask, which chooses the kernel: of our own where
the model takes one, else the model's, for which at least one slot is spare. Missing rows hold anything. A row's position counts its own tokens only. What a chat template puts before every
prompt is read once (`Start`).
Shape letters: R rows, K slots (padding, prompt and completion), V vocabulary, H heads, D width of a head.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

CONTINUED_STEP = 64  # coarse: prompts of other slots cannot share a pass, and attention to padding is cheap
READ_TOKENS = 80, 256  # of prompts, in one pass: of a large model, and of a very small one
CALL = 30_000_000  # weights of a layer that are multiplied with one token in the time that calling the layer takes
FEWEST_SLOTS = 10  # shorter prompts are read no more at a time than prompts of so many slots
WHOLE_STEP = 16  # of sequences that are read whole
ROOM = 16  # slots that a growing cache is enlarged by
READ_ROWS = 8  # sequences in one pass that reads whole sequences
READ_LOGITS = 512  # and at most this many rows of logits, where completions are long


def slots_of(length: int, step: int) -> int:
    """Return the slots that a sequence of this many tokens is padded to: a multiple of `step`, at least one spare."""
    return (length // step + 1) * step


class Reading:
    """The shapes in which prompts are read by one pass: functions of the model's size and of a prompt's own length.

    More `tokens` at once are read no faster by a large model and leave more of a pass empty; a small one spends its time
    on being called, and on prompts of many lengths, each with passes of its own. `spare` slots are empty at least.
    """

    def __init__(self, model: Any) -> None:
        fewest, most = READ_TOKENS
        self.tokens = min(most, max(fewest, int(math.sqrt(350 * _worth_a_call(model)))))
        self.spare = 0 if takes_masks(model) else 1
        self._steps_shift = 4 if self.tokens == fewest else 3

    def slots(self, length: int) -> int:
        """Return the slots in which so many tokens are read: an eighth are empty at most, a quarter for a small model."""
        step = min(
            CONTINUED_STEP, 1 << max(0, length.bit_length() - self._steps_shift)
        )  # no more than `continued_slots`
        return -(-(length + self.spare) // step) * step

    def rows(self, slots: int) -> int:
        """Return how many prompts are read in one pass, of so many slots each."""
        return max(1, self.tokens // max(slots, FEWEST_SLOTS))


def _worth_a_call(model: Any) -> float:
    """Return how many tokens are about as much work as calling the model."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    known = {id(part.weight) for part in ends if part is not None}
    weights: int = sum(weight.numel() for weight in model.parameters() if id(weight) not in known)
    layers = int(getattr(model.config.get_text_config(), "num_hidden_layers", 1))
    return CALL * layers / max(1, weights)


def continued_slots(length: int) -> int:
    """Return the slots before a completion, where its prompt has this many tokens."""
    return slots_of(length, CONTINUED_STEP // 2 if length < CONTINUED_STEP // 2 else CONTINUED_STEP)


class _Store:
    """One layer's keys_RHKD and values_RHKD of all rows, with room behind them."""

    def __init__(self, keys_RHKD: Tensor, values_RHKD: Tensor) -> None:
        self.keys, self.values = keys_RHKD, values_RHKD

    def enlarge(self, slots: int) -> None:
        """Make room for at least so many slots (a token is added at a time)."""
        if slots > self.keys.shape[2]:
            self.keys, self.values = (functional.pad(states, (0, 0, 0, ROOM)) for states in (self.keys, self.values))

    def chosen(self, rows_R: Tensor) -> _Store:
        return _Store(self.keys.index_select(0, rows_R), self.values.index_select(0, rows_R))


class Prefixes:
    """Beginnings of completions as the network remembers them: `rows` of them, then others up to whole blocks.

    `mask` is what a pass is given that reads one token more (the last dimension is K), with room behind the `slots` in use.
    """

    def __init__(
        self, stores: list[_Store], mask: Tensor, slots: int, positions_R: Tensor, *, rows: int, batch: int
    ) -> None:
        self.stores, self.mask, self.slots, self.positions_R, self.rows = stores, mask, slots, positions_R, rows
        blocks = [slice(start, start + batch) for start in range(0, len(mask), batch)]
        self.caches = [Cache(layers=[_GrowingLayer(store, block, slots) for store in stores]) for block in blocks]

    def add_slot(self) -> Tensor:
        """Return the mask for one more token, which all rows see, as they see every token of a completion."""
        self.slots += 1
        if self.slots > self.mask.shape[-1]:
            self.mask = functional.pad(self.mask, (0, ROOM), value=_seen(self.mask))
        return self.mask[..., : self.slots]

    def chosen(self, rows_R: Tensor, rows: int, batch: int) -> Prefixes:
        """Return the chosen rows in blocks of `batch`; nothing is copied where they stand as they should."""
        same_R = torch.arange(rows, device=rows_R.device)
        if len(self.mask) == len(rows_R) and torch.equal(rows_R[:rows], same_R):
            self.rows = rows
            return self
        stores = [store.chosen(rows_R) for store in self.stores]
        mask, positions_R = self.mask.index_select(0, rows_R), self.positions_R[rows_R]
        return Prefixes(stores, mask, self.slots, positions_R, rows=rows, batch=batch)


def _seen(mask: Tensor) -> float:
    """Return how a mask says that a slot is seen: 0 is added to a score, or the slot is marked with 1."""
    return 0.0 if mask.is_floating_point() else 1.0


class _GrowingLayer(DynamicLayer):
    """One layer of the rows of one block: a token is written in its place in the store, and nothing is copied."""

    def __init__(self, store: _Store, rows: slice, slots: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers does not annotate it
        self.lazy_initialization(store.keys, store.values)
        self._store, self._rows = store, rows
        self._show(slots)

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        *_args: Any,
        **_kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        before, after = self._slots, self._slots + key_states.shape[2]
        self._store.enlarge(after)
        self._store.keys[self._rows, :, before:after] = key_states
        self._store.values[self._rows, :, before:after] = value_states
        return self._show(after)

    def _show(self, slots: int) -> tuple[Tensor, Tensor]:
        self._slots = slots
        self.keys = self._store.keys[self._rows, :, :slots]
        self.values = self._store.values[self._rows, :, :slots]
        return self.keys, self.values


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
    """The first tokens of every prompt (none where there are none in common), as the network remembers them.

    `reading` is how what follows them is read.
    """

    def __init__(
        self, reading: Reading, ids: tuple[int, ...] = (), pairs: Sequence[tuple[Tensor, Tensor]] = ()
    ) -> None:
        self.reading, self.ids, self.pairs = reading, ids, pairs

    def rest_of(self, prompt: Sequence[int]) -> Sequence[int]:
        """Return what of a prompt is still to be read: all of it, where it does not begin with these tokens."""
        beyond = len(prompt) > len(self.ids) and tuple(prompt[: len(self.ids)]) == self.ids
        return prompt[len(self.ids) :] if beyond else prompt

    def slots(self, prompt: Sequence[int]) -> int:
        """Return the slots that a prompt is padded to."""
        rest = self.rest_of(prompt)
        return len(prompt) - len(rest) + continued_slots(len(rest))


@torch.inference_mode()
def read_start(model: Any, ids: tuple[int, ...]) -> Start:
    """Read the start of all prompts; not for windows and distances that would count the padding behind it."""
    reading = Reading(model)
    if not ids or not takes_masks(model):
        return Start(reading)
    cache = DynamicCache()
    tokens_1K = torch.tensor([ids], device=model.device)
    model(input_ids=tokens_1K, **_given(model, cache), logits_to_keep=1)
    return Start(reading, ids, _pairs(cache))


def _given(model: Any, cache: Cache) -> dict[str, Any]:
    """Return the arguments that hand a model its cache, to be read and added to: another name since transformers 5.24."""
    name = "cache" if "cache" in _arguments(type(_network(model)).forward) else "past_key_values"
    return {name: cache, "use_cache": True}


def _network(model: Any) -> nn.Module:
    network: nn.Module = model.get_base_model() if hasattr(model, "peft_config") else model
    return network


@functools.lru_cache
def _arguments(forward: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(forward).parameters)


def _pairs(cache: Any) -> list[tuple[Tensor, Tensor]]:
    """Return keys_RHKD and values_RHKD of each layer."""
    return [(layer.keys, layer.values) for layer in cache.layers]


def windowed(model: Any) -> bool:
    """Say whether some layers see a window of the sequence only. Configurations name their layers, or one window for all."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or getattr(config, "attention_layers", None)  # the latter in GPT-Neo
    if kinds is None:
        return getattr(config, "sliding_window", None) is not None
    return any(kind not in ("full_attention", "global") for kind in kinds)


def takes_masks(model: Any) -> bool:
    """Say whether a pass may be given a mask of four dimensions: not if layers have windows, or count distances by the mask."""
    counts = getattr(model.config.get_text_config(), "alibi", False)
    return not (windowed(model) or counts) and "position_ids" in _arguments(type(_network(model)).forward)


def _reading_mask(model: Any, mask_RK: Tensor, queries: int) -> Tensor:
    """Return the mask of a pass that reads the last `queries` slots, from mask_RK (1 for tokens, 0 for padding)."""
    if not takes_masks(model):
        return mask_RK
    slots_K = torch.arange(mask_RK.shape[1], device=mask_RK.device)
    query_S1 = slots_K[-queries:, None]
    sees_RSK = (mask_RK[:, None] == 1) & (slots_K <= query_S1) | (
        slots_K == query_S1
    )  # padding sees itself, so is finite
    added_RSK = torch.zeros(sees_RSK.shape, dtype=model.dtype, device=mask_RK.device)
    return added_RSK.masked_fill_(~sees_RSK, torch.finfo(model.dtype).min)[:, None]


def _continuing_mask(model: Any, mask_RK: Tensor) -> Tensor:
    """Return the mask of passes that read one token behind these slots, with room for some (see `Prefixes`)."""
    if takes_masks(model):
        added_RK = torch.zeros(mask_RK.shape, dtype=model.dtype, device=mask_RK.device)
        mask_RK = added_RK.masked_fill_(mask_RK == 0, torch.finfo(model.dtype).min)
    roomy_RK = functional.pad(mask_RK, (0, ROOM), value=_seen(mask_RK))
    return roomy_RK[:, None, None] if takes_masks(model) else roomy_RK


@torch.inference_mode()
def prefill(model: Any, start: Start, prompts: Sequence[Sequence[int]], batch: int) -> tuple[Prefixes, Tensor]:
    """Return the prompts as prefixes and logits_RV for their next token; all prompts have one `Start.slots`."""
    slots, reading = start.slots(prompts[0]), start.reading
    rests = [start.rest_of(prompt) for prompt in prompts]
    groups: dict[tuple[bool, int], list[int]] = {}
    for i, (prompt, rest) in enumerate(zip(prompts, rests, strict=True)):
        groups.setdefault((len(rest) < len(prompt), reading.slots(len(rest))), []).append(i)
    rows = len(prompts) + -len(prompts) % batch
    mask_RK = torch.zeros(rows, slots, dtype=torch.long, device=model.device)
    stores: list[_Store] = []
    logits: list[Tensor] = []
    order: list[int] = []
    for (started, length), members in groups.items():
        past, together = start if started else Start(reading), reading.rows(length)
        for first in range(0, len(members), together):
            block = members[first : first + together]
            cache, whole_RK, logits_RV = _read_rests(model, past, [rests[i] for i in block], length, together)
            stores = stores or [_roomy(keys, rows, slots) for keys, _ in _pairs(cache)]
            at_R, from_ = torch.tensor(block, device=model.device), slots - whole_RK.shape[1]
            mask_RK[at_R, from_:] = whole_RK[: len(block)]
            for store, (keys, values) in zip(stores, _pairs(cache), strict=True):
                store.keys[at_R, :, from_:slots] = keys[: len(block)]
                store.values[at_R, :, from_:slots] = values[: len(block)]
            logits.append(logits_RV[: len(block)])
            order += block
    mask_RK[len(prompts) :] = mask_RK[0]
    back_R = torch.tensor(order, device=model.device).argsort()
    mask, positions_R = _continuing_mask(model, mask_RK), mask_RK.sum(-1)
    return Prefixes(stores, mask, slots, positions_R, rows=len(prompts), batch=batch), torch.cat(logits)[back_R]


def _roomy(like_RHKD: Tensor, rows: int, slots: int) -> _Store:
    shape = (rows, like_RHKD.shape[1], slots + ROOM, like_RHKD.shape[3])
    return _Store(like_RHKD.new_zeros(shape), like_RHKD.new_zeros(shape))


def _read_rests(
    model: Any, start: Start, rests: Sequence[Sequence[int]], slots: int, rows: int
) -> tuple[DynamicCache, Tensor, Tensor]:
    padded = [*rests, *[rests[0]] * (rows - len(rests))]
    tokens_RK, mask_RK = pad_left(padded, slots, model.device)
    whole_RK = functional.pad(mask_RK, (len(start.ids), 0), value=1)
    pairs = [
        (keys.expand(len(padded), -1, -1, -1), values.expand(len(padded), -1, -1, -1)) for keys, values in start.pairs
    ]
    cache = DynamicCache(pairs) if pairs else DynamicCache()
    out = model(
        input_ids=tokens_RK,
        attention_mask=_reading_mask(model, whole_RK, slots),
        position_ids=_positions(whole_RK)[:, len(start.ids) :],
        **_given(model, cache),
        logits_to_keep=1,
    )
    return cache, whole_RK, out.logits[:, -1]


@torch.inference_mode()
def extend(model: Any, prefixes: Prefixes, parents_R: Tensor, tokens_R: Tensor, batch: int) -> tuple[Prefixes, Tensor]:
    """Return the prefixes `parents_R`, each longer by one token of `tokens_R`, and logits_RV for the next token."""
    rows = len(parents_R)
    padding = -rows % batch
    parents_R = torch.cat([parents_R, parents_R[:1].expand(padding)]).to(model.device)
    tokens_R = torch.cat([tokens_R, tokens_R[:1].expand(padding)]).to(model.device)
    longer = prefixes.chosen(parents_R, rows, batch)
    mask = longer.add_slot()
    logits = []
    for number, cache in enumerate(longer.caches):
        block = slice(number * batch, (number + 1) * batch)
        out = model(
            input_ids=tokens_R[block, None],
            attention_mask=mask[block],
            position_ids=longer.positions_R[block, None],
            **_given(model, cache),
        )
        logits.append(out.logits[:, -1])
    longer.positions_R = longer.positions_R + 1
    return longer, (logits[0] if len(logits) == 1 else torch.cat(logits))[:rows]


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
