"""Models of three families, made here and too small to know anything, and a tokenizer trained on this page's own words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

FAMILIES = ("llama", "qwen2", "gpt2")
CONTEXT = 112
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_CORPUS = [f"Compute {a}+{b}. Output exactly one line: Final: {a + b}" for a in range(40) for b in range(0, 40, 7)]


def make_tokenizer(family: str) -> Any:
    """A byte-level BPE: llama with a start token in front, qwen2 with a chat template, gpt2 with neither."""
    specials = {"llama": ["<s>", "</s>"], "qwen2": ["<|im_end|>", "<|im_start|>"], "gpt2": ["<|endoftext|>"]}[family]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        _CORPUS,
        trainers.BpeTrainer(vocab_size=320, special_tokens=specials, initial_alphabet=alphabet, show_progress=False),
    )
    roles: dict[str, Any] = {"eos_token": specials[-1] if family == "llama" else specials[0]}
    if family == "llama":
        raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
        roles["bos_token"] = "<s>"
    if family == "qwen2":
        roles["additional_special_tokens"] = ["<|im_start|>"]
    fast: Any = PreTrainedTokenizerFast
    made = fast(tokenizer_object=raw, **roles)
    if family == "qwen2":
        made.chat_template = CHAT
    return made


def make_model(family: str, vocabulary: int, end: int) -> Any:
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "vocab_size": vocabulary, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT,
        "initializer_range": 0.25, "eos_token_id": end, "bos_token_id": None,
    }  # fmt: skip
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(**shape))
    if family == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**shape, tie_word_embeddings=True))
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=CONTEXT,
            initializer_range=0.25,
            eos_token_id=end,
            bos_token_id=end,
        )
    )


def save_small(family: str, folder: Path) -> Path:
    """Write a model of the family and its tokenizer to `folder`."""
    tokenizer = make_tokenizer(family)
    model = make_model(family, len(tokenizer), int(tokenizer.eos_token_id))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def plain_logprobs(policy: Any, prompt: str, ids: Sequence[int]) -> list[float]:
    """Return a completion's log-probabilities by the model as its authors call it: one sequence, no padding, no cache."""
    given = policy.prompt_ids(prompt)
    with torch.inference_mode():
        logits_SV = policy.model(torch.tensor([[*given, *ids]])).logits[0, len(given) - 1 : -1]
    found: list[float] = torch.log_softmax(logits_SV, -1)[torch.arange(len(ids)), list(ids)].tolist()
    return found
