"""The exact probability that a sampled completion has a given text: no sampling, no estimate.

A text can be tokenised in many ways, and to the model each way is a different sequence. So the probability of a text is a
sum over token paths. The paths of all the texts asked about, after one prompt, form one trie; its nodes are decoded
level by level with the sampler's own passes. The result is the
probability of the event "the sampler returns exactly this text", for the given sampling settings:

- an end token right after the text, where the end token still fits in the token limit;
- a stop string that begins right after the text and is the first in the completion, whatever the token that completes
  it adds behind it (none of that is in the text);
- the token limit reached exactly at the end of the text. Such a completion is *truncated* (finish reason `length`); its
  share is also given apart, so that a caller who counts truncation as no answer can subtract it.

A text that holds a stop string has probability 0. Probabilities of different texts are of exclusive events and sum to at
most 1. Cost: one decoded row a trie node. Shape letters: N nodes of a level, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lockedroom.errors import BadInput
from lockedroom.policy.limits import check_sampling
from lockedroom.policy.tiny.decode import bucket_of, extend, prefill
from lockedroom.policy.tiny.policy import TinyPolicy
from lockedroom.policy.tiny.sample import first_stop, sampled_logprobs
from lockedroom.policy.tiny.tokenizer import END, Tokenizer
from lockedroom.records import Sampling, TextProbability

MAX_NODES = 20_000  # of one prompt's trie: about 0.2 s and, at its widest level, under a gigabyte
ROWS = 2048  # trie nodes of one level in flight; prompts are grouped up to this many


class Level(msgspec.Struct, frozen=True):
    """Nodes of one depth: node n extends node `parents[n]` of the level above by `tokens[n]`.

    `endings` are (node, ending token or -1 for the token limit, text, whether the tokens are canonical).
    """

    parents: list[int]
    tokens: list[int]
    endings: list[tuple[int, int, int, bool]]


class _Member(msgspec.Struct, frozen=True):
    """One prompt with the trie of its texts; `index` is its place in the caller's lists."""

    index: int
    prompt: tuple[int, ...]
    texts: int
    levels: list[Level]


def completion_probabilities(
    policy: TinyPolicy, prompts: Sequence[str], texts: Sequence[Sequence[str]], sampling: Sampling
) -> list[list[TextProbability]]:
    """Return, for every prompt, the probability of each of its texts as a completion.

    Raises BadInput for prompts, texts or settings that the sampler refuses, and for a text with too many tokenisations.
    """
    check_sampling(sampling)
    found: list[list[TextProbability]] = [[] for _ in prompts]
    by_bucket: dict[int, list[_Member]] = {}
    for i, (prompt, accepted) in enumerate(zip(prompts, texts, strict=True)):
        ids = policy.prompt_ids(prompt)
        levels = build_trie(policy.tokenizer, accepted, sampling.stop, policy.token_limit(ids, sampling))
        by_bucket.setdefault(bucket_of(len(ids)), []).append(_Member(i, ids, len(accepted), levels))
    for bucket, members in by_bucket.items():
        for group in _groups(members):
            sums = _sum_group(policy, group, bucket, sampling)
            for member, sums_TK in zip(group, sums.tolist(), strict=True):
                found[member.index] = [TextProbability(*row) for row in sums_TK[: member.texts]]
    return found


def build_trie(tokenizer: Tokenizer, texts: Sequence[str], stops: Sequence[str], limit: int) -> list[Level]:
    """Return the trie of all token paths that can end as one of the texts within `limit` tokens, level by level."""
    number = {text: i for i, text in enumerate(texts)}
    if len(number) != len(texts):
        raise BadInput("texts: the same text is given twice; give each once")
    goals = [*texts, *(text + stop for text in texts for stop in stops)]
    longest = max(map(len, tokenizer.pieces))
    branches: dict[str, list[tuple[int, str]]] = {}
    endings: dict[str, list[tuple[int, int, str]]] = {}
    levels = [Level([0], [END], [])]
    paths: list[tuple[str, tuple[int, ...]]] = [("", ())]
    nodes = 1
    while paths:
        level = levels[-1]
        below: list[tuple[str, tuple[int, ...]]] = []
        parents: list[int] = []
        for node, (text, path) in enumerate(paths):
            if len(path) == limit:
                if text in number:
                    level.endings.append((node, -1, number[text], tokenizer.encode(text) == path))
                continue
            if text not in branches:
                branches[text] = list(_branches(tokenizer, text, goals, stops, longest))
                endings[text] = list(_endings(tokenizer, text, number, stops))
            for token, text_number, spelled in endings[text]:
                sampled = path if token == END else (*path, token)
                level.endings.append((node, token, text_number, tokenizer.encode(spelled) == sampled))
            below += [(longer, (*path, token)) for token, longer in branches[text]]
            parents += [node] * len(branches[text])
        nodes += len(below)
        if nodes > MAX_NODES:
            raise BadInput(
                f"text {texts[0]!r}: more than {MAX_NODES:,} ways to begin it in tokens; give a shorter text"
            )
        paths = below
        if paths:
            levels.append(Level(parents, [path[-1] for _, path in paths], []))
    return levels


