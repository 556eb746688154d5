"""A person's own scorer, `path/to/file.py:function`, run in a process of its own with a time-out and a memory cap.

Whatever the scorer does (raise, hang, end its process, allocate, return nonsense), the run goes on and that one record
becomes a Failure. This protects a measurement from bugs; it is not a sandbox against malice. Linux and macOS (which
enforces no memory cap); Windows is not supported. The other side of the conversation is worker.py.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from lockedroom.errors import BadInput
from lockedroom.protocols import BatchScorer
from lockedroom.records import Example, Failure, FailureCode, Score, ScorerSpec
from lockedroom.scorer import channel as ch
from lockedroom.wording import counted

# Larger batches are split, so that memory stays bounded.
CHUNK_CHARACTERS = 2 * 1024 * 1024
CHUNK_ANSWERS = 2048
SMALLEST_MEMORY_MB = 16
LONGEST_TIMEOUT_S = 86_400.0
# How long the zygote, which runs none of the scorer's code by then, may take to fork, to kill, to end.
ZYGOTE_TIMEOUT_S = 10.0
# How long a child may take between two calls of the scorer (to unpack a chunk) before it counts as lost.
IDLE_TIMEOUT_S = 2.0
# Children that end before they judge anything; the row they should have begun with is then given up.
MOST_STALLS = 2
WORKER = "lockedroom.scorer.worker"


class _Pass(msgspec.Struct, frozen=True):
    """What one stretch of work on a chunk brought: finished rows, and a Failure for the row it ended in, if any."""

    finished: int
    results: list[Score | Failure]
    trouble: Failure | None


class IsolatedScorer(BatchScorer):
    """Scores with a person's function in a child process; a context manager. Not for use by several threads at once.

    `spec` is the module's SPEC, and `declared` says whether it has one. `restarts` counts children that were replaced.
    """

    def __init__(
        self, target: str, *, timeout_s: float = 5.0, memory_mb: int = 512, import_timeout_s: float = 60.0
    ) -> None:
        """Import the file in its own process. Raises BadInput, saying what to change, when it cannot be used."""
        if sys.platform == "win32":
            raise BadInput("a person's own scorer needs Linux or macOS; use WSL, or the built-in final-int")
        if not 0 < timeout_s <= LONGEST_TIMEOUT_S or not 0 < import_timeout_s <= LONGEST_TIMEOUT_S:
            raise BadInput(f"a scorer's time-out is above 0 and at most {LONGEST_TIMEOUT_S:g} seconds; change it")
        if memory_mb < SMALLEST_MEMORY_MB:
            raise BadInput(f"the scorer's memory cap is {memory_mb} MB; give at least {SMALLEST_MEMORY_MB}")
        self.source, self.function = parse_target(target)
        self.timeout_s = timeout_s
        self.restarts = -1  # the first child is not a restart
        self._sequence = self._stalls = 0
        self._owner = os.getpid()
        self._channel = ch.Channel(ch.create_file())
        self._worker = _Worker(self._channel.file, self.source, self.function, memory_mb, import_timeout_s)
        self._open = True
        try:
            ready = self._worker.start()
            self._start_child()
        except BaseException:
            self.close()
            raise
        self.declared = ready.spec is not None
        self.spec = ready.spec or ScorerSpec(name=f"{self.source.name}:{self.function}", version=0)
        self._has_accepts = ready.has_accepts

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def accepts(self, expected_answer: Any) -> bool:
        """Say whether the module's `accepts` takes this answer; a module without one takes every answer."""
        return self.first_refused([expected_answer]) is None

    def first_refused(self, answers: Sequence[Any]) -> int | None:
        """Return the position of the first answer that the module does not accept, or None.

        Raises BadInput when `accepts` raises, hangs, dies or returns something else than True or False.
        """
        if not self._has_accepts:
            return None
        for start in range(0, len(answers), CHUNK_ANSWERS):
            refused = self._first_refused(answers[start : start + CHUNK_ANSWERS], start)
            if refused is not None:
                return refused
        return None

    def score(self, example: Example, completion: str) -> Score | Failure:
        """Score one completion; `score_batch` costs far less a record."""
        return self.score_batch([example], [completion])[0]

    def score_batch(self, examples: Sequence[Example], completions: Sequence[str]) -> list[Score | Failure]:
        """Return one Score or Failure per pair, in order."""
        rows = len(completions)
        if rows > 1 and sum(map(len, completions)) > CHUNK_CHARACTERS:
            return self._score_halves(examples, completions)
        try:
            kind, payload = ch.encode_rows(examples, completions)
        except (TypeError, ValueError) as error:
            raise BadInput(f"an example cannot be handed to {self.source}: {error}; use JSON values only") from None
        if len(payload) > ch.REQUEST_BYTES:
            if rows > 1:
                return self._score_halves(examples, completions)
            message = f"this record takes {len(payload)} bytes; at most {ch.REQUEST_BYTES} can be handed to a scorer"
            return [Failure(FailureCode.SCORER_MEMORY, message)]
        self._post(kind, payload, rows)
        results: list[Score | Failure] = []
        while len(results) < rows:
            part = self._pass(len(results))
            results += part.results
            if part.trouble is not None:
                results.append(part.trouble)
        return results

    def close(self) -> None:
        """Kill everything that was started; a second call does nothing, nor does one in a forked copy."""
        if self._open and os.getpid() == self._owner:
            self._open = False
            self._worker.end()
            self._channel.close()

    def _score_halves(self, examples: Sequence[Example], completions: Sequence[str]) -> list[Score | Failure]:
        half = len(completions) // 2
        first = self.score_batch(examples[:half], completions[:half])
        return first + self.score_batch(examples[half:], completions[half:])

    def _first_refused(self, answers: Sequence[Any], start: int) -> int | None:
        try:
            kind, payload = ch.encode_answers(answers)
        except (TypeError, ValueError) as error:
            raise BadInput(f"an expected_answer cannot be handed to {self.source}: {error}; use JSON values") from None
        if len(payload) > ch.REQUEST_BYTES:
            raise BadInput(f"{counted(len(answers), 'answer')} in {len(payload)} bytes; at most {ch.REQUEST_BYTES} fit")
        self._post(kind | ch.ASK_ACCEPTS, payload, len(answers))
        row = 0
        while row < len(answers):
            part = self._pass(row)
            row += part.finished
            trouble = part.results[0] if part.results else part.trouble
            if isinstance(trouble, Failure):
                where = f"{self.source}: accepts, asked for expected answer {start + row + 1}"
                raise BadInput(f"{where}: {trouble.message}; fix accepts")
            if self._worker.child and row < len(answers):
                return start + row
        return None

    def _post(self, kind: int, payload: bytes, rows: int) -> None:
        assert self._open, "the scorer is closed"
        self._stalls = 0
        self._channel.post(kind, payload, rows)

    def _pass(self, first: int) -> _Pass:
        """Let the child work from row `first` on until the chunk ends, the result area is full, or the child ends."""
        if not self._worker.child:
            self._start_child()
        self._sequence += 1
        self._channel.begin(self._sequence, first)
        try:
            self._worker.ring(self._sequence)
            trouble = self._wait()
        except BaseException:  # Ctrl-C: the chunk must not run on behind the next one
            self._worker.kill_child()
            raise
        try:
            finished, results = self._channel.collect(first)
        except (msgspec.MsgspecError, ValueError):
            self._worker.kill_child()
            damaged = Failure(FailureCode.SCORER_DIED, "the scorer wrote over the memory that holds its results")
            return _Pass(0, [], trouble or damaged)
        self._stalls = self._stalls + 1 if not finished and trouble is None else 0
        if self._stalls == MOST_STALLS:
            self._stalls = 0
            trouble = Failure(FailureCode.SCORER_DIED, "the scorer's process ended before it could judge this")
        return _Pass(finished, results, trouble)

    def _wait(self) -> Failure | None:
        """Return when the child has finished or is dead: the Failure of the row that it died in, if in any."""
        wait_s = self.timeout_s
        idle: tuple[int, ...] | None = None
        while True:
            event = self._worker.wait(wait_s)
            if event == self._sequence:
                return None
            if isinstance(event, str):
                judging = self._channel.judging() is not None
                return Failure(FailureCode.SCORER_DIED, f"the scorer's process {event}") if judging else None
            progress = self._channel.progress()
            started = self._channel.judging()
            if started is None:  # unpacking the chunk, or lost: its pipes closed by the scorer, say
                if idle == progress and event is None:
                    self._worker.kill_child()
                    return None
                idle, wait_s = progress, max(self.timeout_s, IDLE_TIMEOUT_S)
                continue
            wait_s = self.timeout_s - (time.monotonic_ns() - started) / 1e9
            if not 0 < wait_s <= self.timeout_s:  # overdue, or a start in the future, which only damage can give
                self._worker.kill_child()
                if self._channel.progress() == progress:
                    return Failure(FailureCode.SCORER_TIMEOUT, f"no result within {self.timeout_s:g} seconds")
                return None  # it had just got on with another row, which the next child judges

    def _start_child(self) -> None:
        self._worker.start_child()
        self.restarts += 1


