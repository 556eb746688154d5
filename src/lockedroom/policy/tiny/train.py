"""The training pass: every distinct beginning of a completion is read once, whoever shares it.

The completions of one prompt share the prompt, and most of them share their first tokens as well. So a prompt and all of
its completions become one sequence: the prompt, then the tokens of the trie of its completions, each of which sees the
prompt, its own ancestors and itself (a block-causal mask), at the position it has in its completion. The last token of
a completion is predicted and never read. Log-probabilities and gradients are those of reading each completion alone; a
group of 8 costs a quarter of it here, and less as a policy sharpens.

Shape letters: P prompts, N completions, T tokens of the longest, R states (a state is what one next token depends on: a
prompt and a beginning), S slots of a packed sequence, C width, H heads, D width of a head, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lockedroom.errors import BadInput
from lockedroom.policy.tiny.model import Block, TinyModel
from lockedroom.policy.tiny.sample import sampled_logprobs
from lockedroom.protocols import TrainingPass
from lockedroom.records import Sampling
from lockedroom.wording import counted

Ints = NDArray[np.int64]


class Packed(msgspec.Struct, frozen=True):
    """Groups of completions as packed sequences. `state_NT` names the state that each token was sampled in.

    `slot_R` is a state's place in the flattened [P, S] slots; `allowed_PSS` is 0 where a slot may be read, else −∞.
    """

    tokens_PS: Tensor
    positions_PS: Tensor
    allowed_PSS: Tensor
    slot_R: Tensor
    state_NT: Tensor
    tokens_NT: Tensor
    mask_NT: Tensor


def pack(
    prompt_ids: Sequence[Sequence[int]], completion_ids: Sequence[Sequence[Sequence[int]]], context: int
) -> Packed:
    """Lay out the completions of each prompt; rows N are prompt by prompt, completion by completion.

    Raises BadInput for a prompt without completions, an empty completion, or one that exceeds the context.
    """
    _check(prompt_ids, completion_ids, context)
    flat = [ids for group in completion_ids for ids in group]
    length_N = np.array([len(ids) for ids in flat])
    mask_NT = np.arange(length_N.max()) < length_N[:, None]
    tokens_NT = np.zeros(mask_NT.shape, dtype=np.int64)
    tokens_NT[mask_NT] = np.concatenate([np.asarray(ids, dtype=np.int64) for ids in flat])
    prompt_N = np.repeat(np.arange(len(prompt_ids)), [len(group) for group in completion_ids])
    state_NT, levels = _trie(prompt_N, tokens_NT, mask_NT, len(prompt_ids))
    return _lay_out(prompt_ids, levels, state_NT, tokens_NT, mask_NT)


class _Level(msgspec.Struct, frozen=True):
    """The trie's nodes of one depth, each by the state above it, the token that leads to it, and its prompt."""

    parent: Ints
    token: Ints
    prompt: Ints


