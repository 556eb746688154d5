"""Sampling with `HuggingFacePolicy.complete` and with `model.generate`, in turn, in one process on one thread.

    python bench/peer_hf_generate.py ROUNDS [PROMPTSxDRAWS…]

The same model object, prompts, number of completions and token limit; temperature 1, nothing truncated, and no end token
that can be drawn, so that both draw as many tokens. Neither runs more than BATCH rows at once. The model is a Llama
shape of width 256 with 6 layers and random weights, with the vocabulary of SmolLM2 (49,152), whose tokenizer it
has; `recipes/real.py fetch` brings it. `complete` also renders and encodes the prompts, hashes the random numbers and returns texts
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

import torch
import transformers

from lockedroom.dataset.load import read_examples
from lockedroom.policy.backend import Backend
from lockedroom.policy.huggingface import load_huggingface
from lockedroom.policy.huggingface.policy import HuggingFacePolicy
from lockedroom.policy.tiny import DATA_FOLDER
from lockedroom.protocols import Prompt
from lockedroom.records import Sampling

SMOLLM = Path(__file__).resolve().parent.parent / "models" / "smollm2-135m-instruct"
MAX_TOKENS = 16
BATCH = 32
LAYOUTS = ((16, 8), (8, 4), (32, 1), (128, 1))  # prompts, draws of each


def main(rounds: int, layouts: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        policy = load_huggingface(str(make_model(Path(folder))), Backend(template="plain", batch=BATCH))
    never = policy.model.config.vocab_size  # an end token that no model draws
    policy.codec.end_ids = (never,)
    files = (DATA_FOLDER / "dev.jsonl", DATA_FOLDER / "holdout.jsonl")
    prompts: list[Prompt] = [example for file in files for examples in read_examples(file) for example in examples]
    gc.collect()
    gc.freeze()  # or the collector walks, within either's time, all that importing the libraries has left
    print(json.dumps([measure(policy, prompts[:count], draws, rounds) for count, draws in layouts]))


def make_model(folder: Path) -> Path:
    """Write an untrained Llama shape with SmolLM2's tokenizer to a folder, and return it."""
    if not (SMOLLM / "tokenizer.json").is_file():
        sys.exit(f"{SMOLLM}: not there; run: python recipes/real.py fetch")
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(str(SMOLLM))
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=256, intermediate_size=688, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=512, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model: Any = transformers.LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


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
        "model": "Llama shape, width 256, 6 layers, vocabulary 49,152", "transformers": transformers.__version__,
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
