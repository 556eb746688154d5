"""Loop A's records of a policy that keeps many requests in flight: examples go in ahead of need, records come in order."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import deque
from collections.abc import Iterator

from lockedroom.errors import BadInput
from lockedroom.loops.attempt import records_of
from lockedroom.loops.evaluating.receipts import ReceiptFile
from lockedroom.loops.evaluating.resuming import take_over
from lockedroom.loops.opening.named import Opened
from lockedroom.policy.streaming import StreamingPolicy
from lockedroom.records import Completion, Example, Failure, Record, Sampling
from lockedroom.results.run_folder import RunFolder

# Records are judged and written when so much time has passed, or so many attempts have come.
CHUNK_SECONDS = 0.25
LONGEST_CHUNK = 4096


def open_receipts(opened: Opened, run: RunFolder, workers: int) -> ReceiptFile | None:
    """Return where the receipts of a streaming policy go; None for every other policy."""
    if not isinstance(opened.policy, StreamingPolicy):
        return None
    if workers > 1:
        raise BadInput(
            f"--workers {workers}: one process keeps a server busy; raise --concurrency (requests in flight) instead"
        )
    return ReceiptFile(run.path, opened.policy.spec, finished=run.recorded // opened.draws)


def stream_records(
    opened: Opened, run: RunFolder, sampling: Sampling, examples: Iterator[list[Example]], receipts: ReceiptFile
) -> Iterator[list[Record]]:
    """Yield the records of whole examples: first those of an interrupted run, then new ones as their draws come in."""
    assert isinstance(opened.policy, StreamingPolicy)
    draws = range(opened.draws)
    old, first = run.old_records(), run.recorded // len(draws)
    rest: list[Example] = []
    left = first
    while left and (batch := next(examples, None)) is not None:
        part, rest = batch[:left], batch[left:]
        left -= len(part)
        yield take_over(opened.policy, part, list(itertools.islice(old, len(part) * len(draws))), draws)
    asked: deque[Example] = deque()

    def prompts() -> Iterator[Example]:
        for example in itertools.chain(rest, itertools.chain.from_iterable(examples)):
            asked.append(example)
            yield example

    drawn = opened.policy.stream(prompts(), draws, sampling, receipts=receipts, first=first)
    with contextlib.closing(drawn) as stream, contextlib.closing(receipts):
        while completions := _next_whole(stream, len(draws)):
            group = [asked.popleft() for _ in range(len(completions) // len(draws))]
            yield records_of(opened.scorer, group, draws, completions)


def _next_whole(stream: Iterator[Completion | Failure], draws: int) -> list[Completion | Failure]:
    """Return what comes in about `CHUNK_SECONDS`, in whole examples; nothing when the stream has ended."""
    completions: list[Completion | Failure] = []
    due = time.monotonic() + CHUNK_SECONDS
    while len(completions) < LONGEST_CHUNK and time.monotonic() < due:
        group = list(itertools.islice(stream, draws))
        if not group:
            break
        completions += group
    return completions
