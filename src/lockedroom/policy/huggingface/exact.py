"""The probability that a sampled completion has a given text, summed over its tokenisations.

As for the embedded model (`policy.tiny.exact`, whose conventions on endings, stop strings and truncation hold here): the
paths of tokens that spell the texts form a trie, and its nodes are decoded level by level with the sampler's own passes.
A text of n characters may have 2^n tokenisations, so a path is left as soon as it is less than NEGLIGIBLE times as
probable as a completion that is known for every text that it could still become: its canonical tokens or its fewest, with
the ending. So what is left out is under NEGLIGIBLE of a text's probability for each path left.
The vocabulary is read as byte strings (see `spelling`); a token may spell something else at the start of a completion than
behind other tokens. Tokens that spell nothing are not followed, unless they end the completion (or are a first space that
the tokenizer drops): a completion with a special token inside has the same
text and is not summed. Shape letters: N nodes of a level, V vocabulary.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch
from torch import Tensor

from lockedroom.errors import BadInput
from lockedroom.policy.huggingface.forward import extend
from lockedroom.policy.huggingface.reading import Start, prefill, read_start
from lockedroom.policy.huggingface.spelling import read_spelling
from lockedroom.policy.huggingface.text import TextCodec
from lockedroom.policy.limits import check_sampling
from lockedroom.policy.tiny.sample import first_stop, sampled_logprobs
from lockedroom.records import Sampling, TextProbability

if TYPE_CHECKING:
    from lockedroom.policy.huggingface.policy import HuggingFacePolicy

PROMPTS_AT_ONCE = 8
NEGLIGIBLE = 1e-6
MAX_NODES = 4096  # of one level of one prompt


class Vocabulary:
    """Tokens by what they spell, sorted, for look-up by beginning."""

    def __init__(self, spelled: dict[int, bytes]) -> None:
        self.sorted = sorted((piece, i) for i, piece in spelled.items())
        self.ids: dict[bytes, list[int]] = {}
        for piece, i in self.sorted:
            self.ids.setdefault(piece, []).append(i)
        self.longest = max(map(len, self.ids))

    def beginning_with(self, start: bytes) -> Iterator[tuple[bytes, int]]:
        at = bisect.bisect_left(self.sorted, (start, -1))
        while at < len(self.sorted) and self.sorted[at][0].startswith(start):
            yield self.sorted[at]
            at += 1


class Tokens:
    """The tokens of a policy: as the first of a completion, behind others, and those that end it."""

    def __init__(self, codec: TextCodec, known: int) -> None:
        spelling = read_spelling(codec.tokenizer, codec.special_ids, codec.where)
        self.codec, self.known = codec, known
        self.first, self.behind = (
            Vocabulary({i: spelled for i, spelled in pieces.items() if i < known})
            for pieces in (spelling.first, spelling.behind)
        )

    def after(self, path: Sequence[int]) -> Vocabulary:
        return self.behind if path else self.first

    def ways(self, text: str, stops: Sequence[str], limit: int) -> list[tuple[int, ...]]:
        """Return some completions that are this text, ending included: canonical tokens, and the fewest. None: there is no completion."""
        found = [(*path, self.codec.end_ids[0])[:limit] for path in self._usual(text) if len(path) <= limit]
        for stop in stops:
            if first_stop(text + stop, stops) == len(text):
                found += [path for path in self._usual(text + stop) if len(path) <= limit]
        return found

    def _usual(self, text: str) -> list[tuple[int, ...]]:
        canonical = self.codec.encode(text)
        written = self.codec.decode(canonical) == text and all(i < self.known for i in canonical)
        nothing = self.first.ids.get(b"", [])[:1]  # a first space that is dropped
        starts = [(), *((i,) for i in nothing)]
        paths = [path for path in (self._fewest(text.encode(), start) for start in starts) if path is not None]
        return list(dict.fromkeys([*([canonical] if written else []), *paths]))

    def _fewest(self, target: bytes, start: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the fewest tokens behind `start` that spell the target."""
        paths: list[tuple[int, ...] | None] = [start, *[None] * len(target)]  # to each place of it
        for end in range(1, len(target) + 1):
            for begin in range(max(0, end - self.behind.longest), end):
                path, best = paths[begin], paths[end]
                if path is None or (best is not None and len(best) <= len(path) + 1):
                    continue
                ids = self.after(path).ids.get(target[begin:end])
                if ids:
                    paths[end] = (*path, ids[0])
        return paths[-1]


