"""Loop A on an engine: a parcel holds the lines of some examples and of their completions, its answer their records.

The process that asks stays the only writer, so the run folder is the same as without an engine, and what it has written is
what `--resume` goes on from.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from lockedroom.errors import BadInput
from lockedroom.jsonl import encode_lines
from lockedroom.loops.attempt import attempt, records_of
from lockedroom.loops.evaluating.configuration import EvaluateConfig
from lockedroom.loops.evaluating.pieces import Piece, decode_tally, encode_tally, place_pieces
from lockedroom.loops.opening.engine import Engine, ShippedScorer, rows_of, ship
from lockedroom.loops.opening.named import Opened
from lockedroom.loops.opening.policy import open_policy
from lockedroom.policy.recorded import RecordedPolicy
from lockedroom.protocols import Policy, Scorer
from lockedroom.records import Completion, Example, Failure, PolicySpec, Record
from lockedroom.results.evaluation.tally import Tally
from lockedroom.results.run_folder import EXAMPLES, PIECES
from lockedroom.safeguards.room import ScorerIdentity

# Attempts and bytes that a parcel should hold: enough that handing it over costs little beside working on it.
LONGEST_PARCEL = 16_384
PARCEL_BYTES = 8 << 20
# The same where an attempt is worth keeping: what a kill can cost each worker, and the least progress that is shown.
LONGEST_COSTLY_PARCEL = 512
PARCELS_A_WORKER = 8


class _Parcel(msgspec.Struct, frozen=True, array_like=True):
    """Lines of examples and, unless the bench draws them, of completions; `missing` says where there is none, and why."""

    examples: bytes
    completions: bytes | None
    missing: bytes


class _Missing(msgspec.Struct, frozen=True):
    place: int
    failure: Failure


class _Answer(msgspec.Struct, frozen=True, array_like=True):
    tally: bytes
    records: bytes
    lines: int


def run_parcels(
    config: EvaluateConfig, opened: Opened, run: Path, examples: range, *, identity: ScorerIdentity, engine: Engine
) -> Iterator[tuple[Tally, Iterator[tuple[bytes, int]]]]:
    """Let the engine score `examples`; yield each parcel's tally and its records (a block with its number of lines), in order."""
    if (run / PIECES).is_dir():
        raise BadInput(
            f"{run}: was begun with --workers, which left pieces there; resume it with --workers, without --on"
        )
    config = _absolute(config)
    size = _size(opened, run, examples, engine.workers)
    bounds = [(start, min(start + size, examples.stop)) for start in range(examples.start, examples.stop, size)]
    pieces = place_pieces(opened.policy, run / EXAMPLES, bounds, opened.draws)
    scorer = ship(
        opened.scorer, config.scorer, identity, timeout_s=config.scorer_timeout, memory_mb=config.scorer_memory
    )
    feed = _Feed(config, str((run / EXAMPLES).absolute()), tuple(pieces), opened.draws)
    for answer in engine.map(feed, _Bench(config, scorer, opened.policy.spec, opened.draws), len(pieces)):
        done = msgspec.msgpack.decode(answer, type=_Answer)
        yield decode_tally(done.tally), iter([(done.records, done.lines)])


def _absolute(config: EvaluateConfig) -> EvaluateConfig:
    """A feed may be opened in another folder."""
    if config.completions is None:
        return config
    return msgspec.structs.replace(config, completions=str(Path(config.completions).absolute()))


def _size(opened: Opened, run: Path, examples: range, workers: int) -> int:
    """Return how many examples a parcel holds."""
    spread = -(-len(examples) // (workers * PARCELS_A_WORKER))
    size = (run / EXAMPLES).stat().st_size
    if isinstance(opened.policy, RecordedPolicy):
        size += opened.policy.path.stat().st_size
    by_bytes = PARCEL_BYTES * max(1, examples.stop) // max(1, size)
    by_attempts = (LONGEST_COSTLY_PARCEL if opened.costly else LONGEST_PARCEL) // opened.draws
    return max(1, min(spread, by_bytes, by_attempts))


class _Feed(msgspec.Struct, frozen=True):
    """Reads the lines of examples, and what the policy recorded for them."""

    config: EvaluateConfig
    examples: str
    pieces: tuple[Piece, ...]
    draws: int

    def open(self) -> Callable[[int], bytes]:
        recorded: list[RecordedPolicy] = []
        if self.config.completions is not None:
            policy = open_policy(self.config)[0]
            assert isinstance(policy, RecordedPolicy)
            recorded.append(policy)
        return functools.partial(self._read, recorded)

    def _read(self, recorded: list[RecordedPolicy], parcel: int) -> bytes:
        piece = self.pieces[parcel]
        with open(self.examples, "rb") as file:
            lines = os.pread(file.fileno(), piece.end_byte - piece.first_byte, piece.first_byte)
        if not recorded:
            return msgspec.msgpack.encode(_Parcel(lines, None, b""))
        recorded[0] = recorded[0].beginning_at(piece.completions_byte)
        examples = rows_of(lines, Example, self.examples)
        drawn = list(recorded[0].complete(examples, range(self.draws), self.config.sampling))
        missing = [_Missing(place, one) for place, one in enumerate(drawn) if isinstance(one, Failure)]
        completions = [one for one in drawn if isinstance(one, Completion)]
        return msgspec.msgpack.encode(_Parcel(lines, encode_lines(completions), encode_lines(missing)))


class _Bench(msgspec.Struct, frozen=True):
    """Judges completions, or draws them too. A live policy is opened by its name, so its files have to be there."""

    config: EvaluateConfig
    scorer: ShippedScorer
    policy: PolicySpec
    draws: int

    @contextlib.contextmanager
    def open(self) -> Iterator[Callable[[bytes], bytes]]:
        policy = None
        if self.config.completions is None:
            policy = open_policy(self.config)[0]
            if policy.spec != self.policy:
                raise BadInput(
                    f"--policy {self.config.policy}: is another policy on another machine than here; put the same files "
                    "and versions on every machine"
                )
        with self.scorer.open() as scorer:
            yield functools.partial(self._work, scorer, policy)

    def _work(self, scorer: Scorer, policy: Policy | None, encoded: bytes) -> bytes:
        parcel = msgspec.msgpack.decode(encoded, type=_Parcel)
        examples = rows_of(parcel.examples, Example, EXAMPLES)
        draws = range(self.draws)
        records: list[Record]
        if policy is not None:
            records = attempt(policy, scorer, examples, draws, self.config.sampling)
        else:
            assert parcel.completions is not None
            drawn: list[Completion | Failure] = [*rows_of(parcel.completions, Completion, "completions")]
            for missing in rows_of(parcel.missing, _Missing, "completions"):
                drawn.insert(missing.place, missing.failure)
            records = records_of(scorer, examples, draws, drawn)
        tally = Tally(draws=self.draws, codes={}, failures={}, passes={}, graded_passes={})
        tally.add(records, scorer.spec)
        return msgspec.msgpack.encode(_Answer(encode_tally(tally), encode_lines(records), len(records)))
