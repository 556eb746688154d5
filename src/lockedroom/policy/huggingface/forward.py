"""Forward passes of fixed shape, so that what a sequence gets does not depend on its neighbours.

The last bit of a matrix product depends on the shapes that are multiplied. So passes have shapes that depend on nothing but
the model and a prompt's own length: prompts are read in packs of so many tokens or in padded slots (see `reading`), and
continued `batch` rows at a time, each padded on the left to `continued_slots`. Rows of different slots share a pass where the
model's attention can be taken apart (see `attending`), and other layers do not see slots. Every pass has a mask, which chooses
the kernel: of our own where the model takes one, else the model's, for which at least one slot is spare. Missing rows hold
anything. A row's position counts its own tokens only.
Shape letters: R rows, K slots (padding, prompt and completion), V vocabulary, H heads, D width of a head.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from lockedroom.policy.huggingface.attending import Beside, Run, attending

CONTINUED_STEP = 64  # coarse: rows of other slots cannot always share a pass, and attention to padding is cheap
WHOLE_STEP = 16  # of sequences that are read whole
ROOM = 16  # slots that a growing cache is enlarged by
READ_ROWS = 8  # sequences in one pass that reads whole sequences
READ_LOGITS = 512  # and at most this many rows of logits, where completions are long


def slots_of(length: int, step: int) -> int:
    """Return the slots that a sequence of this many tokens is padded to: a multiple of `step`, at least one spare."""
    return (length // step + 1) * step


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

    `mask` is what a pass is given that reads one token more (the last dimension is K), with room behind the `slots` in use;
    the first `lead_R` slots of each row would not be there if it were alone.
    """

    def __init__(
        self,
        stores: list[_Store],
        mask: Tensor,
        slots: int,
        positions_R: Tensor,
        lead_R: Tensor,
        *,
        rows: int,
        batch: int,
    ) -> None:
        self.stores, self.mask, self.slots, self.positions_R, self.rows = stores, mask, slots, positions_R, rows
        self.lead_R = lead_R
        blocks = [slice(start, start + batch) for start in range(0, len(mask), batch)]
        self.caches = [Cache(layers=[_GrowingLayer(store, block, slots) for store in stores]) for block in blocks]
        self._leads = [_runs(lead_R[block]) if bool(lead_R.any()) else [] for block in blocks]

    def add_slot(self) -> Tensor:
        """Return the mask for one more token, which all rows see, as they see every token of a completion."""
        self.slots += 1
        if self.slots > self.mask.shape[-1]:
            self.mask = functional.pad(self.mask, (0, ROOM), value=_seen(self.mask))
        return self.mask[..., : self.slots]

    def attending(self, model: Any, block: int) -> contextlib.AbstractContextManager[None]:
        """Return the context in which the rows of a block are continued: each as if it had its own slots only."""
        if not self._leads[block]:
            return contextlib.nullcontext()
        return attending(model, Beside([Run(self.slots - lead, count) for lead, count in self._leads[block]]))

    def chosen(self, rows_R: Tensor, rows: int, batch: int) -> Prefixes:
        """Return the chosen rows in blocks of `batch`; nothing is copied where they stand as they should."""
        same_R = torch.arange(rows, device=rows_R.device)
        if len(self.mask) == len(rows_R) and torch.equal(rows_R[:rows], same_R):
            self.rows = rows
            return self
        stores = [store.chosen(rows_R) for store in self.stores]
        mask, positions_R, lead_R = self.mask.index_select(0, rows_R), self.positions_R[rows_R], self.lead_R[rows_R]
        return Prefixes(stores, mask, self.slots, positions_R, lead_R, rows=rows, batch=batch)


def _runs(values_R: Tensor) -> list[tuple[int, int]]:
    """Return each value and how often it comes, neighbours that are equal counted together."""
    values, counts = torch.unique_consecutive(values_R, return_counts=True)
    return list(zip(values.tolist(), counts.tolist(), strict=True))


