"""Sampling: many completions at once, each the same as if it had been drawn alone.

One token is drawn by inverting the cumulative distribution, in float64, at a uniform number that belongs to
(seed, step, example id, draw, token). Temperature divides the logits, then top-k keeps the k most probable tokens, then
top-p keeps the fewest of those that hold at least that share (ties: the lower id first). Temperature 0 is greedy: the
most probable token, the lowest id on a tie, and the distribution sampled is then a certainty (log-probability 0).

A completion ends at the end token, which is counted in `max_tokens`; at a stop string, which is cut from the text with
all that follows it, while the tokens that held it stay in `token_ids`; or at the token limit. Shape letters: R rows,
V vocabulary, T tokens of a completion.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import torch
from torch import Tensor

from lockedroom.errors import BadInput
from lockedroom.policy.tiny.decode import DECODE_ROWS, bucket_of, decode, padded_rows, prefill
from lockedroom.policy.tiny.model import TinyModel
from lockedroom.policy.tiny.randomness import TOKENS_PER_HASH, uniforms
from lockedroom.policy.tiny.tokenizer import END, Tokenizer
from lockedroom.records import FinishReason, Sampling

WAVE_ROWS = 1024  # rows in flight; changes speed and memory, never a completion


class Ask(msgspec.Struct, frozen=True, gc=False):
    """One completion to draw: the example, the draw, its prompt's ids (start token included) and its token limit."""

    example_id: str
    draw: int
    prompt: tuple[int, ...]
    limit: int


class Drawn(msgspec.Struct, frozen=True, gc=False):
    """One completion with two log-probabilities per token, in nats, end token included.

    `token_logprobs` are of the distribution that was sampled; `token_policy_logprobs` of the policy itself
    (temperature 1, nothing truncated), at the same tokens.
    """

    text: str
    token_ids: tuple[int, ...]
    token_logprobs: tuple[float, ...]
    token_policy_logprobs: tuple[float, ...]
    finish_reason: FinishReason


def check_sampling(sampling: Sampling) -> None:
    """Raise BadInput for settings that are no distribution."""
    if not (math.isfinite(sampling.temperature) and sampling.temperature >= 0):
        raise BadInput(f"temperature: {sampling.temperature}; give a finite number, 0 (greedy) or above")
    if sampling.top_k < 0:
        raise BadInput(f"top_k: {sampling.top_k}; give 0 (keep every token) or the number of tokens to keep")
    if not 0 < sampling.top_p <= 1:
        raise BadInput(f"top_p: {sampling.top_p}; give a share above 0 and up to 1 (keep every token)")
    if sampling.max_tokens is not None and sampling.max_tokens < 1:
        raise BadInput(f"max_tokens: {sampling.max_tokens}; give 1 or more")
    if "" in sampling.stop:
        raise BadInput("stop: an empty stop string would end every completion at once; remove it")


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


def choose(logits_RV: Tensor, uniform_R: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor, Tensor]:
    """Return the token drawn in each row, its logprob as sampled, and its logprob under the policy itself."""
    probability_RV = torch.softmax(_kept_logits(logits_RV, sampling), -1)
    cdf_RV = probability_RV.cumsum(-1)
    # The first token whose cumulative probability exceeds u; rounding leaves the total a hair off 1, so u is scaled.
    tokens_R1 = torch.searchsorted(cdf_RV, uniform_R[:, None] * cdf_RV[:, -1:], right=True)
    logprobs_R = probability_RV.gather(-1, tokens_R1)[:, 0].log()
    if sampling.temperature == 1 and sampling.top_k == 0 and sampling.top_p == 1:
        logprobs_R = logprobs_R.cpu()
        return tokens_R1[:, 0].cpu(), logprobs_R, logprobs_R
    policy_R = torch.log_softmax(logits_RV.double(), -1).gather(-1, tokens_R1)[:, 0]
    return tokens_R1[:, 0].cpu(), logprobs_R.cpu(), policy_R.cpu()


def sample(
    model: TinyModel, tokenizer: Tokenizer, asks: Sequence[Ask], sampling: Sampling, *, step: int = 0
) -> Iterator[Drawn]:
    """Yield one completion for each ask, in order. Asks that share a prompt should be neighbours: it is read once."""
    check_sampling(sampling)
    for start in range(0, len(asks), WAVE_ROWS):
        wave = asks[start : start + WAVE_ROWS]
        by_bucket: dict[int, list[int]] = {}
        for i, ask in enumerate(wave):
            by_bucket.setdefault(bucket_of(len(ask.prompt)), []).append(i)
        drawn: dict[int, Drawn] = {}
        for bucket, members in by_bucket.items():
            run = _Wave(model, tokenizer, [wave[i] for i in members], sampling, step)
            drawn.update(zip(members, run.draw(bucket), strict=True))
        for i in range(len(wave)):
            yield drawn[i]


