"""A person's own scorer, `path/to/file.py:function`, run in a process of its own with a time-out and a memory cap.

Whatever the scorer does (raise, hang, end its process, allocate, return nonsense), the run goes on and that one record
becomes a Failure. This protects a measurement from bugs; it is not a sandbox against malice. Linux and macOS (which
enforces no memory cap); Windows is not supported. The other side of the conversation is worker.py.
"""

from __future__ import annotations

import json
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
from lockedroom.records import Example, Failure, FailureCode, Score, ScorerSpec
from lockedroom.scorer import channel as ch

# Completions of one chunk, in characters; larger batches are split, so that memory stays bounded.
CHUNK_CHARACTERS = 2 * 1024 * 1024
SMALLEST_MEMORY_MB = 16
# How long the zygote, which runs none of the scorer's code by then, may take to fork or to kill.
ZYGOTE_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 3.0


class _Pass(msgspec.Struct, frozen=True):
    """What one stretch of work on a chunk brought: finished rows, and a Failure for the row it ended in, if any."""

    finished: int
    results: list[Score | Failure]
    trouble: Failure | None


class IsolatedScorer:
    """Scores with a person's function in a child process; a context manager. Not for use by several threads at once."""

    def __init__(
        self, target: str, *, timeout_s: float = 5.0, memory_mb: int = 512, import_timeout_s: float = 60.0
    ) -> None:
        """Import the file in its own process. Raises BadInput, saying what to change, when it cannot be used."""
        if sys.platform == "win32":
            raise BadInput("a person's own scorer needs Linux or macOS; use WSL, or the built-in final-int")
        if not timeout_s > 0:
            raise BadInput(f"the scorer's time-out is {timeout_s} seconds; give a number above 0")
        if memory_mb < SMALLEST_MEMORY_MB:
            raise BadInput(f"the scorer's memory cap is {memory_mb} MB; give at least {SMALLEST_MEMORY_MB}")
        self.source, self.function = parse_target(target)
        self.timeout_s, self.memory_mb, self.import_timeout_s = timeout_s, memory_mb, import_timeout_s
        self.restarts = -1  # the first child is not a restart
        self._child = 0
        self._sequence = 0
        self._owner = os.getpid()
        self._zygote: subprocess.Popen[bytes] | None = None
        ready = self._start_zygote()
        self.declared = ready.spec is not None
        self.spec = ready.spec or ScorerSpec(name=f"{self.source.name}:{self.function}", version=0)
        self._has_accepts = ready.has_accepts
        self._start_child()

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
        if not self._has_accepts or not answers:
            return None
        flags, payload = _encoded(ch.encode_answers, answers)
        if len(payload) > ch.REQUEST_BYTES:
            half = len(answers) // 2
            if half == 0:
                raise BadInput(f"an expected_answer takes {len(payload)} bytes; at most {ch.REQUEST_BYTES} are judged")
            early = self.first_refused(answers[:half])
            late = self.first_refused(answers[half:]) if early is None else None
            return half + late if late is not None else early
        self._post(ch.ASK_ACCEPTS | flags, payload, len(answers))
        row = 0
        while row < len(answers):
            part = self._pass(row, asking=True)
            row += part.finished
            trouble = part.results[0] if part.results else part.trouble
            if isinstance(trouble, Failure):
                text = ch.shown(repr(answers[row]), 80)
                raise BadInput(f"{self.source}: accepts: {trouble.message} (expected_answer {text}); fix accepts")
            if self._child and row < len(answers):
                return row
        return None

    def score(self, example: Example, completion: str) -> Score | Failure:
        """Score one completion; `score_batch` costs far less a record."""
        return self.score_batch([example], [completion])[0]

    def score_batch(self, examples: Sequence[Example], completions: Sequence[str]) -> list[Score | Failure]:
        """Return one Score or Failure per pair, in order."""
        rows = len(completions)
        if rows > 1 and sum(map(len, completions)) > CHUNK_CHARACTERS:
            return self._in_halves(examples, completions)
        flags, payload = _encoded(lambda pairs: ch.encode_rows(*pairs), (examples, completions))
        if len(payload) > ch.REQUEST_BYTES:
            if rows > 1:
                return self._in_halves(examples, completions)
            message = f"the completion takes {len(payload)} bytes; at most {ch.REQUEST_BYTES} can be handed to a scorer"
            return [Failure(FailureCode.SCORER_MEMORY, message)]
        self._post(ch.SCORE_ROWS | flags, payload, rows)
        results: list[Score | Failure] = []
        while len(results) < rows:
            part = self._pass(len(results), asking=False)
            results += part.results
            if part.trouble is not None:
                results.append(part.trouble)
        return results

    def close(self) -> None:
        """Kill everything that was started; a second call does nothing, nor does one in a forked copy."""
        zygote, self._zygote = self._zygote, None
        if zygote is None or os.getpid() != self._owner:
            return
        self._end(zygote)
        self._channel.close()
        for file in (self._channel.file, self._doorbell, self._done):
            os.close(file)

    # --- one chunk ----------------------------------------------------------------------------------------------------

    def _in_halves(self, examples: Sequence[Example], completions: Sequence[str]) -> list[Score | Failure]:
        half = len(completions) // 2
        first = self.score_batch(examples[:half], completions[:half])
        return first + self.score_batch(examples[half:], completions[half:])

    def _post(self, kind: int, payload: bytes, count: int) -> None:
        self._channel.write_request(payload)
        self._channel.words[ch.KIND] = kind
        self._channel.words[ch.COUNT] = count
