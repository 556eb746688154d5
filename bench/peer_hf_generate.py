"""Sampling with `HuggingFacePolicy.complete` and with `model.generate`, in turn, in one process on one thread.

    python bench/peer_hf_generate.py ROUNDS [PROMPTSxDRAWS…]

The same model object, prompts, number of completions and token limit; temperature 1, nothing truncated, and no end token
that can be drawn, so that both draw as many tokens. Neither runs more than BATCH rows at once. The models are Llama shapes
with random weights: one with as many tokens as SmolLM2, which is few for a pretrained model, one with about a hundredth of
that, where drawing a token costs next to nothing, and one so small that a pass is mostly the calling of it. `complete` also renders and encodes the prompts, hashes the random numbers and returns texts
and log-probabilities; `generate` is given ids and returns ids alone (with `output_logits` it is slower).
Prints JSON: tokens and CPU seconds of each round.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers

from lockedroom.dataset.load import read_examples
from lockedroom.policy.backend import Backend
from lockedroom.policy.huggingface import load_huggingface
from lockedroom.policy.huggingface.policy import HuggingFacePolicy
from lockedroom.policy.tiny import DATA_FOLDER
from lockedroom.protocols import Prompt
from lockedroom.records import Sampling

SHAPES = ((256, 6, 49_152), (256, 6, 512), (64, 2, 512))  # width, layers, vocabulary
SPELLED = 320
MAX_TOKENS = 16
BATCH = 32
LAYOUTS = ((16, 8), (8, 4), (32, 1), (128, 1))  # prompts, draws of each


def main(rounds: int, layouts: list[tuple[int, int]]) -> None:
    found = []
    for width, layers, vocabulary in SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            policy = load_huggingface(str(make_model(Path(folder), width, layers, vocabulary)), Backend(batch=BATCH))
        policy.codec.end_ids = (vocabulary,)  # one that no model draws
        gc.collect()
        gc.freeze()  # or the collector walks, within either's time, all that importing the libraries has left
        found += [measure(policy, read_prompts()[:count], draws, rounds) for count, draws in layouts]
    print(json.dumps(found))


def make_model(folder: Path, width: int, layers: int, vocabulary: int) -> Path:
    """Write an untrained Llama shape and a tokenizer of SPELLED tokens, all it can spell, to a folder, and return it."""
    raw = tokenizers.Tokenizer(tokenizers.models.BPE())
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=SPELLED, special_tokens=["</s>"], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    raw.train_from_iterator((prompt.prompt for prompt in read_prompts()), trainer)
    fast: Any = transformers.PreTrainedTokenizerFast
    fast(tokenizer_object=raw, eos_token="</s>").save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=width * 8 // 3, num_hidden_layers=layers,
        num_attention_heads=8, num_key_value_heads=4, max_position_embeddings=512, eos_token_id=0,
    )  # fmt: skip
    model: Any = transformers.LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return folder


def read_prompts() -> list[Prompt]:
    files = (DATA_FOLDER / "dev.jsonl", DATA_FOLDER / "holdout.jsonl")
    return [example for file in files for examples in read_examples(file) for example in examples]


def measure(policy: HuggingFacePolicy, prompts: list[Prompt], draws: int, rounds: int) -> dict[str, Any]:
    """Return tokens and CPU seconds of each round."""
    ids = [policy.prompt_ids(prompt.prompt) for prompt in prompts]
    settings: Any = transformers.GenerationConfig(  # type: ignore[no-untyped-call]  # its stubs are partial
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=MAX_TOKENS, num_return_sequences=draws,
        pad_token_id=0,
    )  # fmt: skip
    policy.model.generation_config.eos_token_id = None  # what the settings leave out is filled in from here

    def ours(seed: int) -> int:
        drawn = list(policy.complete(prompts, range(draws), Sampling(max_tokens=MAX_TOKENS, seed=seed)))
        return sum(len(completion.token_ids or ()) for completion in drawn)

    def theirs(seed: int) -> int:
        torch.manual_seed(seed)
        at_once = BATCH // draws
        tokens = 0
        for first in range(0, len(ids), at_once):
            rows = ids[first : first + at_once]
            width = max(map(len, rows))
            padded_PT = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows])  # on the left
            mask_PT = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
            found = policy.model.generate(padded_PT, attention_mask=mask_PT, generation_config=settings)
            tokens += found[:, width:].numel()
        return tokens

    results = interleave({"ours": ours, "generate": theirs}, rounds)
    assert all(tokens == len(prompts) * draws * MAX_TOKENS for pairs in results.values() for tokens, _ in pairs)
    return {
        "prompts": len(prompts), "draws": draws, "batch": BATCH, "max_tokens": MAX_TOKENS, "rounds": results,
        "vocabulary": policy.model.config.vocab_size, "width": policy.model.config.hidden_size, "transformers": transformers.__version__,
    }  # fmt: skip


def interleave(contenders: dict[str, Callable[[int], int]], rounds: int) -> dict[str, list[tuple[int, float]]]:
    """Return (tokens, CPU seconds) of every contender's rounds, run in turn after one call each to warm up."""
    results: dict[str, list[tuple[int, float]]] = {name: [] for name in contenders}
    for contender in contenders.values():
        contender(0)
    for round_ in range(rounds):
        for name, contender in contenders.items():
            began = time.process_time()
            tokens = contender(1 + round_)
            results[name].append((tokens, time.process_time() - began))
    return results


if __name__ == "__main__":
    shapes = [tuple(map(int, word.split("x"))) for word in sys.argv[2:]]
    main(int(sys.argv[1]), [(count, draws) for count, draws in shapes] or list(LAYOUTS))
