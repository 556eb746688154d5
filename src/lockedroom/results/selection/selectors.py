"""The selectors that ship: each chooses one of several completions of one prompt.

Most give every completion a value and take the greatest. How ties are broken is part of the selector (`Ties`).

Only `best-of-n`, `proxy:SCORER`, `kl-regularized` and `rejection-sampling` see verdicts, and they are of another type
(`JudgedSelector`): whatever only has `select` cannot be given a reward. A completion that could not be judged has none,
so such a selector takes it only where nothing was judged.
"""

from __future__ import annotations

import abc
import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from lockedroom.errors import BadInput
from lockedroom.protocols import JudgedSelector, Prompt, Selector
from lockedroom.records import Completion, Example, Failure, Outcome, Score
from lockedroom.scorer.builtin import BUILTIN, find_builtin
from lockedroom.visible import visible

PROXY = "proxy:"
# How far above 0 the sum of a certain completion's float32 log-probabilities may come out, in nats.
ROUNDING = 1e-3
# Answers are not read: maj@n is then unknown.
NO_PARSER = "none"
VOTING = ("majority-vote", "weighted-vote")
# The selectors that are told what the *measuring* scorer said; a proxy is told what the proxy said.
TOLD = ("best-of-n", "kl-regularized", "rejection-sampling")
NAMES = ("first", "random", "logprob", "mean-logprob", *VOTING, *TOLD)
# Parsing an answer must not depend on the right one, so it is done against an answer that no dataset has.
PROBE = Example(id="probe", prompt="", expected_answer="-907182736455463728190")

Parse = Callable[[str], str | None]
TieRule = Literal["logprob", "random", "shorter"]


class Ties(msgspec.Struct, frozen=True):
    """How equals are put in order. `logprob`: the more probable under the policy first (one that is not recorded comes last),
    then as `shorter`: the shorter text, the lexicographically first, the first drawn. `random`: by a hash of (seed, example
    id, position), which knows nothing of the completion.
    """

    rule: TieRule = "logprob"
    seed: int = 0

    def places(self, asked_id: str, completions: Sequence[Completion]) -> list[int]:
        """Return the place of each completion by the tie-break alone, 0 for the first."""
        if self.rule == "random":
            return _places([_hashed(f"{self.seed}/tie/{i}/{asked_id}") for i in range(len(completions))])
        if self.rule == "shorter":
            return _places([(len(one.text), one.text) for one in completions])
        return _places([
            (math.inf if one.logprob is None else -one.logprob, len(one.text), one.text) for one in completions
        ])  # fmt: skip


BY_LOGPROB = Ties()


def _hashed(key: str) -> int:
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16, person=b"lockedroom-pick").digest()
    return int.from_bytes(digest)


class First(msgspec.Struct, frozen=True):
    """The first drawn: no selection."""

    def select(self, asked: Prompt, completions: Sequence[Completion]) -> int:  # noqa: ARG002  (the seam)
        return 0


class Random(msgspec.Struct, frozen=True):
    """One at random: the position hashes (seed, example id, number of completions)."""

    seed: int

    def select(self, asked: Prompt, completions: Sequence[Completion]) -> int:
        return _hashed(f"{self.seed}/{len(completions)}/{asked.id}") % len(completions)


class Valued(abc.ABC):
    """A selector that gives every completion a value of its own, so that one order serves every group of draws."""

    @abc.abstractmethod
    def values(
        self, asked: Prompt, completions: Sequence[Completion], results: Sequence[Score | Failure]
    ) -> Sequence[float | None]:
        """Return the value of each completion; None, below every number, for one that could not be judged."""


class ByPolicy(Valued):
    """Values that need no verdict: none is passed on."""

    def select(self, asked: Prompt, completions: Sequence[Completion]) -> int:
        return _best(asked, self.values(asked, completions, ()), completions, BY_LOGPROB)


class ByVerdict(Valued):
    """Values made of verdicts."""

    def select_judged(
        self, asked: Prompt, completions: Sequence[Completion], results: Sequence[Score | Failure]
    ) -> int:
        return _best(asked, self.values(asked, completions, results), completions, BY_LOGPROB)


class LogProb(ByPolicy):
    """The most probable under the policy."""

    def values(
        self,
        asked: Prompt,
        completions: Sequence[Completion],
        results: Sequence[Score | Failure],  # noqa: ARG002  (not looked at)
    ) -> list[float]:
        return [_logprob(asked, one) for one in completions]


