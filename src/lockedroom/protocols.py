"""The seams: what a policy, a scorer and a selector must offer, and nothing about how they do it."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import msgspec

from lockedroom.records import (
    Completion,
    Example,
    Failure,
    PolicySpec,
    Sampling,
    Score,
    ScorerSpec,
    TextProbability,
    Token,
)

if TYPE_CHECKING:
    from torch import Tensor, nn


class Prompt(Protocol):
    """What a policy may see of an example: never its expected answer."""

    @property
    def id(self) -> str: ...
    @property
    def prompt(self) -> str: ...


class Selector(Protocol):
    """Chooses one of several completions of one prompt, and is never told how any of them was judged."""

    def select(self, asked: Prompt, completions: Sequence[Completion]) -> int:
        """Return the position of the completion chosen."""
        ...


class BatchSelector(abc.ABC):
    """A selector that runs elsewhere and is asked for many groups of one prompt's completions at a time."""

    @abc.abstractmethod
    def select_batch(self, asked: Prompt, groups: Sequence[Sequence[Completion]]) -> list[int]:
        """Return the position of the completion chosen from each group."""


@runtime_checkable
class JudgedSelector(Protocol):
    """Chooses knowing what a scorer said of each completion; only for selectors whose name says so."""

    def select_judged(
        self, asked: Prompt, completions: Sequence[Completion], results: Sequence[Score | Failure]
    ) -> int: ...


class Policy(Protocol):
    """A distribution over completions, recorded or live."""

    @property
    def spec(self) -> PolicySpec: ...

    def complete(self, prompts: Sequence[Prompt], draws: range, sampling: Sampling) -> Iterator[Completion | Failure]:
        """Yield `len(prompts) * len(draws)` results: prompt by prompt, within a prompt draw by draw, streamed."""
        ...


class TokenPolicy(abc.ABC):
    """A policy whose distribution can be read, token by token. Log-probabilities are in nats."""

    spec: PolicySpec

    @property
    @abc.abstractmethod
    def end_id(self) -> int:
        """The token that ends a completion; it is sampled and counted like any other."""

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Every token that ends a completion, the usual one first."""
        return (self.end_id,)

    @property
    @abc.abstractmethod
    def context(self) -> int:
        """How many tokens a prompt and its completion may have together."""

    @abc.abstractmethod
    def complete(
        self, prompts: Sequence[Prompt], draws: range, sampling: Sampling
    ) -> Iterator[Completion | Failure]: ...

    @abc.abstractmethod
    def tokens(self, text: str) -> list[Token]:
        """Return the canonical tokens of a text. Raises BadInput for text that the tokenizer cannot write."""

    @abc.abstractmethod
    def encode(self, text: str) -> tuple[int, ...]: ...

    @abc.abstractmethod
    def decode(self, ids: Sequence[int]) -> str: ...

    @abc.abstractmethod
    def prompt_ids(self, prompt: str) -> tuple[int, ...]:
        """Return what the policy conditions on, start token or chat template included."""

    @abc.abstractmethod
    def logprobs(
        self,
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[int]],
        sampling: Sampling | None = None,
    ) -> list[tuple[float, ...]]:
        """Return the log-probability of every completion token: the policy's own, or of what `sampling` samples from."""

    @abc.abstractmethod
    def completion_probabilities(
        self, prompts: Sequence[str], texts: Sequence[Sequence[str]], sampling: Sampling
    ) -> list[list[TextProbability]]:
        """Return, for every prompt, the probability of each of its texts as a completion, over all tokenisations."""


class Steps(Protocol):
    """Next-token distributions for texts that branch (R rows, each a prompt and the beginning of a completion; V tokens).

    `pieces` says what each of V tokens adds to a text, None for one that no text can be searched with; `ends` end it.

    `rows` is how many beginnings may be in flight. A cache is handed back as it was given; it may be used up by `extend`.
    """

    @property
    def pieces(self) -> Sequence[str | None]: ...
    @property
    def ends(self) -> frozenset[int]: ...
    @property
    def rows(self) -> int: ...

    def bucket(self, prompt: Sequence[int]) -> int:
        """Return what prompts have to have in common to be read together."""

    def begin(self, prompts: Sequence[tuple[int, ...]]) -> tuple[Any, Tensor]:
        """Return a cache and logits_RV for the token after each prompt; all are of one bucket."""

    def extend(self, cache: Any, parents_R: Tensor, tokens_R: Tensor) -> tuple[Any, Tensor]:
        """Return the cache of rows `parents_R`, each longer by a token, and logits_RV for the next."""


