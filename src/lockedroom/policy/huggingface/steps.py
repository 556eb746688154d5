"""The next-token distributions of a Hugging Face model for texts that branch, by the passes that its sampler uses.

A token is a byte string there; one that is no whole text (a part of a character) and special tokens are not searched with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lockedroom.errors import BadInput
from lockedroom.policy.huggingface.forward import Prefixes, extend
from lockedroom.policy.huggingface.reading import prefill, read_start
from lockedroom.policy.huggingface.spelling import read_spelling
from lockedroom.policy.huggingface.text import TextCodec


class HuggingFaceSteps:
    """`lockedroom.protocols.Steps` of a network. Raises BadInput for a tokenizer that does not decode token by token."""

    def __init__(self, model: Any, codec: TextCodec, batch: int) -> None:
        self._model, self._batch = model, batch
        self._start = read_start(model, codec.shared_ids)
        self.rows = batch
        self.ends = frozenset(codec.end_ids)
        self.pieces: Sequence[str | None] = _pieces(codec, model.get_output_embeddings().weight.shape[0])

    def bucket(self, prompt: Sequence[int]) -> int:
        return self._start.slots(prompt)

    def begin(self, prompts: Sequence[tuple[int, ...]]) -> tuple[Prefixes, Tensor]:
        cache, logits_RV = prefill(self._model, self._start, prompts, self._batch)
        return cache, logits_RV.cpu()

    def extend(self, cache: Prefixes, parents_R: Tensor, tokens_R: Tensor) -> tuple[Prefixes, Tensor]:
        cache, logits_RV = extend(self._model, cache, parents_R, tokens_R, self._batch)
        return cache, logits_RV.cpu()


def _pieces(codec: TextCodec, vocabulary: int) -> list[str | None]:
    spelling = read_spelling(codec.tokenizer, codec.special_ids, codec.where)
    if any(spelling.first[token] != spelled for token, spelled in spelling.behind.items()):
        raise BadInput(
            f"{codec.where}: its tokenizer drops the first space of a text, so what a token adds depends on its place, and "
            "texts cannot be searched token by token; choose among whole completions instead"
        )
    pieces: list[str | None] = [None] * vocabulary
    for token, spelled in spelling.behind.items():
        if token >= vocabulary:
            continue  # the tokenizer's only
        try:
            pieces[token] = spelled.decode() or None
        except UnicodeDecodeError:  # a part of a character
            continue
    return pieces