class MeanLogProb(ByPolicy):
    """The greatest log-probability a token, which does not favour short completions."""

    def values(
        self,
        asked: Prompt,
        completions: Sequence[Completion],
        results: Sequence[Score | Failure],  # noqa: ARG002  (not looked at)
    ) -> list[float]:
        return [_logprob(asked, one) / _tokens(asked, one) for one in completions]


class MajorityVote(msgspec.Struct, frozen=True):
    """A completion of the most frequent parsed answer (self-consistency, Wang et al. 2022, arXiv:2203.11171).

    What does not parse has no vote; where nothing parses, the tie-break decides alone.
    """

    parse: Parse
    ties: Ties = BY_LOGPROB

    def select(self, asked: Prompt, completions: Sequence[Completion]) -> int:
        here = range(len(completions))
        return most_voted([self.parse(one.text) for one in completions], self.ties.places(asked.id, completions), here)


class WeightedVote(msgspec.Struct, frozen=True):
    """Like a majority vote, each completion weighted by its probability under the policy."""

    parse: Parse
    ties: Ties = BY_LOGPROB

    def select(self, asked: Prompt, completions: Sequence[Completion]) -> int:
        logprobs = [_logprob(asked, one) for one in completions]
        top = max(logprobs)  # weights are relative to it, so that long completions do not underflow together
        weights: dict[str, list[float]] = {}
        answers = [self.parse(one.text) for one in completions]
        for answer, logprob in zip(answers, logprobs, strict=True):
            if answer is not None:
                weights.setdefault(answer, []).append(math.exp(logprob - top))
        sums = {answer: math.fsum(parts) for answer, parts in weights.items()}
        return _best(asked, [None if answer is None else sums[answer] for answer in answers], completions, self.ties)


class BestOfN(ByVerdict):
    """The greatest reward: argmax R."""

    def values(
        self,
        asked: Prompt,  # noqa: ARG002  (the seam)
        completions: Sequence[Completion],  # noqa: ARG002
        results: Sequence[Score | Failure],
    ) -> list[float | None]:
        return [result.reward if isinstance(result, Score) else None for result in results]


class KlRegularized(ByVerdict):
    """The greatest reward − β·(logprob − ref_logprob): the reward, less what straying from the reference costs."""

    def __init__(self, beta: float) -> None:
        self.beta = beta

    def values(
        self, asked: Prompt, completions: Sequence[Completion], results: Sequence[Score | Failure]
    ) -> list[float | None]:
        values: list[float | None] = []
        for one, result in zip(completions, results, strict=True):
            drift = _logprob(asked, one) - _ref_logprob(asked, one)
            values.append(result.reward - self.beta * drift if isinstance(result, Score) else None)
        return values


class RejectionSampling(msgspec.Struct, frozen=True):
    """The first that passes; if none does, the last one drawn."""

    def select_judged(
        self,
        asked: Prompt,  # noqa: ARG002  (the seam)
        completions: Sequence[Completion],
        results: Sequence[Score | Failure],
    ) -> int:
        passing = (i for i, result in enumerate(results) if passed(result))
        return next(passing, len(completions) - 1)


def builtin_selector(
    name: str, *, seed: int, beta: float, parse: Parse, ties: Ties = BY_LOGPROB
) -> Selector | JudgedSelector | None:
    """Return the selector of this name (`proxy:SCORER` included), or None."""
    made: dict[str, Selector | JudgedSelector] = {
        "first": First(),
        "random": Random(seed),
        "logprob": LogProb(),
        "mean-logprob": MeanLogProb(),
        "majority-vote": MajorityVote(parse, ties),
        "weighted-vote": WeightedVote(parse, ties),
        "best-of-n": BestOfN(),
        "kl-regularized": KlRegularized(beta),
        "rejection-sampling": RejectionSampling(),
    }
    return BestOfN() if name.startswith(PROXY) else made.get(name)


class KnownAnswers:
    """Answers that were read elsewhere, of the texts at hand; a class because they are filled in as a stream goes by."""

    def __init__(self) -> None:
        self.by_text: dict[str, str | None] = {}

    def __call__(self, text: str) -> str | None:
        return self.by_text[text]


