"""Which examples a step learns from: a function of (seed, step) alone, so that a resumed run needs no cursor but the step."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from lockedroom.loops.learning.opening import LearnConfig
from lockedroom.records import Example


def step_examples(examples: Sequence[Example], config: LearnConfig, step: int) -> list[Example]:
    """Return the examples of a step: each pass over the dataset is a permutation of its own.

    Whole steps are taken from a pass, so an example comes once in a step; what is left over waits for the next pass.
    """
    prompts = config.prompts or len(examples)
    pass_, place = divmod(step, len(examples) // prompts)
    order = permutation(len(examples), config.sampling.seed, f"pass {pass_}")
    return [examples[i] for i in order[place * prompts : (place + 1) * prompts]]


def permutation(size: int, seed: int, purpose: str) -> list[int]:
    """Return a permutation that belongs to a seed and a purpose."""
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=16, person=b"lockedroom-ord").digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
    order: list[int] = generator.permutation(size).tolist()
    return order