class _Node(msgspec.Struct, frozen=True, gc=False):
    """A beginning of a completion: what its tokens spell, the tokens, and the log of their probability."""

    spelled: bytes
    path: tuple[int, ...]
    log: float


class _Ending(msgspec.Struct, frozen=True, gc=False):
    """A completion ends here as text number `text`: by `token`, or at the token limit (None)."""

    token: int | None
    text: int
    canonical: bool


class _Texts:
    """The texts asked about after one prompt, and which tokens lead to them. `floor`: below it a path is left."""

    def __init__(
        self, tokens: Tokens, texts: Sequence[str], stops: Sequence[str], limit: int, known: Sequence[float]
    ) -> None:
        self.tokens, self.limit = tokens, limit
        self.targets = [text.encode() for text in texts]
        if len(set(self.targets)) != len(texts):
            raise BadInput("texts: the same text is given twice; give each once")
        self.number = {target: i for i, target in enumerate(self.targets)}
        self.canonical = [tokens.codec.encode(text) for text in texts]
        self.stops = [stop.encode() for stop in stops]
        floors = [log + math.log(NEGLIGIBLE) for log in known]
        self.goals = [(target, floor) for target, floor in zip(self.targets, floors, strict=True)]
        self.goals += [(target + stop, floor) for target, floor in self.goals for stop in self.stops]
        self.sums = np.zeros((len(texts), 3))  # total, canonical, truncated

    def _first_stop(self, text: bytes) -> int | None:
        found = [at for at in (text.find(stop) for stop in self.stops) if at >= 0]
        return min(found) if found else None

    def branches(self, node: _Node) -> Iterator[tuple[bytes, int, float]]:
        """Yield (longer spelling, token, floor) for the tokens after which a text can still be reached."""
        if len(node.path) == self.limit:
            return
        vocabulary, begin = self.tokens.after(node.path), len(node.spelled)
        fewest = 1 if node.path else 0  # bytes that a token spells
        floors: dict[bytes, float] = {}
        for goal, floor in self.goals:
            if goal.startswith(node.spelled):
                for end in range(begin + fewest, min(begin + vocabulary.longest, len(goal)) + 1):
                    floors[goal[:end]] = min(floor, floors.get(goal[:end], math.inf))
        for spelled, floor in sorted(floors.items()):
            if self._first_stop(spelled) is None:
                for token in vocabulary.ids.get(spelled[begin:], ()):
                    yield spelled, token, floor

    def endings(self, node: _Node) -> Iterator[_Ending]:
        """Yield the ways in which a completion can end at this node as one of the texts."""
        text = self.number.get(node.spelled)
        if text is not None:
            canonical = node.path == self.canonical[text]
            if len(node.path) == self.limit:
                yield _Ending(None, text, canonical)
            else:
                yield from (_Ending(token, text, canonical) for token in self.tokens.codec.end_ids)
        if self.stops and len(node.path) < self.limit:
            yield from self._stopped(node)

    def _stopped(self, node: _Node) -> Iterator[_Ending]:
        found: dict[int, tuple[int, bytes]] = {}
        vocabulary = self.tokens.after(node.path)
        for target in self.targets:
            for whole in (target + stop for stop in self.stops):
                rest = whole[len(node.spelled) :]
                if rest and whole.startswith(node.spelled):
                    for piece, token in vocabulary.beginning_with(rest):
                        if self._first_stop(node.spelled + piece) == len(target):
                            found[token] = (self.number[target], node.spelled + piece)
        for token, (text, spelled) in found.items():
            canonical = self.tokens.codec.encode(spelled.decode("utf-8", "replace")) == (*node.path, token)
            yield _Ending(token, text, canonical)


class _Member(msgspec.Struct, frozen=True):
    """One prompt with its texts; `index` is its place in the caller's lists."""

    index: int
    prompt: tuple[int, ...]
    texts: _Texts