@runtime_checkable
class Searchable(Protocol):
    """A policy that can be searched token by token."""

    def steps(self) -> Steps: ...
    def decode(self, ids: Sequence[int]) -> str: ...
    def prompt_ids(self, prompt: str, example_id: str | None = None) -> tuple[int, ...]: ...
    def token_limit(self, prompt: Sequence[int], sampling: Sampling) -> int: ...


class TrainingPass(msgspec.Struct, frozen=True):
    """What a policy says, with gradients, of N completions as they were sampled; T is the longest of them.

    logprobs_NT: log-probability of each sampled token, in nats, under the distribution that was sampled from (so that
    the first update's importance ratios are one); 0 outside the mask. mask_NT: True for the tokens of a completion, its
    end token included. vocabulary_RV: the same distribution's log-probabilities of every next token, in each distinct
    state (a prompt and a beginning of a completion); state_NT: the state that each token was sampled in, any within R
    outside the mask. The order of the states follows from the prompts and completions alone.
    """

    logprobs_NT: Tensor
    mask_NT: Tensor
    state_NT: Tensor
    vocabulary_RV: Tensor


class TrainablePolicy(TokenPolicy):
    """A TokenPolicy whose parameters can be changed. Its tensors are PyTorch's."""

    @abc.abstractmethod
    def complete(
        self, prompts: Sequence[Prompt], draws: range, sampling: Sampling, *, step: int = 0
    ) -> Iterator[Completion | Failure]:
        """As `Policy.complete`; `step` is that of a learning run: other random numbers for the same seed and draw."""

    @abc.abstractmethod
    def parameters(self) -> list[nn.Parameter]:
        """Return what an optimizer changes."""

    @abc.abstractmethod
    def training_pass(
        self,
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[Sequence[int]]],
        sampling: Sampling,
    ) -> TrainingPass:
        """Read the completions of each prompt (rows: prompt by prompt, completion by completion), with gradients."""

    @abc.abstractmethod
    def frozen_copy(self) -> Self:
        """Return a copy that training this policy does not change: a reference policy."""

    @abc.abstractmethod
    def save(self, path: Path, *, origin: dict[str, Any]) -> str:
        """Write the policy to a file or folder from which it can be opened again; return the sha256 of its weights."""

    @abc.abstractmethod
    def value_features(
        self, prompt_ids: Sequence[Sequence[int]], completion_ids: Sequence[Sequence[Sequence[int]]]
    ) -> Tensor:
        """Return features_NTC, without gradients, of the state before each completion token, for a learned baseline."""


class Scorer(Protocol):
    """A measuring instrument: deterministic, total, pure, versioned."""

    @property
    def spec(self) -> ScorerSpec: ...

    def accepts(self, expected_answer: Any) -> bool:
        """Say whether examples with this answer can be judged; asked for every row when a dataset is loaded."""
        ...

    def score(self, example: Example, completion: str) -> Score | Failure:
        """Judge one completion. A scorer returns a Score; what runs it for us may return why it could not."""
        ...


class BatchScorer(abc.ABC):
    """A scorer that runs elsewhere and judges many completions at a time; nothing it does can raise here.

    `source` is the file whose sha256 goes into the room.
    """

    source: Path

    @abc.abstractmethod
    def score_batch(self, examples: Sequence[Example], completions: Sequence[str]) -> list[Score | Failure]:
        """Return one Score or Failure per pair, in order."""

    @abc.abstractmethod
    def first_refused(self, answers: Sequence[Any]) -> int | None:
        """Return the position of the first answer that cannot be judged, or None."""
