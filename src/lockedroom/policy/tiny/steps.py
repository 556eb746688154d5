"""The embedded model's next-token distributions for texts that branch, by the passes that its sampler uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lockedroom.policy.tiny.decode import bucket_of, extend, prefill
from lockedroom.policy.tiny.model import TinyModel
from lockedroom.policy.tiny.tokenizer import END, Tokenizer


class TinySteps:
    """`lockedroom.protocols.Steps` of a network."""

    ends = frozenset({END})
    rows = 2048

    def __init__(self, model: TinyModel, tokenizer: Tokenizer) -> None:
        self._model = model
        self.pieces: Sequence[str | None] = tokenizer.pieces

    def bucket(self, prompt: Sequence[int]) -> int:
        return bucket_of(len(prompt))

    def begin(self, prompts: Sequence[tuple[int, ...]]) -> tuple[Any, Tensor]:
        return prefill(self._model, prompts, self.bucket(prompts[0]))

    def extend(self, cache: Any, parents_R: Tensor, tokens_R: Tensor) -> tuple[Any, Tensor]:
        return extend(self._model, cache, parents_R, tokens_R)
