"""Sampling with `TinyPolicy.complete` and with Hugging Face `generate`, in turn, in one process on one thread.

Run by the environment of the bench: `bench/.venv-transformers/bin/python bench/peer_generate.py ROUNDS`. The same weights
in both (the logits are asserted to be the same bits), the same prompts, number of completions and token limit,
temperature 1 and nothing truncated. Prints JSON: the largest differences of the logits, and for every workload the tokens
and CPU seconds of each round. A completion's tokens are counted up to its end token, that one included. `complete` also
encodes the prompts, hashes the random numbers and returns texts and log-probabilities; `generate` is given ids and
returns ids.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import torch
import transformers
from torch import Tensor

from lockedroom.dataset.load import read_examples
from lockedroom.policy.tiny import DATA_FOLDER, load_tiny, sample
from lockedroom.policy.tiny.model import LAYER_NORM_EPSILON
from lockedroom.policy.tiny.policy import TinyPolicy
from lockedroom.policy.tiny.tokenizer import END
from lockedroom.protocols import Prompt
from lockedroom.records import Sampling

MAX_TOKENS = 16
CALLS = 3  # in one round, by each
LAYOUTS = ((64, 8), (512, 1))  # prompts, draws of each
NAMES = {"attn_in": "attn.c_attn", "attn_out": "attn.c_proj", "mlp_in": "mlp.c_fc", "mlp_out": "mlp.c_proj"}


def main(rounds: int) -> None:
    policy = load_tiny("tiny", threads=1)
    peer = transplant(policy)
    files = (DATA_FOLDER / "dev.jsonl", DATA_FOLDER / "holdout.jsonl")
    prompts: list[Prompt] = [example for file in files for examples in read_examples(file) for example in examples]
    differences = compare_logits(policy, peer, [policy.prompt_ids(prompt.prompt) for prompt in prompts])
    gc.collect()
    gc.freeze()  # or the collector walks, within either's time, all that importing both libraries has left
    workloads = [
        measure(policy, peer, prompts[:count], draws, rounds=rounds, ends=ends)
        for ends in (True, False)
        for count, draws in LAYOUTS
    ]
    print(json.dumps({"differences": differences, "max_tokens": MAX_TOKENS, "workloads": workloads}))


def transplant(policy: TinyPolicy) -> Any:
    """Return a GPT2LMHeadModel with the policy's weights."""
    shape = policy.model.config
    config = transformers.GPT2Config(
        vocab_size=shape.vocabulary,
        n_positions=shape.context,
        n_embd=shape.width,
        n_layer=shape.layers,
        n_head=shape.heads,
        n_inner=shape.feed_forward,
        activation_function="relu",
        layer_norm_epsilon=LAYER_NORM_EPSILON,
        bos_token_id=END,
        eos_token_id=END,
        pad_token_id=END,
    )
    tensors: dict[str, Tensor] = {}
    for ours, tensor in policy.model.state_dict().items():
        name = ours + ".weight" if ours in ("wte", "wpe") else ours
        for old, new in NAMES.items():
            name = name.replace(old, new)
        tensors[f"transformer.{name}"] = tensor
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"]
    peer = transformers.GPT2LMHeadModel(config)
    peer.train(False)
    peer.load_state_dict(tensors, strict=True)
    return peer


@torch.inference_mode()
def compare_logits(policy: TinyPolicy, peer: Any, prompts: Sequence[tuple[int, ...]]) -> dict[str, float]:
    """Return the largest difference of the logits after these prompts, without a cache: of eager attention 0, asserted.

    The kernels that `generate` is timed with (fused attention) sum in another order.
    """
    largest: dict[str, float] = {}
    for attention in ("eager", "sdpa"):  # the last stays set: it is the default, and the faster one
        peer.set_attn_implementation(attention)
        found = []
        for length in sorted({len(ids) for ids in prompts}):
            ids_BT = torch.tensor([ids for ids in prompts if len(ids) == length])
            theirs = peer(ids_BT, attention_mask=torch.ones_like(ids_BT), use_cache=False).logits
            found.append((policy.model(ids_BT) - theirs).abs().max().item())
        largest[attention] = max(found)
    assert largest["eager"] == 0, f"the transplanted weights give other logits: {largest}"
    assert largest["sdpa"] < 1e-4, f"the transplanted weights give other logits: {largest}"
    return largest


def measure(
    policy: TinyPolicy, peer: Any, prompts: Sequence[Prompt], draws: int, *, rounds: int, ends: bool
) -> dict[str, Any]:
    """Return tokens and CPU seconds of each round. `ends` false: the end token ends nothing, all draw MAX_TOKENS."""
    ids = [policy.prompt_ids(prompt.prompt) for prompt in prompts]
    width = max(map(len, ids))
    padded_PT = torch.tensor([[END] * (width - len(row)) + list(row) for row in ids])  # on the left, as `generate` asks
    mask_PT = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids])
    settings = transformers.GenerationConfig(  # type: ignore[no-untyped-call]  # its stubs are partial
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=MAX_TOKENS,
        num_return_sequences=draws,
        pad_token_id=END,
        eos_token_id=END if ends else None,
    )
    peer.generation_config.eos_token_id = settings.eos_token_id  # what the settings leave out is filled in from here

    def ours(seed: int) -> int:
        sampling = Sampling(max_tokens=MAX_TOKENS, seed=seed)
        drawn = list(policy.complete(prompts, range(draws), sampling))
        assert len(drawn) == len(prompts) * draws
        return sum(len(completion.token_ids or ()) for completion in drawn)

    def theirs(seed: int) -> int:
        torch.manual_seed(seed)
        drawn_NT = peer.generate(padded_PT, attention_mask=mask_PT, generation_config=settings)[:, width:]
        assert len(drawn_NT) == len(prompts) * draws
        return count_tokens(drawn_NT) if ends else drawn_NT.numel()

    never = -1
    contenders: dict[str, Callable[[int], int]] = {"ours": ours, "generate": theirs}
    with mock.patch.object(sample, "END", END if ends else never):
        results = interleave(contenders, rounds)
    check_same_lengths(results, len(prompts) * draws * rounds * CALLS)
    return {"prompts": len(prompts), "draws": draws, "ends": ends, "rounds": results}


def count_tokens(drawn_NT: Tensor) -> int:
    """Return how many tokens were drawn, up to the end token of each row and with it; what follows it is padding."""
    before_N = (drawn_NT != END).cumprod(1).sum(1)
    return int((before_N + 1).clamp(max=drawn_NT.shape[1]).sum())


def interleave(contenders: dict[str, Callable[[int], int]], rounds: int) -> dict[str, list[tuple[int, float]]]:
    """Return (tokens, CPU seconds) of every contender's rounds, run in turn after one call each to warm up."""
    results: dict[str, list[tuple[int, float]]] = {name: [] for name in contenders}
    for contender in contenders.values():
        contender(0)
    for round_ in range(rounds):
        for name, contender in contenders.items():
            began = time.process_time()
            tokens = sum(contender(1 + round_ * CALLS + call) for call in range(CALLS))
            results[name].append((tokens, time.process_time() - began))
    return results


def check_same_lengths(results: dict[str, list[tuple[int, float]]], completions: int) -> None:
    """Assert that both draw completions of the same mean length, as the same distribution must."""
    mean = {name: sum(tokens for tokens, _ in rounds) / completions for name, rounds in results.items()}
    assert abs(mean["ours"] - mean["generate"]) < 0.15, f"completions differ in mean length: {mean}"


if __name__ == "__main__":
    main(int(sys.argv[1]))
