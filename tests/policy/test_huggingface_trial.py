"""Architectures that sampling would read otherwise than they read themselves: right, or refused when they are opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from small_models import CHAT, make_tokenizer, plain_logprobs, save_small

from lockedroom.cli.main import main
from lockedroom.errors import BadInput
from lockedroom.policy.backend import Backend
from lockedroom.policy.huggingface import load_huggingface
from lockedroom.policy.huggingface.policy import HuggingFacePolicy
from lockedroom.records import Example, Sampling

ASKED = [Example(id=f"e{i}", prompt="Compute 3+4. Final: <int>"[: 8 + 5 * i], expected_answer=7) for i in range(4)]
BERT: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.25,
    "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1,
}  # fmt: skip
LLAMA: dict[str, Any] = BERT | {"num_key_value_heads": 2, "pad_token_id": 0}
BART: dict[str, Any] = {
    "d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 48, "init_std": 0.25,
    "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
of: Any = transformers


def saved(folder: Path, make: Callable[[int], Any], *, chat: bool = False) -> Path:
    tokenizer = make_tokenizer("gpt2")
    if chat:
        tokenizer.chat_template = CHAT
    torch.manual_seed(0)
    make(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def opened(folder: Path, make: Callable[[int], Any], *, chat: bool = False) -> HuggingFacePolicy:
    return load_huggingface(str(saved(folder, make, chat=chat)), Backend(batch=8))


def mpt(v: int) -> Any:
    return of.MptForCausalLM(
        of.MptConfig(
            vocab_size=v, d_model=32, n_layers=2, n_heads=4, max_seq_len=96, initializer_range=0.25, eos_token_id=0
        )
    )


def bloom(v: int) -> Any:
    return of.BloomForCausalLM(
        of.BloomConfig(
            vocab_size=v, hidden_size=32, n_layer=2, n_head=4, seq_length=96, initializer_range=0.25, eos_token_id=0
        )
    )


@pytest.mark.parametrize("chat", [False, True], ids=("plain", "chat"))
@pytest.mark.parametrize("make", [mpt, bloom])
def test_distances_are_those_of_the_text_whatever_stands_before_the_prompts(
    make: Callable[[int], Any], chat: bool, tmp_path: Path
) -> None:
    """A chat's shared start was read once, padding stood behind it, and MPT counted it: .09 nats a token off."""
    policy = opened(tmp_path, make, chat=chat)
    assert policy.context == 96
    for completion, example in zip(policy.complete(ASKED, range(1), Sampling(max_tokens=12)), ASKED, strict=True):
        plain = plain_logprobs(policy, example.prompt, completion.token_ids or ())
        assert plain == pytest.approx(completion.token_logprobs, abs=2e-5)


MISREAD: dict[str, Callable[[int], Any]] = {
    "encoder": lambda v: of.BertForMaskedLM(of.BertConfig(vocab_size=v, **BERT)),
    "positions after the pad token": lambda v: of.RobertaForCausalLM(
        of.RobertaConfig(vocab_size=v, **BERT, is_decoder=True)
    ),
    "positions by slots": lambda v: of.BartForCausalLM(of.BartConfig(vocab_size=v, **BART)),
}


@pytest.mark.parametrize("kind", MISREAD)
def test_a_model_that_padding_or_later_tokens_change_is_refused(kind: str, tmp_path: Path) -> None:
    """transformers opens them as causal models; their recorded log-probabilities were wrong by nats."""
    with pytest.raises(BadInput, match=r"what comes after a token changes its log-probability \(by [\d.]+ nats"):
        opened(tmp_path, MISREAD[kind])


def test_a_model_that_remembers_something_else_is_refused_before_it_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Layers of convolutions, with a state: an IndexError of transformers, in the middle of a run."""
    layers = {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False}
    folder = saved(tmp_path / "model", lambda v: of.Lfm2ForCausalLM(of.Lfm2Config(vocab_size=v, **LLAMA, **layers)))
    assert main(["tokens", "a", "--policy", f"hf:{folder}"]) == 2
    said = capsys.readouterr().err
    assert "a model of type lfm2, which cannot be read token by token: " in said
    assert "only causal transformers with a cache of keys and values are supported" in said
    assert said.count("\n") == 1


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = save_small("llama", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match=r"a model of type llama, which gives no numbers \(NaN\): its weights hold some"):
        load_huggingface(str(folder), Backend())


def test_rotations_that_change_with_the_length_end_the_context_where_they_change(tmp_path: Path) -> None:
    """Beyond it, one long sequence changed the probabilities of its shorter neighbours."""
    rotations = {
        "rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 24,
        "short_factor": [1.0, 1.5, 2.0, 2.5], "long_factor": [3.0, 4.0, 5.0, 9.0],
    }  # fmt: skip
    policy = opened(
        tmp_path,
        lambda v: of.Phi3ForCausalLM(
            of.Phi3Config(vocab_size=v, **LLAMA, original_max_position_embeddings=24, rope_parameters=rotations)
        ),
    )
    assert policy.context == 24
    with pytest.raises(BadInput, match="context of 24"):
        policy.prompt_ids("Compute 3+4. " * 9)


def test_a_chunk_of_attention_is_named_when_training_beyond_it_is_refused(tmp_path: Path) -> None:
    chunks = {"attention_chunk_size": 6, "head_dim": 8, "interleave_moe_layer_step": 5, "intermediate_size_mlp": 48}
    policy = opened(tmp_path, lambda v: of.Llama4ForCausalLM(of.Llama4TextConfig(vocab_size=v, **LLAMA, **chunks)))
    with pytest.raises(BadInput, match="layers that see only the last 6"):
        policy.training_pass([policy.prompt_ids(ASKED[3].prompt)], [[(5, 6)]], Sampling())