class _Wave:
    """Rows of one bucket in lock-step; arrays are [row, token], and `live` are the rows that have not ended."""

    def __init__(
        self, model: TinyModel, tokenizer: Tokenizer, asks: Sequence[Ask], sampling: Sampling, step: int
    ) -> None:
        self.model, self.tokenizer, self.asks, self.sampling, self.step = model, tokenizer, asks, sampling, step
        self.keys = [(ask.example_id, ask.draw) for ask in asks]
        self.limits_R = torch.tensor([ask.limit for ask in asks])
        self.steps: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []  # live rows, tokens, logprobs, policy logprobs
        self.ended_by_limit_R = torch.zeros(len(asks), dtype=torch.bool)
        self.texts = [""] * len(asks)  # kept up only where stop strings are looked for
        self.stopped_at: dict[int, int] = {}

    @torch.inference_mode()
    def draw(self, bucket: int) -> list[Drawn]:
        prompts = list(dict.fromkeys(ask.prompt for ask in self.asks))
        number = {prompt: i for i, prompt in enumerate(prompts)}
        prompt_of_R = torch.tensor([number[ask.prompt] for ask in self.asks])
        prefix, logits_PV = prefill(self.model, prompts, bucket)
        device = logits_PV.device
        live = torch.arange(len(self.asks))
        place = live  # where in the cache each live row is
        cache = prefix.select(torch.tensor(list(padded_rows(prompt_of_R.tolist())), device=device))
        logits_RV = logits_PV[prompt_of_R.to(device)]
        for t in range(int(self.limits_R.max())):
            tokens_R = self._choose(t, live, logits_RV)
            keep = self._unfinished(t, live, tokens_R)
            live, place, tokens_R = live[keep], place[keep], tokens_R[keep]
            if len(live) == 0:
                break
            needed = len(live) + (-len(live) % DECODE_ROWS)
            if needed < len(cache.lengths):
                place = cache.shrink(place, needed)
            all_tokens_R = torch.full((len(cache.lengths),), END)
            all_tokens_R[place] = tokens_R
            logits_RV = decode(self.model, cache, all_tokens_R.to(device))[place.to(device)]
        return self._collect()

    def _choose(self, t: int, live: Tensor, logits_RV: Tensor) -> Tensor:
        column = t % TOKENS_PER_HASH
        if column == 0:
            self.uniform_RT = np.zeros((len(self.asks), TOKENS_PER_HASH))
            rows = live.tolist()
            self.uniform_RT[rows] = uniforms(
                self.sampling.seed, self.step, [self.keys[r] for r in rows], t // TOKENS_PER_HASH
            )
        uniform_R = torch.from_numpy(self.uniform_RT[live.numpy(), column]).to(logits_RV.device)
        tokens_R, logprobs_R, policy_R = choose(logits_RV, uniform_R, self.sampling)
        self.steps.append((live, tokens_R, logprobs_R, policy_R))
        return tokens_R

    def _unfinished(self, t: int, live: Tensor, tokens_R: Tensor) -> Tensor:
        ended_R = tokens_R == END
        if self.sampling.stop:
            ended_R = ended_R | torch.tensor(self._meets_stop(live.tolist(), tokens_R.tolist()))
        truncated_R = ~ended_R & (self.limits_R[live] == t + 1)
        self.ended_by_limit_R[live] = truncated_R
        return ~(ended_R | truncated_R)

    def _meets_stop(self, rows: list[int], tokens: list[int]) -> list[bool]:
        for row, token in zip(rows, tokens, strict=True):
            self.texts[row] += self.tokenizer.pieces[token]
            cut = first_stop(self.texts[row], self.sampling.stop)
            if cut is not None:
                self.stopped_at[row] = cut
        return [row in self.stopped_at for row in rows]

    def _collect(self) -> list[Drawn]:
        R, T = len(self.asks), len(self.steps)
        ids_RT = np.zeros((R, T), dtype=np.int64)
        logprobs_RT, policy_RT = np.zeros((R, T)), np.zeros((R, T))
        lengths_R = np.zeros(R, dtype=np.int64)
        for t, (live, tokens_R, step_logprobs_R, step_policy_R) in enumerate(self.steps):
            rows = live.numpy()
            ids_RT[rows, t], logprobs_RT[rows, t], policy_RT[rows, t] = tokens_R, step_logprobs_R, step_policy_R
            lengths_R[rows] = t + 1
        same = self.steps[0][2] is self.steps[0][3]  # nothing was tempered or truncated
        truncated = self.ended_by_limit_R.tolist()
        drawn: list[Drawn] = []
        for row, (length, ids, logprobs, policy) in enumerate(
            zip(lengths_R.tolist(), ids_RT.tolist(), logprobs_RT.tolist(), policy_RT.tolist(), strict=True)
        ):
            text = self.tokenizer.decode(ids[:length])[: self.stopped_at.get(row)]
            reason = FinishReason.LENGTH if truncated[row] else FinishReason.STOP
            sampled = tuple(logprobs[:length])
            drawn.append(Drawn(text, tuple(ids[:length]), sampled, sampled if same else tuple(policy[:length]), reason))
        return drawn


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Return where the earliest stop string begins in a text, or None."""
    found = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    return min(found) if found else None
