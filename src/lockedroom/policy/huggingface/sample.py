"""Sampling: many completions at once, each the same as if it had been drawn alone.

As the embedded model's sampler (`policy.tiny.sample`, whose distribution and random numbers are used here): a token is
drawn by inverting the cumulative distribution at a number that belongs to (seed, step, example id, draw, token). A
prompt is read once, whoever shares it, and draws that have sampled the same tokens so far share a row of the network.

Shape letters: N draws, R rows (distinct beginnings), V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lockedroom.policy.huggingface.choose import choose
from lockedroom.policy.huggingface.forward import Prefixes, extend
from lockedroom.policy.huggingface.reading import Start, prefill, read_start
from lockedroom.policy.huggingface.text import TextCodec
from lockedroom.policy.tiny.randomness import TOKENS_PER_HASH, uniforms
from lockedroom.policy.tiny.sample import Ask, first_stop
from lockedroom.records import Completion, FinishReason, Sampling

BATCHES_IN_FLIGHT = 4  # draws of one wave, in batches; as they share beginnings and end, fewer rows are computed


def sample(
    model: Any, codec: TextCodec, asks: Sequence[Ask], sampling: Sampling, *, step: int, batch: int
) -> Iterator[Completion]:
    """Yield one completion for each ask, in order. Asks that share a prompt should be neighbours: it is read once."""
    wave = BATCHES_IN_FLIGHT * batch
    start_of_all = read_start(model, codec.shared_ids)
    for start in range(0, len(asks), wave):
        members: dict[int, list[int]] = {}
        for i, ask in enumerate(asks[start : start + wave], start):
            members.setdefault(0 if start_of_all.packed else start_of_all.slots(ask.prompt), []).append(i)
        drawn: dict[int, Completion] = {}
        for indices in members.values():
            run = _Wave(model, codec, start_of_all, [asks[i] for i in indices], sampling, step=step, batch=batch)
            drawn.update(zip(indices, run.draw(), strict=True))
        for i in sorted(drawn):
            yield drawn[i]


class _Draw:
    """One completion in the making."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.policy_logprobs: list[float] = []
        self.stopped_at: int | None = None
        self.reason: FinishReason | None = None


class _Wave:
    """Draws in lock-step."""

    def __init__(
        self,
        model: Any,
        codec: TextCodec,
        start: Start,
        asks: Sequence[Ask],
        sampling: Sampling,
        *,
        step: int,
        batch: int,
    ) -> None:
        self.model, self.codec, self.start, self.sampling = model, codec, start, sampling
        self.step, self.batch = step, batch
        self.draws = [_Draw(ask) for ask in asks]
        self.uniform_NT = np.zeros((len(asks), TOKENS_PER_HASH))

    def draw(self) -> list[Completion]:
        prompts = sorted(dict.fromkeys(draw.ask.prompt for draw in self.draws), key=self.start.slots)
        number = {prompt: i for i, prompt in enumerate(prompts)}
        prefixes, logits_RV = prefill(self.model, self.start, prompts, self.batch)
        live = list(range(len(self.draws)))
        row_N = torch.tensor([number[draw.ask.prompt] for draw in self.draws])
        t = 0
        while True:
            token_N = self._choose(t, live, logits_RV, row_N)
            keep = [i for i, n in enumerate(live) if not self._ended(self.draws[n])]
            live = [live[i] for i in keep]
            if not live:
                return [self._completion(draw) for draw in self.draws]
            prefixes, logits_RV, row_N = self._advance(prefixes, row_N[keep], token_N[keep])
            t += 1

    def _choose(self, t: int, live: list[int], logits_RV: Tensor, row_N: Tensor) -> Tensor:
        column = t % TOKENS_PER_HASH
        if column == 0:
            keys = [(self.draws[n].ask.example_id, self.draws[n].ask.draw) for n in live]
            self.uniform_NT[live] = uniforms(self.sampling.seed, self.step, keys, t // TOKENS_PER_HASH)
        uniform_N = torch.from_numpy(self.uniform_NT[live, column]).to(logits_RV.device)
        token_N, logprob_N, policy_N = choose(logits_RV, row_N.to(logits_RV.device), uniform_N, self.sampling)
        found = zip(live, token_N.tolist(), logprob_N.tolist(), policy_N.tolist(), strict=True)
        for n, token, logprob, policy_logprob in found:
            draw = self.draws[n]
            draw.ids.append(token)
            draw.logprobs.append(logprob)
            draw.policy_logprobs.append(policy_logprob)
        return token_N

    def _ended(self, draw: _Draw) -> bool:
        if draw.ids[-1] in self.codec.end_ids:
            draw.reason = FinishReason.STOP
        elif len(draw.ids) == draw.ask.limit:
            draw.reason = FinishReason.LENGTH
        if self.sampling.stop:
            text = self.codec.decode(draw.ids)
            # The first bytes of a character decode to U+FFFD, and to something else once the others have come.
            settled = text if draw.reason is not None else text.rstrip("\ufffd")
            draw.stopped_at = first_stop(settled, self.sampling.stop)
            if draw.stopped_at is not None:
                draw.reason = FinishReason.STOP
        return draw.reason is not None

    def _advance(self, prefixes: Prefixes, row_N: Tensor, token_N: Tensor) -> tuple[Prefixes, Tensor, Tensor]:
        """Extend the rows that live draws stand on. Rows nobody stands on stay while they cost no block of their own."""
        V = int(token_N.max()) + 1
        beginnings_R, place_N = torch.unique(row_N * V + token_N, return_inverse=True)
        parents_R, tokens_R = beginnings_R // V, beginnings_R % V
        in_place = len(parents_R.unique()) == len(parents_R) and self._blocks(len(parents_R)) == self._blocks(
            prefixes.rows
        )
        if in_place:
            all_tokens_R = torch.zeros(prefixes.rows, dtype=torch.long)
            all_tokens_R[parents_R] = tokens_R
            prefixes, logits_RV = extend(self.model, prefixes, torch.arange(prefixes.rows), all_tokens_R, self.batch)
            return prefixes, logits_RV, parents_R[place_N]
        prefixes, logits_RV = extend(self.model, prefixes, parents_R, tokens_R, self.batch)
        return prefixes, logits_RV, place_N

    def _blocks(self, rows: int) -> int:
        return -(-rows // self.batch)

    def _completion(self, draw: _Draw) -> Completion:
        return Completion(
            self.codec.decode(draw.ids)[: draw.stopped_at],
            logprob=math.fsum(draw.logprobs),
            finish_reason=draw.reason,
            token_ids=tuple(draw.ids),
            token_logprobs=tuple(draw.logprobs),
            token_policy_logprobs=tuple(draw.policy_logprobs),
        )
