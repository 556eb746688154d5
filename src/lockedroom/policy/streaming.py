"""The seam of policies whose draws are paid for: prompts are taken in ahead of need, and every answer leaves a receipt.

A loop that hands such a policy one chunk of prompts after the other would let its requests run dry at the end of each;
`stream` takes prompts from an iterator instead, as far ahead as it needs, and still yields in order. What was answered
is given to the caller's `Receipts` at once, in whatever order it comes, so that a kill loses only what was in flight.
"""

from __future__ import annotations

import abc
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Protocol

import msgspec

from lockedroom.protocols import Prompt
from lockedroom.records import Completion, Failure, PolicySpec, Sampling


class Receipt(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one request ended with: the completions of these draws of an example (the example's place in the run).

    `failed` are draws that were answered too, and paid for, with something that is no completion (`failures`). Neither
    the one nor the other: every attempt failed. `seconds` is how long the last attempt took, `faults` counts what went
    wrong before it, by kind. Tokens are those the server counted; None where it did not say.
    """

    example: int
    id: str
    draws: tuple[int, ...] = ()
    completions: tuple[Completion, ...] = ()
    failed: tuple[int, ...] = ()
    failures: tuple[Failure, ...] = ()
    seconds: float = 0.0
    attempts: int = 1
    faults: dict[str, int] = {}
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    fingerprint: str | None = None

    @property
    def answered(self) -> bool:
        return bool(self.draws or self.failed)

    def found(self) -> dict[int, Completion | Failure]:
        """Return what each draw was answered with."""
        completions: dict[int, Completion | Failure] = dict(zip(self.draws, self.completions, strict=True))
        return completions | dict(zip(self.failed, self.failures, strict=True))


class Receipts(Protocol):
    """Where receipts are kept; called from one thread, which is not the caller's."""

    def paid(self, example: int, example_id: str) -> Mapping[int, Completion | Failure]:
        """Return the draws of an example that an interrupted run has paid for already."""
        ...

    def keep(self, receipt: Receipt) -> None: ...


class StreamingPolicy(abc.ABC):
    """A live policy that keeps several requests in flight. Its completions come in order."""

    spec: PolicySpec

    @abc.abstractmethod
    def stream(
        self,
        prompts: Iterator[Prompt],
        draws: range,
        sampling: Sampling,
        *,
        receipts: Receipts | None = None,
        first: int = 0,
    ) -> Generator[Completion | Failure]:
        """Yield `len(draws)` results a prompt, in order. `first` is the place in the run of the first prompt."""

    def complete(self, prompts: Sequence[Prompt], draws: range, sampling: Sampling) -> Iterator[Completion | Failure]:
        return self.stream(iter(prompts), draws, sampling)
