"""The seams: what a policy, a scorer and a selector must offer, and nothing about how they do it."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from lockedroom.records import Completion, Example, Failure, PolicySpec, Sampling, Score, ScorerSpec


class Prompt(Protocol):
    """What a policy may see of an example: never its expected answer."""

    @property
    def id(self) -> str: ...
    @property
    def prompt(self) -> str: ...


class Policy(Protocol):
    """A distribution over completions, recorded or live."""

    @property
    def spec(self) -> PolicySpec: ...

    def complete(self, prompts: Sequence[Prompt], draws: range, sampling: Sampling) -> Iterator[Completion | Failure]:
        """Yield `len(prompts) * len(draws)` results: prompt by prompt, within a prompt draw by draw, streamed."""
        ...


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
