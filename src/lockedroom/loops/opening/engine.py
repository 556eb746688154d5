"""The seam to machines that share neither memory nor disk with this one: bytes out, bytes back, in order.

A run is cut into parcels. A feed reads them where the run's files are, a bench works on them wherever it was sent, and an
engine brings the two together. `InProcess` is the engine of tests and of bare machines; `lockedroom.adapters.ray` is another.
"""

from __future__ import annotations

import contextlib
import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from lockedroom.errors import BadInput
from lockedroom.jsonl import decode_line
from lockedroom.loops.opening.named import UNAVAILABLE, identify, open_scorer
from lockedroom.policy.streaming import StreamingPolicy
from lockedroom.protocols import BatchScorer, Policy, Scorer
from lockedroom.records import ScorerSpec
from lockedroom.safeguards.room import ScorerIdentity

T = TypeVar("T")


class Feed(Protocol):
    """Hands out parcels. It is pickled, and opened on the machine that holds the run's files."""

    def open(self) -> Callable[[int], bytes]:
        """Return what reads parcel `i`, as often and in whatever order it is asked for."""
        ...


class Bench(Protocol):
    """Works on parcels. It is pickled, and opened on any machine; every opened bench gives the same answer to a parcel."""

    def open(self) -> AbstractContextManager[Callable[[bytes], bytes]]: ...


class Engine(Protocol):
    """Brings parcels to benches and their answers back."""

    @property
    def workers(self) -> int:
        """How many benches can work at once."""
        ...

    def map(self, feed: Feed, bench: Bench, parcels: int) -> Iterator[bytes]:
        """Yield the bench's answer to each of the feed's parcels, in order, holding a bounded number of them at a time.

        Raises BadInput, naming what to do, for what a bench or a feed refuses and for machines that are lost.
        """
        ...


def refuse_streaming(policy: Policy) -> None:
    """A server is kept busy by one process, and what it is paid for is on record there."""
    if isinstance(policy, StreamingPolicy):
        raise BadInput(
            "--on: a server's completions are drawn by one process, which keeps many requests in flight (--concurrency); "
            "leave out --on, and score the finished run again anywhere with --completions RUN"
        )


class InProcess:
    """An engine of one bench in this process. Everything is pickled as if it travelled."""

    workers = 1

    def map(self, feed: Feed, bench: Bench, parcels: int) -> Iterator[bytes]:
        sent_feed, sent_bench = pickle.loads(pickle.dumps((feed, bench)))
        read = sent_feed.open()
        with sent_bench.open() as work:
            for parcel in range(parcels):
                yield work(read(parcel))


class ShippedScorer(msgspec.Struct, frozen=True):
    """A scorer by its name or, if it is a person's file, by that file's bytes; and what it has to turn out to be."""

    name: str
    source: bytes | None
    spec: ScorerSpec
    identity: ScorerIdentity
    timeout_s: float
    memory_mb: int

    @contextlib.contextmanager
    def open(self) -> Iterator[Scorer]:
        """Yield the scorer on the machine that this arrived at. Raises BadInput when it is not the same there."""
        with contextlib.ExitStack() as stack:
            name = self.name
            if self.source is not None:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="lockedroom-"))
                name = f"{folder}/{name}"
                Path(name.rpartition(":")[0]).write_bytes(self.source)
            scorer = stack.enter_context(open_scorer(name, timeout_s=self.timeout_s, memory_mb=self.memory_mb))
            found = identify(scorer)
            known = UNAVAILABLE not in (found.fingerprint, self.identity.fingerprint)
            if scorer.spec != self.spec or (known and found != self.identity):
                raise BadInput(
                    f"scorer {self.spec.name}: gives other verdicts on another machine than here; install the same "
                    "versions of lockedroom and of what the scorer imports on every machine"
                )
            yield scorer


def ship(scorer: Scorer, name: str, identity: ScorerIdentity, *, timeout_s: float, memory_mb: int) -> ShippedScorer:
    """Return an opened scorer as what is sent; of a person's scorer that is its one file."""
    source = None
    if isinstance(scorer, BatchScorer):
        from lockedroom.scorer.custom import parse_target

        path, function = parse_target(name)
        source, name = path.read_bytes(), f"{path.name}:{function}"
    return ShippedScorer(name, source, scorer.spec, identity, timeout_s, memory_mb)


def rows_of(block: bytes, row_type: type[T], what: str) -> list[T]:
    """Return the rows of whole lines that we encoded, also of those that msgspec does not read (see `jsonl`)."""
    decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(row_type)
    try:
        return decoder.decode_lines(block)
    except (msgspec.DecodeError, UnicodeDecodeError):
        lines = block.split(b"\n")[:-1]
        return [decode_line(Path(what), i, line, decoder, row_type) for i, line in enumerate(lines, 1)]