def parser(scorer: str) -> Parse:
    """Return what a built-in scorer reads as the answer of a completion, whatever the right answer is; remembers texts.

    `NO_PARSER` reads nothing.
    """
    if scorer == NO_PARSER:
        return lambda _text: None
    found = find_builtin(scorer)
    if found is None:
        raise BadInput(
            f"--parse {visible(scorer, 60)!r}: answers are parsed by {' or '.join(BUILTIN)}, or by your own as path/to/file.py:function"
        )
    score = found.score
    known: dict[str, str | None] = {}

    def parse(text: str) -> str | None:
        if text not in known:
            if len(known) >= 100_000:
                known.clear()
            known[text] = score(PROBE, text).details.parsed
        return known[text]

    return parse


def _best(asked: Prompt, values: Sequence[float | None], completions: Sequence[Completion], ties: Ties) -> int:
    """Return the position of the greatest value; None is below every number."""
    return ranks_within(values, ties.places(asked.id, completions)).index(0)


def ranks_within(values: Sequence[float | None], ties: Sequence[int]) -> list[int]:
    """Return the place of each completion, 0 for the best, by value and then by `ties`; no two are alike."""
    return _places([(math.inf if value is None else -value, tie) for value, tie in zip(values, ties, strict=True)])


def _places(keys: Sequence[Any]) -> list[int]:
    """Return the place of each key in ascending order, equals in the order given."""
    places = [0] * len(keys)
    for place, i in enumerate(sorted(range(len(keys)), key=keys.__getitem__)):
        places[i] = place
    return places


def most_voted(answers: Sequence[str | None], places: Sequence[int], here: Sequence[int]) -> int:
    """Return which of the completions `here` is the first, by `places`, of those with a most frequent answer."""
    if len(here) == 2:  # by far the most groups: two answers never outvote one another
        one, other = here
        if (answers[one] is None) != (answers[other] is None):
            return other if answers[one] is None else one
        return one if places[one] < places[other] else other
    if len(here) <= 4:  # counting by comparison is quicker than a table; what is not parsed has no vote
        group = [answers[i] for i in here]
        draws = len(places)
        keys = [places[i] - (0 if a is None else 3 * draws * group.count(a)) for i, a in zip(here, group, strict=True)]
        return here[keys.index(min(keys))]
    votes: dict[str, int] = {}
    for i in here:
        answer = answers[i]
        if answer is not None:
            votes[answer] = votes.get(answer, 0) + 1
    top = max(votes.values(), default=0)
    if top in (0, len(here)):  # nothing is parsed, or all are one answer
        return min(here, key=places.__getitem__)
    if top == 1:
        return min([i for i in here if answers[i] is not None], key=places.__getitem__)
    most = {answer for answer, count in votes.items() if count == top}
    return min([i for i in here if answers[i] in most], key=places.__getitem__)


def passed(result: Score | Failure) -> bool:
    """Whether a verdict is `correct`; a failure is no verdict."""
    return isinstance(result, Score) and result.details.outcome is Outcome.CORRECT


def _logprob(asked: Prompt, completion: Completion) -> float:
    if completion.logprob is None:
        raise BadInput(
            f"id {visible(asked.id, 60)!r}: a completion without logprob, which this selector needs; record log-"
            "probabilities with the completions, or use a selector without them, e.g. majority-vote"
        )
    return _at_most_certain(asked, "logprob", completion.logprob)


def _ref_logprob(asked: Prompt, completion: Completion) -> float:
    if completion.ref_logprob is None:
        raise BadInput(
            f"id {visible(asked.id, 60)!r}: a completion without ref_logprob, which kl-regularized needs; record the "
            "reference policy's log-probabilities with the completions"
        )
    return _at_most_certain(asked, "ref_logprob", completion.ref_logprob)


def _at_most_certain(asked: Prompt, name: str, logprob: float) -> float:
    """Return a log-probability. Raises BadInput above 0: chosen by, a sign that is turned would give the least probable."""
    if logprob > ROUNDING:
        raise BadInput(
            f"id {visible(asked.id, 60)!r}: {name} {logprob:g} is above 0, which no log-probability is; if the log holds "
            "negative log-likelihoods, turn their sign"
        )
    return logprob


def _tokens(asked: Prompt, completion: Completion) -> int:
    if not completion.token_ids:
        raise BadInput(
            f"id {visible(asked.id, 60)!r}: a completion without token ids, so a mean over tokens is undefined; use "
            "logprob, or record token ids"
        )
    return len(completion.token_ids)