class _Worker:
    """The parent's end of one worker: its zygote process, its pipes, and the pid of the child (0: none)."""

    def __init__(self, memory: int, source: Path, function: str, memory_mb: int, import_timeout_s: float) -> None:
        self.child = 0
        self._memory, self._source, self._function = memory, source, function
        self._memory_bytes, self._import_timeout_s = memory_mb << 20, import_timeout_s
        self._zygote: subprocess.Popen[bytes] | None = None

    def start(self) -> ch.Ready:
        """Start the zygote and wait for its import. Raises BadInput when the person's file cannot be used."""
        self._control, control = socket.socketpair()
        doorbell, self._doorbell = os.pipe()
        self._done, done = os.pipe()
        start = ch.Start(
            control=control.fileno(),
            doorbell=doorbell,
            done=done,
            memory=self._memory,
            parent=os.getpid(),
            memory_bytes=self._memory_bytes,
            path=str(self._source),
            function=self._function,
        )
        try:
            # -P and UTF-8: what runs does not depend on the current folder or the locale; nor on the hash seed.
            self._zygote = subprocess.Popen(
                [sys.executable, "-P", "-X", "utf8", "-m", WORKER, json.dumps(msgspec.to_builtins(start))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONHASHSEED": "0"},
                pass_fds=(control.fileno(), doorbell, done, self._memory),
                start_new_session=True,
            )
        finally:
            control.close()
            os.close(doorbell)
            os.close(done)
        self._poller = select.poll()
        self._poller.register(self._control, select.POLLIN)
        self._poller.register(self._done, select.POLLIN)
        return self._hear_ready(self._zygote)

    def start_child(self) -> None:
        """Have a child forked; a zygote that the scorer has killed or blocked is replaced, which imports again."""
        for _ in range(2):
            if self._zygote is None:
                self.start()
            self._send(ch.FORK)
            kind, self.child = self._hear_event()
            if kind == ch.STARTED_CHILD:
                return
            self.end(at_once=True)
        raise BadInput(f"{self._source}: its process cannot start the scorer; look for threads or signals in the file")

    def kill_child(self) -> None:
        """Return when the child is dead."""
        if self.child:
            self._send(ch.KILL)
            self._hear_end()

    def ring(self, sequence: int) -> None:
        with contextlib.suppress(BrokenPipeError):  # nobody is left to hear it; `wait` says so
            os.write(self._doorbell, sequence.to_bytes(8, sys.byteorder))

    def wait(self, seconds: float) -> int | str | None:
        """Return the sequence number of a finished chunk, how the child ended as a phrase, or None (time is up)."""
        ready = dict(self._poller.poll(math.ceil(seconds * 1000)))
        if ready.get(self._done, 0) & select.POLLIN:
            return int.from_bytes(os.read(self._done, 8), sys.byteorder)
        return self._hear_end() if ready else None

    def end(self, *, at_once: bool = False) -> None:
        """Kill the zygote and everything below it, and close the pipes."""
        zygote, self._zygote = self._zygote, None
        if zygote is None:
            return
        self._control.close()  # the zygote ends at this, after the child and whatever that had started
        try:
            zygote.wait(0 if at_once else ZYGOTE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            _kill_group(zygote.pid)
            zygote.wait()
        if self.child:  # its group, in case the zygote was killed before it could do this
            _kill_group(self.child)
        self.child = 0
        os.close(self._doorbell)
        os.close(self._done)

    def _hear_ready(self, zygote: subprocess.Popen[bytes]) -> ch.Ready:
        """Return what the import brought; a zygote that is not ready is ended."""
        deadline = time.monotonic() + self._import_timeout_s
        try:
            size = self._receive(ch.LENGTH.size, deadline)
            body = self._receive(ch.LENGTH.unpack(size)[0], deadline) if size else b""
        except TimeoutError:
            self.end(at_once=True)
            limit = f"{self._import_timeout_s:g} seconds"
            raise BadInput(f"{self._source}: importing the file takes longer than {limit}; make it faster") from None
        if not body:
            ending = _ending(zygote.wait())
            self.end()
            raise BadInput(f"{self._source}: importing the file ended its process: it {ending}; fix the file")
        message: ch.Ready | ch.Refused = msgspec.msgpack.decode(body, type=ch.Ready | ch.Refused)
        if isinstance(message, ch.Refused):
            self.end()
            raise BadInput(message.message)
        return message

    def _hear_end(self) -> str:
        """Take the news of the child's end, and return it as a phrase."""
        kind, code = self._hear_event()
        if kind == ch.CHILD_ENDED:
            self.child = 0
            return _ending(code)
        self.end(at_once=True)
        return "was lost together with the process that had started it"

    def _hear_event(self) -> tuple[bytes, int]:
        """Return the zygote's next event; a zygote that is silent or gone gives (b"", 0)."""
        try:
            event = self._receive(ch.EVENT.size, time.monotonic() + ZYGOTE_TIMEOUT_S)
        except TimeoutError:
            event = b""
        return ch.EVENT.unpack(event) if event else (b"", 0)

    def _receive(self, size: int, deadline: float) -> bytes:
        """Return `size` bytes from the zygote, or b"" at the end of its socket. Raises TimeoutError."""
        parts = b""
        while len(parts) < size:
            self._control.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                part = self._control.recv(size - len(parts))
            except ConnectionError:
                return b""
            if not part:
                return b""
            parts += part
        return parts

    def _send(self, command: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # the zygote is gone; the answer that does not come says so
            self._control.sendall(command)


def parse_target(target: str) -> tuple[Path, str]:
    """Split `path/to/file.py:function` (or `path/to/file.py`, meaning `score`) into an existing file and a name."""
    path_text, colon, function = target.rpartition(":")
    if not colon or target.endswith(".py"):
        path_text, function = target, "score"
    if not function.isidentifier():
        raise BadInput(f"scorer {target!r}: {function!r} is not a function name; write path/to/file.py:function")
    path = Path(path_text)
    if path.is_dir():
        raise BadInput(f"scorer {target!r}: {path} is a folder; write path/to/file.py:function")
    if not path.is_file():
        raise BadInput(f"scorer {target!r}: no such file {path}; write path/to/file.py:function")
    return path.resolve(), function


def _ending(code: int) -> str:
    return f"ended with exit code {code}" if code >= 0 else f"was killed by signal {-code} ({signal.strsignal(-code)})"


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left in it
        os.killpg(leader, signal.SIGKILL)
