"""Sampling: many completions at once, each the same as if it had been drawn alone.

One token is drawn by inverting the cumulative distribution, in float64, at a uniform number that belongs to
(seed, step, example id, draw, token). Temperature divides the logits, then top-k keeps the k most probable tokens, then
top-p keeps the fewest of those that hold at least that share (ties: the lower id first). Temperature 0 is greedy: the
most probable token, the lowest id on a tie, and the distribution sampled is then a certainty (log-probability 0).

A completion ends at the end token, which is counted in `max_tokens`; at a stop string, which is cut from the text with
all that follows it, while the tokens that held it stay in `token_ids`; or at the token limit. Shape letters: N draws,
R rows (distinct beginnings of completions), V vocabulary, T tokens of a completion.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import torch
from torch import Tensor

from lockedroom.policy.limits import check_sampling
from lockedroom.policy.tiny.decode import bucket_of, extend, prefill
from lockedroom.policy.tiny.model import TinyModel
from lockedroom.policy.tiny.randomness import TOKENS_PER_HASH, uniforms
from lockedroom.policy.tiny.tokenizer import END, Tokenizer
from lockedroom.records import Completion, FinishReason, Sampling

WAVE_DRAWS = 2048  # draws in flight; changes speed and memory, never a completion


class Ask(msgspec.Struct, frozen=True, gc=False):
    """One completion to draw: the example, the draw, its prompt's ids (start token included) and its token limit."""

    example_id: str
    draw: int
    prompt: tuple[int, ...]
    limit: int


def sampled_logprobs(logits_RV: Tensor, sampling: Sampling) -> Tensor:
    """Return float64 logprobs_RV of the distribution that `sampling` draws from; −inf where it never draws."""
    return torch.log_softmax(_kept_logits(logits_RV, sampling), -1)


def _kept_logits(logits_RV: Tensor, sampling: Sampling) -> Tensor:
    """Return the logits after temperature and truncation, in float64; −inf for tokens that are never drawn."""
    logits_RV = logits_RV.double()
    if sampling.temperature == 0:
        best_R1 = logits_RV.argmax(-1, keepdim=True)  # the first of equals
        return torch.full_like(logits_RV, -math.inf).scatter_(-1, best_R1, 0.0)
    if sampling.temperature != 1:
        logits_RV = logits_RV / sampling.temperature
    V = logits_RV.shape[-1]
    k = min(sampling.top_k or V, V)
    if k == V and sampling.top_p == 1:
        return logits_RV
    sorted_RV, order_RV = logits_RV.sort(stable=True, dim=-1, descending=True)
    sorted_RV[:, k:] = -math.inf
    if sampling.top_p < 1:
        probability_RV = torch.softmax(sorted_RV, -1)
        before_RV = probability_RV.cumsum(-1) - probability_RV
        before_RV[:, 0] = 0  # the most probable token always stays
        sorted_RV.masked_fill_(before_RV >= sampling.top_p, -math.inf)
    return torch.empty_like(sorted_RV).scatter_(-1, order_RV, sorted_RV)


def choose(logits_RV: Tensor, row_N: Tensor, uniform_N: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor, Tensor]:
    """Return for N draws the token drawn, its logprob as sampled, and its logprob under the policy itself.

    Draw n reads row `row_N[n]` of the logits.
    """
    probability_RV = torch.softmax(_kept_logits(logits_RV, sampling), -1)
    cdf_NV = probability_RV.cumsum(-1)[row_N]
    # The first token whose cumulative probability exceeds u; rounding leaves the total a hair off 1, so u is scaled.
    token_N1 = torch.searchsorted(cdf_NV, uniform_N[:, None] * cdf_NV[:, -1:], right=True)
    token_N = token_N1[:, 0].cpu()
    logprob_N = probability_RV[row_N, token_N1[:, 0]].log().cpu()
    if sampling.temperature == 1 and sampling.top_k == 0 and sampling.top_p == 1:
        return token_N, logprob_N, logprob_N
    return token_N, logprob_N, torch.log_softmax(logits_RV.double(), -1)[row_N, token_N1[:, 0]].cpu()


def sample(
    model: TinyModel, tokenizer: Tokenizer, asks: Sequence[Ask], sampling: Sampling, *, step: int = 0
) -> Iterator[Completion]:
    """Yield one completion for each ask, in order. Asks that share a prompt should be neighbours: it is read once."""
    check_sampling(sampling)
    for start in range(0, len(asks), WAVE_DRAWS):
        wave = asks[start : start + WAVE_DRAWS]
        by_bucket: dict[int, list[int]] = {}
        for i, ask in enumerate(wave):
            by_bucket.setdefault(bucket_of(len(ask.prompt)), []).append(i)
        drawn: dict[int, Completion] = {}
        for bucket, members in by_bucket.items():
            run = _Wave(model, tokenizer, [wave[i] for i in members], sampling, step)
            drawn.update(zip(members, run.draw(bucket), strict=True))
        for i in range(len(wave)):
            yield drawn[i]