def completion_probabilities(
    policy: HuggingFacePolicy, prompts: Sequence[str], texts: Sequence[Sequence[str]], sampling: Sampling
) -> list[list[TextProbability]]:
    """Return, for every prompt, the probability of each of its texts as a completion.

    Raises BadInput for a tokenizer that does not decode token by token, for prompts or settings that the sampler refuses, and for
    texts with too many tokenisations that matter.
    """
    check_sampling(sampling)
    tokens = Tokens(policy.codec, policy.vocabulary)
    found: list[list[TextProbability]] = [[] for _ in prompts]
    by_slots: dict[int, list[_Member]] = {}
    start = read_start(policy.model, policy.codec.shared_ids)
    for i, (prompt, asked) in enumerate(zip(prompts, texts, strict=True)):
        ids = policy.prompt_ids(prompt)
        limit = policy.token_limit(ids, sampling)
        sums = _Texts(
            tokens, asked, sampling.stop, limit, _known(policy, tokens, ids, asked, sampling=sampling, limit=limit)
        )
        by_slots.setdefault(start.slots(ids), []).append(_Member(i, ids, sums))
    for members in by_slots.values():
        for first in range(0, len(members), PROMPTS_AT_ONCE):
            _sum_up(policy, start, members[first : first + PROMPTS_AT_ONCE], sampling)
        for member in members:
            found[member.index] = [TextProbability(*row) for row in member.texts.sums.tolist()]
    return found


def _known(
    policy: HuggingFacePolicy,
    tokens: Tokens,
    prompt: tuple[int, ...],
    texts: Sequence[str],
    *,
    sampling: Sampling,
    limit: int,
) -> list[float]:
    """Return for each text the log-probability of one of its completions: the likeliest of those that are tried first.

    Where none is known a text cannot be written, unless a token goes beyond a stop string: then nothing is left out.
    """
    ways = [tokens.ways(text, sampling.stop, limit) for text in texts]
    flat = [ids for some in ways for ids in some]
    sums = iter([sum(logs) for logs in policy.logprobs([prompt] * len(flat), flat, sampling)])
    none = -math.inf if sampling.stop else math.inf
    return [max((next(sums) for _ in some), default=none) for some in ways]


@torch.inference_mode()
def _sum_up(policy: HuggingFacePolicy, start: Start, group: Sequence[_Member], sampling: Sampling) -> None:
    """Follow the tokenisations of every member's texts; all prompts have one `Start.slots`."""
    prefixes, logits_NV = prefill(policy.model, start, [member.prompt for member in group], policy.batch)
    nodes = [(member.texts, _Node(b"", (), 0.0)) for member in group]
    while True:
        logprobs_NV = sampled_logprobs(logits_NV, sampling)
        _add_endings(nodes, logprobs_NV)
        branches = [(row, *branch) for row, (texts, node) in enumerate(nodes) for branch in texts.branches(node)]
        rows, tokens = [branch[0] for branch in branches], [branch[2] for branch in branches]
        steps = logprobs_NV[rows, tokens].tolist() if branches else []
        parents: list[int] = []
        below: list[tuple[_Texts, _Node]] = []
        for (row, spelled, token, floor), step in zip(branches, steps, strict=True):
            texts, node = nodes[row]
            log = node.log + step
            if log > -math.inf and log >= floor:
                parents.append(row)
                below.append((texts, _Node(spelled, (*node.path, token), log)))
        if not below:
            return
        if len(below) > MAX_NODES * len(group):
            raise BadInput(
                f"these texts can be written in more than {MAX_NODES:,} ways that matter; give shorter texts"
            )
        chosen = torch.tensor([node.path[-1] for _, node in below])
        prefixes, logits_NV = extend(policy.model, prefixes, torch.tensor(parents), chosen, policy.batch)
        nodes = below


def _add_endings(nodes: Sequence[tuple[_Texts, _Node]], logprobs_NV: Tensor) -> None:
    for row, (texts, node) in enumerate(nodes):
        for ending in texts.endings(node):
            step = 0.0 if ending.token is None else float(logprobs_NV[row, ending.token])
            shares = np.array([1, ending.canonical, ending.token is None])
            texts.sums[ending.text] += math.exp(node.log + step) * shares