def _branches(
    tokenizer: Tokenizer, text: str, goals: Sequence[str], stops: Sequence[str], longest: int
) -> Iterator[tuple[int, str]]:
    """Yield (token, longer text) for the tokens after which a goal can still be reached and no stop has been met."""
    seen: set[int] = set()
    for goal in goals:
        if not goal.startswith(text):
            continue
        for end in range(len(text) + 1, min(len(text) + longest, len(goal)) + 1):
            token = tokenizer.id_of.get(goal[len(text) : end])
            if token is not None and token not in seen and first_stop(goal[:end], stops) is None:
                seen.add(token)
                yield token, goal[:end]


def _endings(
    tokenizer: Tokenizer, text: str, number: dict[str, int], stops: Sequence[str]
) -> Iterator[tuple[int, int, str]]:
    """Yield (token, text number, what the tokens spell) for the tokens that end a completion here as one of the texts."""
    if text in number:
        yield END, number[text], text
    for token, piece in enumerate(tokenizer.pieces if stops else ()):
        spelled = text + piece
        cut = first_stop(spelled, stops)
        if token != END and cut is not None and spelled[:cut] in number:
            yield token, number[spelled[:cut]], spelled


def _groups(members: Sequence[_Member]) -> Iterator[list[_Member]]:
    """Yield consecutive members whose widest levels together hold at most ROWS nodes."""
    group: list[_Member] = []
    width = 0
    for member in members:
        own = max(len(level.tokens) for level in member.levels)
        if group and width + own > ROWS:
            yield group
            group, width = [], 0
        group.append(member)
        width += own
    yield group


@torch.inference_mode()
def _sum_group(policy: TinyPolicy, group: list[_Member], bucket: int, sampling: Sampling) -> NDArray[np.float64]:
    """Return [prompt, text, (total, canonical, truncated)] for prompts of one bucket."""
    sums = np.zeros((len(group), max(member.texts for member in group), 3))
    cache, logits_NV = prefill(policy.model, [member.prompt for member in group], bucket)
    logprobs_NV = sampled_logprobs(logits_NV, sampling).cpu()
    path_N = torch.zeros(len(group), dtype=torch.float64)
    first = list(range(len(group)))  # the row of each prompt's first node in the level
    _add_endings(sums, [member.levels[0] for member in group], first, path_N[:, None] + logprobs_NV, path_N)
    for depth in range(1, max(len(member.levels) for member in group)):
        here = [member.levels[depth] if depth < len(member.levels) else _NOTHING for member in group]
        parents = [row + parent for row, level in zip(first, here, strict=True) for parent in level.parents]
        tokens = [token for level in here for token in level.tokens]
        path_N = path_N[parents] + logprobs_NV[parents, tokens]
        cache, logits_NV = extend(policy.model, cache, torch.tensor(parents), torch.tensor(tokens))
        logprobs_NV = sampled_logprobs(logits_NV, sampling).cpu()
        first = np.cumsum([0, *(len(level.tokens) for level in here[:-1])]).tolist()
        _add_endings(sums, here, first, path_N[:, None] + logprobs_NV, path_N)
    return sums


def _add_endings(
    sums: NDArray[np.float64], here: list[Level], first: list[int], next_NV: Tensor, path_N: Tensor
) -> None:
    """Add what ends at this level: next_NV holds log P(path, then token), path_N log P(path)."""
    found = [
        (first[prompt] + node, token, prompt, text, canonical)
        for prompt, level in enumerate(here)
        for node, token, text, canonical in level.endings
    ]
    if not found:
        return
    row_E, token_E, prompt_E, text_E, canonical_E = np.array(found, dtype=np.int64).T
    by_limit_E = token_E < 0
    log_E = np.where(by_limit_E, path_N.numpy()[row_E], next_NV.numpy()[row_E, token_E])
    probability_E = np.exp(log_E)
    for column, share_E in enumerate((1, canonical_E, by_limit_E)):
        np.add.at(sums[..., column], (prompt_E, text_E), probability_E * share_E)


_NOTHING = Level([], [], [])