class _Wave:
    """Draws of one bucket in lock-step. `live` are the draws that have not ended.

    Draws of one prompt that have sampled the same tokens so far are in the same state, so it is computed once: a row of
    the cache is a distinct beginning, and `row_N` says where each live draw stands.
    """

    def __init__(
        self, model: TinyModel, tokenizer: Tokenizer, asks: Sequence[Ask], sampling: Sampling, step: int
    ) -> None:
        self.model, self.tokenizer, self.asks, self.sampling, self.step = model, tokenizer, asks, sampling, step
        self.keys = [(ask.example_id, ask.draw) for ask in asks]
        self.limits_N = torch.tensor([ask.limit for ask in asks])
        self.uniform_NT = np.zeros((len(asks), TOKENS_PER_HASH))
        self.steps: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []  # live draws, tokens, logprobs, policy logprobs
        self.ended_by_limit_N = torch.zeros(len(asks), dtype=torch.bool)
        self.texts = [""] * len(asks)  # kept up only where stop strings are looked for
        self.stopped_at: dict[int, int] = {}

    @torch.inference_mode()
    def draw(self, bucket: int) -> list[Completion]:
        prompts = list(dict.fromkeys(ask.prompt for ask in self.asks))
        number = {prompt: i for i, prompt in enumerate(prompts)}
        cache, logits_RV = prefill(self.model, prompts, bucket)
        live = torch.arange(len(self.asks))
        row_N = torch.tensor([number[ask.prompt] for ask in self.asks])
        V = logits_RV.shape[1]
        for t in range(int(self.limits_N.max())):
            token_N = self._choose(t, live, logits_RV, row_N)
            keep = self._unfinished(t, live, token_N)
            live = live[keep]
            if len(live) == 0:
                break
            beginnings_R, row_N = torch.unique(row_N[keep] * V + token_N[keep], return_inverse=True)
            cache, logits_RV = extend(self.model, cache, beginnings_R // V, beginnings_R % V)
        return self._collect()

    def _choose(self, t: int, live: Tensor, logits_RV: Tensor, row_N: Tensor) -> Tensor:
        column = t % TOKENS_PER_HASH
        draws = live.numpy()
        if column == 0:
            keys = [self.keys[n] for n in draws]
            self.uniform_NT[draws] = uniforms(self.sampling.seed, self.step, keys, t // TOKENS_PER_HASH)
        uniform_N = torch.from_numpy(self.uniform_NT[draws, column]).to(logits_RV.device)
        token_N, logprob_N, policy_N = choose(logits_RV, row_N.to(logits_RV.device), uniform_N, self.sampling)
        self.steps.append((live, token_N, logprob_N, policy_N))
        return token_N

    def _unfinished(self, t: int, live: Tensor, token_N: Tensor) -> Tensor:
        ended_N = token_N == END
        if self.sampling.stop:
            ended_N = ended_N | torch.tensor(self._meets_stop(live.tolist(), token_N.tolist()))
        truncated_N = ~ended_N & (self.limits_N[live] == t + 1)
        self.ended_by_limit_N[live] = truncated_N
        return ~(ended_N | truncated_N)

    def _meets_stop(self, draws: list[int], tokens: list[int]) -> list[bool]:
        for draw, token in zip(draws, tokens, strict=True):
            self.texts[draw] += self.tokenizer.pieces[token]
            cut = first_stop(self.texts[draw], self.sampling.stop)
            if cut is not None:
                self.stopped_at[draw] = cut
        return [draw in self.stopped_at for draw in draws]

    def _collect(self) -> list[Completion]:
        N, T = len(self.asks), len(self.steps)
        ids_NT = np.zeros((N, T), dtype=np.int64)
        logprobs_NT, policy_NT = np.zeros((N, T)), np.zeros((N, T))
        lengths_N = np.zeros(N, dtype=np.int64)
        for t, (live, token_N, logprob_N, policy_N) in enumerate(self.steps):
            draws = live.numpy()
            ids_NT[draws, t], logprobs_NT[draws, t], policy_NT[draws, t] = token_N, logprob_N, policy_N
            lengths_N[draws] = t + 1
        same = self.steps[0][2] is self.steps[0][3]  # nothing was tempered or truncated
        truncated = self.ended_by_limit_N.tolist()
        drawn: list[Completion] = []
        rows = zip(lengths_N.tolist(), ids_NT.tolist(), logprobs_NT.tolist(), policy_NT.tolist(), strict=True)
        for n, (length, ids, logprobs, policy) in enumerate(rows):
            text = self.tokenizer.decode(ids[:length])[: self.stopped_at.get(n)]
            sampled = tuple(logprobs[:length])
            reason = FinishReason.LENGTH if truncated[n] else FinishReason.STOP
            drawn.append(
                Completion(
                    text,
                    logprob=math.fsum(sampled),
                    finish_reason=reason,
                    token_ids=tuple(ids[:length]),
                    token_logprobs=sampled,
                    token_policy_logprobs=sampled if same else tuple(policy[:length]),
                )
            )
        return drawn


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Return where the earliest stop string begins in a text, or None."""
    found = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    return min(found) if found else None
