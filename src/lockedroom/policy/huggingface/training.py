"""The training pass: completions of one prompt packed into one sequence, as for the embedded model (`policy.tiny.train`).

The block-causal mask goes to the model as it is: every attention that `transformers` offers on this path (eager, SDPA)
adds a four-dimensional mask to its scores. Shape letters as in `policy.tiny.train`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lockedroom.errors import BadInput
from lockedroom.policy.huggingface.forward import takes_masks, windowed
from lockedroom.policy.tiny.sample import sampled_logprobs
from lockedroom.policy.tiny.train import Packed
from lockedroom.protocols import TrainingPass
from lockedroom.records import Sampling
from lockedroom.wording import counted

_WINDOWS = ("sliding_window", "window_size", "attention_chunk_size")  # the latter two in GPT-Neo and Llama 4


def read(model: Any, packed: Packed, sampling: Sampling) -> TrainingPass:
    """Return the log-probabilities of the packed completions' tokens, and of every next token in their states."""
    logits_RV = _states(packed, _forward(model, packed).logits)
    state_NT, mask_NT = packed.state_NT.to(logits_RV.device), packed.mask_NT.to(logits_RV.device)
    index_NT = state_NT * logits_RV.shape[1] + packed.tokens_NT.to(logits_RV.device)
    logprobs_RV = _logprobs(logits_RV, sampling)
    logprobs_NT = logprobs_RV.flatten()[index_NT].masked_fill(~mask_NT, 0.0)
    return TrainingPass(logprobs_NT, mask_NT, state_NT, logprobs_RV)


@torch.no_grad()
def features(model: Any, packed: Packed) -> Tensor:
    """Return features_NTC: the last hidden state before each token."""
    hidden_PSC = _forward(model, packed, output_hidden_states=True).hidden_states[-1]
    features_RC: Tensor = hidden_PSC.flatten(0, 1)[packed.slot_R.to(hidden_PSC.device)].float()
    return features_RC[packed.state_NT.to(features_RC.device)]


def _forward(model: Any, packed: Packed, **kwargs: Any) -> Any:
    _refuse_masked(model, packed)
    S = packed.tokens_PS.shape[1]
    first = int(packed.slot_R.remainder(S).min())  # no logits are made for slots that no state stands on
    allowed_P1SS = packed.allowed_PSS[:, None].to(model.device, model.dtype)
    return model(
        input_ids=packed.tokens_PS.to(model.device),
        attention_mask=allowed_P1SS.clamp(min=torch.finfo(model.dtype).min),
        position_ids=packed.positions_PS.to(model.device),
        use_cache=False,
        logits_to_keep=S - first,
        **kwargs,
    )


def _states(packed: Packed, logits_PSV: Tensor) -> Tensor:
    """Return logits_RV in float32: the rows of the states, from logits of the last slots."""
    S, kept = packed.tokens_PS.shape[1], logits_PSV.shape[1]
    prompt_R, slot_R = packed.slot_R // S, packed.slot_R % S
    flat_R = prompt_R * kept + slot_R - (S - kept)
    logits_RV = logits_PSV.flatten(0, 1).index_select(0, flat_R.to(logits_PSV.device))
    return logits_RV if logits_RV.dtype == torch.float64 else logits_RV.float()


def _logprobs(logits_RV: Tensor, sampling: Sampling) -> Tensor:
    """Return logprobs_RV of what `sampling` draws from; float32 where nothing is truncated, which is all a loss needs."""
    if sampling.temperature > 0 and sampling.top_k == 0 and sampling.top_p == 1:
        return torch.log_softmax(logits_RV if sampling.temperature == 1 else logits_RV / sampling.temperature, -1)
    return sampled_logprobs(logits_RV, sampling)


def _refuse_masked(model: Any, packed: Packed) -> None:
    """A mask of our own has no attention window, and tells no distances: refuse what would be read in another way."""
    if windowed(model):
        config = model.config.get_text_config()
        window = next((size for size in (getattr(config, name, None) for name in _WINDOWS) if size), 0)
        longest = int(packed.positions_PS.max()) + 1
        if longest > window:
            raise BadInput(
                f"training on {counted(longest, 'token')}: this model has layers that see only the last {window}, and longer "
                "sequences are not supported; shorten the prompts or --max-tokens"
            )
    elif not takes_masks(model):
        raise BadInput(
            f"training a {model.config.model_type} model: it counts distances by the padding mask (ALiBi), which packed "
            "sequences do not have; such models can be sampled and measured only"
        )
