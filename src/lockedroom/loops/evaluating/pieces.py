"""Many workers, one result: the dataset is cut by byte range, each worker writes the records of its pieces to files.

Only a piece's tally (a few hundred bytes) travels between processes; records never do. A piece file that an interrupted
run left behind is continued, whatever the number of workers then and now.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.errors import CannotWrite
from lockedroom.jsonl import BLOCK_BYTES, Batch, encode_lines, line_offsets, read_batches
from lockedroom.loops.attempt import attempt
from lockedroom.loops.evaluating.configuration import EvaluateConfig
from lockedroom.loops.evaluating.resuming import take_over
from lockedroom.loops.opening.named import Opened, open_named
from lockedroom.policy.recorded import RecordedPolicy
from lockedroom.protocols import Policy
from lockedroom.records import Example, Record
from lockedroom.results.evaluation.tally import Tally
from lockedroom.results.run_folder import EXAMPLES, PIECES, writing
from lockedroom.stats.one_run import RunState, RunSums

LONGEST_PIECE = 2048
PIECES_A_WORKER = 8
# Examples between two flushes of a piece, where an attempt is worth keeping: what a kill can cost each worker.
CHUNK = 16
# Attempts that a worker holds in memory at a time.
LONGEST_CHUNK = 2048


class Piece(msgspec.Struct, frozen=True):
    """Examples `start` to `stop`, where they stand in `examples.jsonl`, and where their completions should begin."""

    start: int
    stop: int
    first_byte: int
    end_byte: int
    completions_byte: int


def run_pieces(
    config: EvaluateConfig, opened: Opened, run: Path, examples: range, workers: int
) -> Iterator[tuple[Tally, Iterator[tuple[bytes, int]]]]:
    """Score `examples` in pieces; yield each piece's tally and its records (blocks with their number of lines), in order.

    Raises what a worker raised. Removes each piece when the caller has taken it.
    """
    folder = run / PIECES
    with writing(folder):
        folder.mkdir(exist_ok=True)
    _await_orphans(folder)
    draws = opened.draws
    pieces = _plan(opened.policy, run, examples, draws, workers)
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _open_worker, (config, run, draws)) as pool:
        with _interrupts_held():  # what is started inherits it, so that Ctrl-C finds no worker half started
            futures: list[Future[bytes]] = [pool.submit(_score_piece, piece) for piece in pieces]
        try:
            for piece, future in zip(pieces, futures, strict=True):
                tally = decode_tally(future.result())
                path = folder / _name(piece.start, piece.stop)
                yield tally, _blocks(path)
                path.unlink()
        except BrokenProcessPool:
            raise CannotWrite(
                f"{run}: a worker process died; continue with --resume, perhaps with fewer --workers"
            ) from None
        except BaseException:  # Ctrl-C and bugs too: no worker is left behind
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()
            raise
    with contextlib.suppress(OSError):
        folder.rmdir()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _await_orphans(folder: Path) -> None:
    """Return when no worker of a killed process writes here any more; each holds a lock while it lives."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
    finally:
        os.close(lock)