def _trie(prompt_N: Ints, tokens_NT: Ints, mask_NT: NDArray[np.bool_], prompts: int) -> tuple[Ints, list[_Level]]:
    """Number the states: the ends of the prompts first, then the nodes level by level."""
    state_NT = np.zeros(tokens_NT.shape, dtype=np.int64)
    state_NT[:, 0] = prompt_N
    levels: list[_Level] = []
    count, V = prompts, int(tokens_NT.max()) + 1
    for t in range(tokens_NT.shape[1] - 1):
        rows = np.flatnonzero(mask_NT[:, t + 1])
        keys, first, inverse = np.unique(
            state_NT[rows, t] * V + tokens_NT[rows, t], return_index=True, return_inverse=True
        )
        levels.append(_Level(keys // V, keys % V, prompt_N[rows[first]]))
        state_NT[rows, t + 1] = count + inverse
        count += len(keys)
    return state_NT, levels


def _lay_out(
    prompt_ids: Sequence[Sequence[int]],
    levels: list[_Level],
    state_NT: Ints,
    tokens_NT: Ints,
    mask_NT: NDArray[np.bool_],
) -> Packed:
    P = len(prompt_ids)
    length_P = np.array([len(ids) for ids in prompt_ids])
    longest = int(length_P.max())
    node_prompt = np.concatenate([np.empty(0, np.int64), *(level.prompt for level in levels)])
    # A node's slot follows the prompt, in the order of the levels: so a parent always stands before its children.
    order = np.argsort(node_prompt, kind="stable")
    per_prompt_P = np.bincount(node_prompt, minlength=P)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(per_prompt_P) - per_prompt_P, per_prompt_P)
    S = longest + int(per_prompt_P.max())
    slot_R = np.concatenate([length_P - 1, longest + rank])  # within its own sequence
    prompt_R = np.concatenate([np.arange(P), node_prompt])

    slots_S = np.arange(S)
    in_prompt_PS = slots_S < length_P[:, None]
    tokens_PS = np.zeros((P, S), dtype=np.int64)
    tokens_PS[in_prompt_PS] = np.concatenate([np.asarray(ids, dtype=np.int64) for ids in prompt_ids])
    positions_PS = np.where(in_prompt_PS, slots_S, 0)
    causal_SS = slots_S[:, None] >= slots_S
    sees_PSS = causal_SS & in_prompt_PS[:, None, :] | np.eye(S, dtype=bool)
    start = P
    for depth, level in enumerate(levels):
        own = slot_R[start : start + len(level.token)]
        tokens_PS[level.prompt, own] = level.token
        positions_PS[level.prompt, own] = length_P[level.prompt] + depth
        if depth > 0:
            sees_PSS[level.prompt, own] |= sees_PSS[level.prompt, slot_R[level.parent]]
        start += len(level.token)
    return Packed(
        torch.from_numpy(tokens_PS),
        torch.from_numpy(positions_PS),
        torch.zeros(P, S, S).masked_fill_(torch.from_numpy(~sees_PSS), -math.inf),
        torch.from_numpy(prompt_R * S + slot_R),
        torch.from_numpy(state_NT),
        torch.from_numpy(tokens_NT),
        torch.from_numpy(mask_NT),
    )


def hidden_states(model: TinyModel, packed: Packed) -> Tensor:
    """Return hidden_RC: what the network makes of each state, before the output matrix."""
    device, dtype = model.wte.device, model.wte.dtype
    allowed_P1SS = packed.allowed_PSS[:, None].to(device, dtype)
    x_PSC = model.embed(packed.tokens_PS.to(device), packed.positions_PS.to(device))
    for block in model.blocks():
        x_PSC = _through(block, x_PSC, allowed_P1SS)
    hidden_RC: Tensor = model.ln_f(x_PSC.flatten(0, 1).index_select(0, packed.slot_R.to(device)))
    return hidden_RC


def _through(block: Block, x_PSC: Tensor, allowed_P1SS: Tensor) -> Tensor:
    P, S, C = x_PSC.shape
    q_PHSD, k_PHSD, v_PHSD = block.attn_in(block.ln_1(x_PSC)).view(P, S, 3, block.heads, -1).permute(2, 0, 3, 1, 4)
    mixed_PHSD = torch.nn.functional.scaled_dot_product_attention(q_PHSD, k_PHSD, v_PHSD, attn_mask=allowed_P1SS)
    x_PSC = x_PSC + block.attn_out(mixed_PHSD.transpose(1, 2).reshape(P, S, C))
    return x_PSC + block.feed_forward(x_PSC)


def read(model: TinyModel, packed: Packed, sampling: Sampling) -> TrainingPass:
    """Return the log-probabilities of the packed completions' tokens, and of every next token in their states."""
    device = model.wte.device
    logits_RV = torch.nn.functional.linear(hidden_states(model, packed), model.wte)
    state_NT, mask_NT = packed.state_NT.to(device), packed.mask_NT.to(device)
    index_NT = state_NT * logits_RV.shape[1] + packed.tokens_NT.to(device)
    logprobs_RV = sampled_logprobs(logits_RV, sampling)
    logprobs_NT = logprobs_RV.flatten()[index_NT].masked_fill(~mask_NT, 0.0)
    return TrainingPass(logprobs_NT, mask_NT, state_NT, logprobs_RV)


def _check(
    prompt_ids: Sequence[Sequence[int]], completion_ids: Sequence[Sequence[Sequence[int]]], context: int
) -> None:
    for i, (prompt, group) in enumerate(zip(prompt_ids, completion_ids, strict=True)):
        if not group or not all(group):
            raise BadInput(f"prompt {i}: has no completions, or one without tokens; leave such out of a training pass")
        longest = len(prompt) + max(map(len, group))
        if longest > context:
            raise BadInput(
                f"prompt {i}: {counted(longest, 'token')} with its completion exceed the context of {context}"
            )
