"""A trial when a model is opened: does reading as sampling reads give what one plain pass over the sequence gives?

Architectures differ in how they count positions, what they remember besides keys and values, and whether a token sees
what comes after it, in ways that no configuration states. So a few random tokens are read in both ways: whole, and then a
beginning behind padding and the others one by one. Shape letters: S places compared, V vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from lockedroom.policy.huggingface.forward import extend
from lockedroom.policy.huggingface.reading import prefill, read_start

TOKENS, BEGUN, SHARED = 12, 8, 3  # of the sequence, before the first place compared, and at the start of all prompts
# What rounding may move log-probabilities by, on average over the vocabulary. SmolLM2-135M: 3e-6 in float32, .007 in float16,
# .05 in bfloat16; a position off by one moves those of a trained model by tenths.
TOLERANCE = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.3}


@torch.inference_mode()
def disagreement(model: Any, vocabulary: int, special_ids: Collection[int]) -> float:
    """Return how far apart the log-probabilities of the two readings are, in nats: the mean over all tokens at the median place.

    The median, since where two experts of a mixture are equally near, rounding may decide at a single place. NaN where the
    model gives no numbers.
    """
    ids = _tokens(vocabulary, special_ids)
    whole_SV = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0, BEGUN - 1 : -1]
    prefixes, logits_1V = prefill(model, read_start(model, ids[:SHARED]), [ids[:BEGUN]], 1)
    read = [logits_1V]
    for token in ids[BEGUN:-1]:
        prefixes, logits_1V = extend(model, prefixes, torch.tensor([0]), torch.tensor([token]), 1)
        read.append(logits_1V)
    return _apart(whole_SV, torch.cat(read))


def _tokens(vocabulary: int, special_ids: Collection[int]) -> tuple[int, ...]:
    """Return tokens that mean nothing in particular: a pad token, say, would be given a position of its own."""
    usual = [i for i in range(vocabulary) if i not in special_ids]
    return tuple(random.Random(0).choices(usual, k=TOKENS))


def _apart(one_SV: Tensor, other_SV: Tensor) -> float:
    one_SV, other_SV = (torch.log_softmax(logits_SV.double(), -1) for logits_SV in (one_SV, other_SV))
    apart_SV = torch.where(one_SV == other_SV, 0.0, (one_SV - other_SV).abs())  # both may be −inf
    return float(apart_SV.mean(-1).median())