def _plan(policy: Policy, run: Path, examples: range, draws: int, workers: int) -> list[Piece]:
    """Cut the examples into pieces around those that an interrupted run has begun."""
    size = max(1, min(LONGEST_PIECE, -(-len(examples) // (workers * PIECES_A_WORKER))))
    bounds: list[tuple[int, int]] = []
    cursor = examples.start
    for start, stop in [*_begun(run / PIECES, examples, draws), (examples.stop, examples.stop)]:
        bounds += [(at, min(at + size, start)) for at in range(cursor, start, size)]
        if start < stop:
            bounds.append((start, stop))
        cursor = stop
    return place_pieces(policy, run / EXAMPLES, bounds, draws)


def place_pieces(policy: Policy, examples: Path, bounds: Sequence[tuple[int, int]], draws: int) -> list[Piece]:
    """Return neighbouring pieces (first example, the one after the last) with where they stand in the files."""
    cuts = [start for start, _ in bounds] + [stop for _, stop in bounds[-1:]]
    offsets = line_offsets(examples, cuts)
    completions = policy.part_offsets(cuts, draws) if isinstance(policy, RecordedPolicy) else [0] * len(cuts)
    return [
        Piece(start, stop, first, end, begin)
        for (start, stop), first, end, begin in zip(bounds, offsets, offsets[1:], completions, strict=False)
    ]


def _begun(folder: Path, examples: range, draws: int) -> list[tuple[int, int]]:
    """Return the pieces an interrupted run began; what of them is in `records.jsonl` already is dropped."""
    begun = []
    for path in sorted(folder.glob("*.jsonl")):
        start, stop = (int(part) for part in path.stem.split("-"))
        if start < examples.start:
            with open(path, "rb") as file:
                rest = b"".join(itertools.islice(file, (examples.start - start) * draws, None))
            path.unlink()
            start = examples.start
            if start >= stop:
                continue
            (folder / _name(start, stop)).write_bytes(rest)
        begun.append((start, stop))
    return begun


def _name(start: int, stop: int) -> str:
    return f"{start:012d}-{stop:012d}.jsonl"


def _blocks(path: Path) -> Iterator[tuple[bytes, int]]:
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            block += file.readline()
            yield block, block.count(b"\n")


class _Worker(msgspec.Struct):
    """What a worker process keeps between pieces."""

    config: EvaluateConfig
    run: Path
    draws: int
    opened: Opened
    policy: Policy


_workers: list[_Worker] = []


def _open_worker(config: EvaluateConfig, run: Path, draws: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a worker silently; what it has finished is on disk
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    fcntl.flock(os.open(run / PIECES, os.O_RDONLY), fcntl.LOCK_SH)  # held until this process ends
    threading.Thread(target=_end_with_parent, daemon=True).start()
    stack = contextlib.ExitStack()
    opened = stack.enter_context(open_named(config))
    _workers.append(_Worker(config, run, draws, opened, opened.policy))
    multiprocessing.util.Finalize(stack, stack.close, exitpriority=10)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _score_piece(piece: Piece) -> bytes:
    """Write the records of a piece, after those that are there already; return its tally."""
    worker = _workers[0]
    opened, draws = worker.opened, range(worker.draws)
    policy = worker.policy
    if isinstance(policy, RecordedPolicy):
        policy = worker.policy = policy.beginning_at(piece.completions_byte)
    tally = Tally(draws=len(draws), codes={}, failures={}, passes={}, graded_passes={})
    path = worker.run / PIECES / _name(piece.start, piece.stop)
    batches = read_batches(worker.run / EXAMPLES, Example, start=piece.first_byte, stop=piece.end_byte)
    with writing(path), open(path, "a+b") as file:
        old = _kept_records(path, len(draws))
        file.truncate(sum(len(encode_lines([record])) for record in old))
        longest = max(1, LONGEST_CHUNK // len(draws))
        for examples in _chunks(batches, min(CHUNK, longest) if opened.costly else longest):
            done = min(len(old) // len(draws), len(examples))
            records = take_over(policy, examples[:done], old[: done * len(draws)], draws)
            del old[: len(records)]
            if done < len(examples):
                fresh = attempt(policy, opened.scorer, examples[done:], draws, worker.config.sampling)
                file.write(encode_lines(fresh))
                file.flush()
                records += fresh
            tally.add(records, opened.scorer.spec)
    return encode_tally(tally)


def _chunks(batches: Iterator[Batch[Example]], size: int) -> Iterator[list[Example]]:
    for batch in batches:
        for at in range(0, len(batch.rows), size):
            yield batch.rows[at : at + size]


def _kept_records(path: Path, draws: int) -> list[Record]:
    """Return the records of the whole examples that a piece file holds."""
    raw = path.read_bytes()
    end = raw.rfind(b"\n") + 1
    rows = [row for batch in read_batches(path, Record, stop=end) for row in batch.rows]
    return rows[: len(rows) // draws * draws]


def encode_tally(tally: Tally) -> bytes:
    """Return a tally as it travels between processes."""
    return _tally_encoder.encode(tally)


def decode_tally(encoded: bytes) -> Tally:
    tally: Tally = _tally_decoder.decode(encoded)
    return tally


def _encode_sum(value: Any) -> RunState:
    if isinstance(value, RunSums):
        return value.state()
    raise TypeError(f"cannot encode {type(value)}")


def _decode_sum(wanted: type, value: Any) -> Any:
    if wanted is RunSums:
        return RunSums.from_state(msgspec.convert(value, RunState, strict=False))
    raise TypeError(f"cannot decode {wanted}")


_tally_encoder = msgspec.json.Encoder(enc_hook=_encode_sum)
_tally_decoder = msgspec.json.Decoder(Tally, dec_hook=_decode_sum)
