"""Search that is guided by which prefixes can still become well-formed: constrained sampling, and beam search.

A *language* says which prefixes are viable and which texts are complete. Neither is told the right answer, so this guides
towards the form that is paid, never towards the answer.

Constrained sampling draws every token from the policy's distribution cut to the tokens that keep the text viable (the end
token: only after a complete text) and renormalised. Drawing again until a viable token comes would give the same
distribution. A text from which no token leads on is dead: it is banned, and the draw is made again with the same random
numbers, which takes it back to the last token that can be chosen otherwise; that is the backtracking. Renormalising token by
token is not the policy conditioned on the language: Σ log q − Σ log p of a draw is what it strayed, and its mean is
KL(search ‖ policy). Beam search is deterministic: the most probable of the viable paths that `width` beams keep.

Cost is counted in tokens: next-token distributions used, abandoned draws and beams included. Shape letters as in `sample`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
import torch
from torch import Tensor

from lockedroom.errors import BadInput
from lockedroom.policy.limits import check_sampling
from lockedroom.policy.tiny.randomness import TOKENS_PER_HASH, uniforms
from lockedroom.policy.tiny.sample import Ask, sampled_logprobs
from lockedroom.policy.tiny.tokenizer import END
from lockedroom.protocols import Prompt, Searchable, Steps
from lockedroom.records import FinishReason, Sampling

T = TypeVar("T")
MOST_REDRAWS = 1000  # dead texts met one after the other before a search is given up


class Guided(msgspec.Struct, frozen=True, gc=False):
    """One completion found. `logprob` is under what was searched with (for a beam, the policy), `policy_logprobs` under
    the policy itself, token by token; `tokens` is the cost, `redraws` how often a dead text was met."""

    text: str
    token_ids: tuple[int, ...]
    logprob: float
    policy_logprobs: tuple[float, ...]
    finish_reason: FinishReason
    tokens: int
    redraws: int


class Language:
    """Which tokens may follow a text. It is a class because answers, masks and dead texts are remembered.

    What becomes well formed does so by way of its beginnings, so only the first characters of tokens are asked about at first,
    and then the tokens that begin with a viable one.
    """

    def __init__(
        self,
        pieces: Sequence[str | None],
        viable: Callable[[Sequence[str]], Sequence[bool]],
        complete: Callable[[str], bool],
        ends: frozenset[int] = frozenset({END}),
    ) -> None:
        self._viable, self._complete, self._ends, self._size = viable, complete, ends, len(pieces)
        self._by_first: dict[str, list[tuple[int, str]]] = {}
        for i, piece in enumerate(pieces):
            if piece and i not in ends:
                self._by_first.setdefault(piece[0], []).append((i, piece))
        self._open: dict[str, list[tuple[int, str]]] = {}
        self._masks: dict[str, Tensor] = {}
        self._dead: set[str] = set()

    def mask(self, text: str) -> Tensor:
        """Return allowed_V: the tokens after which the text is viable, and the end tokens if it is complete."""
        found = self._masks.get(text)
        if found is None:
            if text not in self._open:
                self._open[text] = self._viable_after(text)
            found = torch.zeros(self._size, dtype=torch.bool)
            found[[i for i, piece in self._open[text] if text + piece not in self._dead]] = True
            found[list(self._ends)] = self._complete(text)
            self._masks[text] = found
        return found

    def _viable_after(self, text: str) -> list[tuple[int, str]]:
        firsts = self._asked([(first, first) for first in self._by_first], text)
        begun = [(i, piece) for first, _ in firsts for i, piece in self._by_first[first]]
        longer = self._asked([one for one in begun if len(one[1]) > 1], text)
        return [one for one in begun if len(one[1]) == 1] + longer

    def _asked(self, tokens: list[tuple[T, str]], text: str) -> list[tuple[T, str]]:
        said = self._viable([text + piece for _, piece in tokens])
        return [token for token, viable in zip(tokens, said, strict=True) if viable]

    def bury(self, text: str) -> None:
        """Ban a text from which nothing leads on. Raises BadInput when that is the empty one."""
        if text == "":
            raise BadInput("search: no completion of this policy is viable; check what --measure accepts")
        self._dead.add(text)
        self._masks.clear()


class _Path(msgspec.Struct, frozen=True, gc=False):
    """A beginning of a completion; `live` until it ends."""

    text: str = ""
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    policy_logprobs: tuple[float, ...] = ()


def sample_viable(
    policy: Searchable, prompts: Sequence[Prompt], draws: range, sampling: Sampling, language: Language
) -> list[Guided]:
    """Return a constrained draw of every prompt and draw number, prompt by prompt. The random numbers are the sampler's own.

    Raises BadInput for settings or prompts that the sampler refuses, and where nothing is viable.
    """
    steps = policy.steps()
    asks = _asks(policy, prompts, draws, sampling)
    spent, redraws = [0] * len(asks), [0] * len(asks)
    done: dict[int, Guided] = {}
    waiting = list(range(len(asks)))
    while waiting:
        for members in _together(steps, asks, waiting):
            paths = _constrained_wave(policy, steps, [asks[i] for i in members], sampling, language)
            for i, (path, reason) in zip(members, paths, strict=True):
                spent[i] += len(path.ids)
                if reason is None:
                    redraws[i] += 1
                    continue
                done[i] = Guided(path.text, path.ids, math.fsum(path.logprobs), path.policy_logprobs, reason, spent[i],
                                 redraws[i])  # fmt: skip
        waiting = [i for i in waiting if i not in done]
        if any(redraws[i] > MOST_REDRAWS for i in waiting):
            raise BadInput(f"search: {MOST_REDRAWS} dead ends in one draw; this language is too narrow for the policy")
    return [done[i] for i in range(len(asks))]


@torch.inference_mode()
def _constrained_wave(
    policy: Searchable, steps: Steps, asks: Sequence[Ask], sampling: Sampling, language: Language
) -> list[tuple[_Path, FinishReason | None]]:
    """Draw once for each ask (all of one bucket); the reason is None for a draw that ran into a dead text."""
    paths = [_Path() for _ in asks]
    reasons: list[FinishReason | None] = [None] * len(asks)
    prompts = list(dict.fromkeys(ask.prompt for ask in asks))
    cache, logits_RV = steps.begin(prompts)
    rows = {n: prompts.index(ask.prompt) for n, ask in enumerate(asks)}  # live draw -> row
    for t in range(max(ask.limit for ask in asks)):
        keys = [(asks[n].example_id, asks[n].draw) for n in rows]
        u_N = uniforms(sampling.seed, 0, keys, t // TOKENS_PER_HASH)[:, t % TOKENS_PER_HASH].tolist()
        policy_RV = torch.log_softmax(logits_RV.double(), -1)
        going: dict[int, tuple[int, int]] = {}
        for (n, row), u in zip(rows.items(), u_N, strict=True):
            allowed_V = language.mask(paths[n].text)
            if not allowed_V.any():
                language.bury(paths[n].text)
                continue
            logprob_V = sampled_logprobs(logits_RV[row : row + 1].masked_fill(~allowed_V, -math.inf), sampling)[0]
            cdf_V = logprob_V.exp().cumsum(-1)
            token = int(torch.searchsorted(cdf_V, u * float(cdf_V[-1]), right=True))
            paths[n] = _longer(policy, paths[n], token, float(logprob_V[token]), float(policy_RV[row, token]))
            if token in steps.ends:
                reasons[n] = FinishReason.STOP
            elif t + 1 == asks[n].limit:
                reasons[n] = FinishReason.LENGTH
            else:
                going[n] = (row, token)
        if not going:
            break
        beginnings = list(dict.fromkeys(going.values()))
        parents, tokens = torch.tensor(beginnings).T
        cache, logits_RV = steps.extend(cache, parents, tokens)
        rows = {n: beginnings.index(beginning) for n, beginning in going.items()}
    return list(zip(paths, reasons, strict=True))


def beam_search(
    policy: Searchable, prompts: Sequence[Prompt], width: int, sampling: Sampling, language: Language | None
) -> list[Guided]:
    """Return for every prompt the most probable ended path that `width` beams find; no language: every text is viable.

    Temperature, top-k and top-p do not apply; `max_tokens` does. A path that the token limit cuts counts only where no other
    has ended. Raises BadInput for a width below 1, and as `sample_viable`.
    """
    if width < 1:
        raise BadInput(f"--width {width}: must be at least 1")
    steps = policy.steps()
    asks = _asks(policy, prompts, range(1), sampling)
    found: dict[int, Guided] = {}
    for members in _together(steps, asks, range(len(asks))):
        for i, one in zip(members, _beams(policy, steps, [asks[i] for i in members], width, language), strict=True):
            found[i] = one
    return [found[i] for i in range(len(asks))]


@torch.inference_mode()
def _beams(
    policy: Searchable, steps: Steps, asks: Sequence[Ask], width: int, language: Language | None
) -> list[Guided]:
    cache, logits_RV = steps.begin([ask.prompt for ask in asks])
    live: list[list[tuple[int, _Path]]] = [[(row, _Path())] for row in range(len(asks))]  # (row of the cache, path)
    ended: list[list[tuple[float, _Path, FinishReason]]] = [[] for _ in asks]
    spent = [0] * len(asks)
    for t in range(max(ask.limit for ask in asks)):
        logprob_RV = torch.log_softmax(logits_RV.double(), -1)
        parents: list[int] = []
        tokens: list[int] = []
        for i, beams in enumerate(live):
            spent[i] += len(beams)
            live[i] = []
            for row, path, token in _expand(policy, beams, logprob_RV, width, language):
                if token in steps.ends:
                    ended[i].append((math.fsum(path.policy_logprobs), path, FinishReason.STOP))
                elif t + 1 == asks[i].limit:
                    ended[i].append((math.fsum(path.policy_logprobs), path, FinishReason.LENGTH))
                else:
                    live[i].append((len(parents), path))
                    parents.append(row)
                    tokens.append(token)
            if _settled(ended[i], live[i]):
                del parents[len(parents) - len(live[i]) :], tokens[len(tokens) - len(live[i]) :]
                live[i] = []
        if not parents:
            break
        cache, logits_RV = steps.extend(cache, torch.tensor(parents), torch.tensor(tokens))
    return [_best(ends, tokens_spent) for ends, tokens_spent in zip(ended, spent, strict=True)]


def _expand(
    policy: Searchable, beams: Sequence[tuple[int, _Path]], logprob_RV: Tensor, width: int, language: Language | None
) -> list[tuple[int, _Path, int]]:
    """Return the `width` most probable viable steps of a prompt's beams, as (row, longer path, token)."""
    if not beams:
        return []
    V = logprob_RV.shape[1]
    scores_BV = torch.stack([logprob_RV[row] + math.fsum(path.policy_logprobs) for row, path in beams])
    if language is not None:
        scores_BV = scores_BV.masked_fill(~torch.stack([language.mask(path.text) for _, path in beams]), -math.inf)
    scores, places = scores_BV.flatten().sort(stable=True, descending=True)
    steps = []
    for score, place in zip(scores[:width].tolist(), places[:width].tolist(), strict=True):
        if score > -math.inf:
            row, path = beams[place // V]
            logprob = float(logprob_RV[row, place % V])
            steps.append((row, _longer(policy, path, place % V, logprob, logprob), place % V))
    return steps


def _settled(ended: Sequence[tuple[float, _Path, FinishReason]], live: Sequence[tuple[int, _Path]]) -> bool:
    """Whether no live beam can still become more probable than one that has ended."""
    stopped = [score for score, _, reason in ended if reason is FinishReason.STOP]
    best_live = max((math.fsum(path.policy_logprobs) for _, path in live), default=-math.inf)
    return bool(stopped) and max(stopped) >= best_live


def _best(ended: Sequence[tuple[float, _Path, FinishReason]], spent: int) -> Guided:
    if not ended:
        raise BadInput("search: every beam ran into a dead end; give a larger --width")
    score, path, reason = max(ended, key=lambda one: (one[2] is FinishReason.STOP, one[0]))
    return Guided(path.text, path.ids, score, path.policy_logprobs, reason, spent, 0)


def _longer(policy: Searchable, path: _Path, token: int, logprob: float, policy_logprob: float) -> _Path:
    ids = (*path.ids, token)
    return _Path(
        policy.decode(ids),
        ids,
        (*path.logprobs, logprob),
        (*path.policy_logprobs, policy_logprob),
    )


def _asks(policy: Searchable, prompts: Sequence[Prompt], draws: range, sampling: Sampling) -> list[Ask]:
    check_sampling(sampling)
    if sampling.stop:
        raise BadInput("search: stop strings are not supported; the scorer's language says where a completion ends")
    asks = []
    for prompt in prompts:
        ids = policy.prompt_ids(prompt.prompt, prompt.id)
        limit = policy.token_limit(ids, sampling)
        asks += [Ask(prompt.id, draw, ids, limit) for draw in draws]
    return asks


def _together(steps: Steps, asks: Sequence[Ask], members: Sequence[int]) -> list[list[int]]:
    """Return which asks are read together: of one bucket, and no more than may be in flight."""
    found: dict[int, list[int]] = {}
    for i in members:
        found.setdefault(steps.bucket(asks[i].prompt), []).append(i)
    return [bucket[at : at + steps.rows] for bucket in found.values() for at in range(0, len(bucket), steps.rows)]