class Filling:
    """The prompts of some prefixes, while they are read: what each will have in the end of its row's slots."""

    def __init__(self, model: Any, slots: Sequence[int], batch: int) -> None:
        self._model, self._batch, self._prompts, self._slots = model, batch, len(slots), max(slots)
        own_R = torch.tensor([*slots, *[slots[-1]] * (-len(slots) % batch)], device=model.device)
        self._lead_R = self._slots - own_R
        self._mask_RK = torch.zeros(len(own_R), self._slots, dtype=torch.long, device=model.device)
        self._stores: list[_Store] = []
        self._logits: list[Tensor] = []
        self._order: list[int] = []

    def write(self, layer: int, rows_R: Tensor, keys_RHKD: Tensor, values_RHKD: Tensor) -> None:
        if layer == len(self._stores):
            self._stores.append(_Store(*(self._roomy(states) for states in (keys_RHKD, values_RHKD))))
        store, first = self._stores[layer], self._slots - keys_RHKD.shape[2]
        store.keys[:, :, first : self._slots].index_copy_(0, rows_R, keys_RHKD)
        store.values[:, :, first : self._slots].index_copy_(0, rows_R, values_RHKD)

    def _roomy(self, like_RHKD: Tensor) -> Tensor:
        return like_RHKD.new_zeros(len(self._mask_RK), like_RHKD.shape[1], self._slots + ROOM, like_RHKD.shape[3])

    def mark(self, rows_R: Tensor, mask_RK: Tensor) -> None:
        """Say which slots hold tokens (1) and which padding (0)."""
        self._mask_RK[rows_R, self._slots - mask_RK.shape[1] :] = mask_RK

    def keep(self, rows: Sequence[int], logits_RV: Tensor) -> None:
        self._logits.append(logits_RV)
        self._order += rows

    def logits(self) -> Tensor:
        """Return logits_RV behind each prompt, in the prompts' order."""
        return torch.cat(self._logits)[torch.tensor(self._order, device=self._model.device).argsort()]

    def prefixes(self) -> Prefixes:
        self._mask_RK[self._prompts :] = self._mask_RK[self._prompts - 1]
        mask, positions_R = _continuing_mask(self._model, self._mask_RK), self._mask_RK.sum(-1)
        return Prefixes(
            self._stores, mask, self._slots, positions_R, self._lead_R, rows=self._prompts, batch=self._batch
        )


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


def positions(mask_RK: Tensor) -> Tensor:
    return (mask_RK.cumsum(-1) - 1).clamp(min=0)


def given(model: Any, cache: Cache) -> dict[str, Any]:
    """Return the arguments that hand a model its cache, to be read and added to: another name since transformers 5.24."""
    name = "cache" if "cache" in _arguments(type(_network(model)).forward) else "past_key_values"
    return {name: cache, "use_cache": True}


def _network(model: Any) -> nn.Module:
    network: nn.Module = model.get_base_model() if hasattr(model, "peft_config") else model
    return network


@functools.lru_cache
def _arguments(forward: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(forward).parameters)


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


def reading_mask(model: Any, mask_RK: Tensor, queries: int) -> Tensor:
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
def extend(model: Any, prefixes: Prefixes, parents_R: Tensor, tokens_R: Tensor, batch: int) -> tuple[Prefixes, Tensor]:
    """Return the prefixes `parents_R`, each longer by one token of `tokens_R`, and logits_RV for the next token."""
    rows = len(parents_R)
    padding = -rows % batch
    parents_R = torch.cat([parents_R, parents_R[-1:].expand(padding)]).to(model.device)
    tokens_R = torch.cat([tokens_R, tokens_R[-1:].expand(padding)]).to(model.device)
    longer = prefixes.chosen(parents_R, rows, batch)
    mask = longer.add_slot()
    logits = []
    for number, cache in enumerate(longer.caches):
        block = slice(number * batch, (number + 1) * batch)
        with longer.attending(model, number):
            out = model(
                input_ids=tokens_R[block, None],
                attention_mask=mask[block],
                position_ids=longer.positions_R[block, None],
                **given(model, cache),
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
        position_ids=positions(mask_RK),
        use_cache=False,
        logits_to_keep=keep + 1,
    )
    logits: Tensor = out.logits[: len(sequences), -keep - 1 : -1]
    return logits


def rows_read_at_once(keep: int) -> int:
    return max(1, min(READ_ROWS, READ_LOGITS // keep))
