"""Shapes that a mask of our own would mislead: attention windows however they are named, and distances counted by the mask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from small_models import make_tokenizer, plain_logprobs

from lockedroom.errors import BadInput
from lockedroom.policy.backend import Backend
from lockedroom.policy.huggingface import load_huggingface
from lockedroom.policy.huggingface.policy import HuggingFacePolicy
from lockedroom.records import Example, Sampling

ASKED = [Example(id=f"e{i}", prompt="Compute 3+4. Final: <int>"[: 8 + 5 * i], expected_answer=7) for i in range(4)]
SHAPE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 64, "initializer_range": 0.25, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
WINDOW = 4
of: Any = transformers
WINDOWED: dict[str, Callable[[int], Any]] = {
    "mistral": lambda v: of.MistralForCausalLM(of.MistralConfig(vocab_size=v, **SHAPE, sliding_window=WINDOW)),
    "phi3": lambda v: of.Phi3ForCausalLM(of.Phi3Config(vocab_size=v, **SHAPE, sliding_window=WINDOW)),
    "starcoder2": lambda v: of.Starcoder2ForCausalLM(of.Starcoder2Config(vocab_size=v, **SHAPE, sliding_window=WINDOW)),
    "gemma3": lambda v: of.Gemma3ForCausalLM(
        of.Gemma3TextConfig(vocab_size=v, **SHAPE, head_dim=8, sliding_window=WINDOW,
                            layer_types=["sliding_attention", "full_attention"])
    ),
    "gpt-neo": lambda v: of.GPTNeoForCausalLM(
        of.GPTNeoConfig(vocab_size=v, hidden_size=32, num_layers=2, num_heads=4, window_size=WINDOW, eos_token_id=0,
                        attention_types=[[["global", "local"], 1]], max_position_embeddings=64, initializer_range=0.25)
    ),
}  # fmt: skip


def falcon(v: int) -> Any:
    shape = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "initializer_range": 0.25,
        "eos_token_id": 0,
    }
    return of.FalconForCausalLM(of.FalconConfig(vocab_size=v, **shape, alibi=True))


def opened(folder: Path, make: Callable[[int], Any]) -> HuggingFacePolicy:
    tokenizer = make_tokenizer("gpt2")
    torch.manual_seed(0)
    make(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_huggingface(str(folder), Backend(batch=8))


@pytest.mark.parametrize("family", [*WINDOWED, "falcon"])
def test_recorded_logprobs_are_those_of_a_plain_forward_pass(family: str, tmp_path: Path) -> None:
    policy = opened(tmp_path, WINDOWED.get(family, falcon))
    for completion, example in zip(policy.complete(ASKED, range(1), Sampling(max_tokens=12)), ASKED, strict=True):
        plain = plain_logprobs(policy, example.prompt, completion.token_ids or ())
        assert plain == pytest.approx(completion.token_logprobs, abs=2e-5)


@pytest.mark.parametrize("family", WINDOWED)
def test_training_beyond_a_window_is_refused_however_the_window_is_named(family: str, tmp_path: Path) -> None:
    """The packed mask has no window, so such tokens would be read with what the model cannot see."""
    policy = opened(tmp_path, WINDOWED[family])
    with pytest.raises(BadInput, match=f"layers that see only the last {WINDOW}"):
        policy.training_pass([policy.prompt_ids(ASKED[3].prompt)], [[(5, 6)]], Sampling())


def test_training_a_model_that_counts_distances_by_the_mask_is_refused(tmp_path: Path) -> None:
    policy = opened(tmp_path, falcon)
    with pytest.raises(BadInput, match=r"a falcon model: it counts distances by the padding mask \(ALiBi\)"):
        policy.training_pass([policy.prompt_ids(ASKED[0].prompt)], [[(5, 6)]], Sampling())
