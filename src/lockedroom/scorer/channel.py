"""The shared memory between IsolatedScorer and its worker, and the words that they send each other.

    header      words of 8 bytes, see below
    request     one chunk of rows, written by the parent
    results     msgpack, one item a record, written by the child; what stands there survives the child's death

The file is sparse: only pages that are used cost memory. A record is *committed* by one 8-byte store that holds both
the number of finished rows and the end of their bytes, so a kill at any instant leaves a readable prefix. Pipes carry
only doorbells: the 8-byte sequence number of a chunk, one way to start it and the other way when it ends.
"""

from __future__ import annotations

import json
import marshal
import mmap
import os
import struct
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec

from lockedroom.records import Example, Failure, Score, ScorerSpec

HEADER_BYTES = 4096
REQUEST_BYTES = 256 * 1024 * 1024
RESULTS_BYTES = 4 * 1024 * 1024
LONGEST_RESULT = 64 * 1024
RESULTS_AT = HEADER_BYTES + REQUEST_BYTES
TOTAL_BYTES = HEADER_BYTES + REQUEST_BYTES + RESULTS_BYTES

# Header words.
SEQUENCE = 0  # of the chunk in the request area
KIND = 1  # SCORE_ROWS or ASK_ACCEPTS, plus MARSHALLED
SIZE = 2  # bytes of the request
FIRST = 3  # row to begin with: those before it were finished by a child that died
COUNT = 4  # rows in the chunk
JUDGING = 5  # row whose call began last
STARTED = 6  # when, on the monotonic clock, in ns
COMMITTED = 7  # rows finished << 40 | bytes of results
ESCAPED = 8  # 1 when a result is an Escaped
WORDS = 9

SCORE_ROWS, ASK_ACCEPTS, MARSHALLED = 0, 1, 2
NOTHING = (1 << 64) - 1
COMMIT_SHIFT = 40
RESULTS_HEAD = 5  # room for the msgpack array head that turns the items into one list

# parent -> zygote: one byte. zygote -> parent: Ready or Refused after the import, then events.
FORK, KILL = b"F", b"K"
EVENT = struct.Struct("<cq")  # STARTED_CHILD and its pid; CHILD_ENDED and its exit code (negative: the signal)
STARTED_CHILD, CHILD_ENDED = b"S", b"E"
LENGTH = struct.Struct("<I")


class Start(msgspec.Struct, frozen=True):
    """Everything the parent tells the worker: descriptors, its own pid, the memory cap and the target."""

    control: int
    doorbell: int
    done: int
    memory: int
    parent: int
    memory_bytes: int
    path: str
    function: str


class Escaped(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="escaped"):
    """A Score or Failure as ASCII JSON, for what msgpack refuses: lone surrogates and integers beyond 64 bits."""

    text: str


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The person's file is imported. `spec` is None when it declares none."""

    spec: ScorerSpec | None
    has_accepts: bool


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The person's file cannot be used; the message is for them."""

    message: str


Result = Score | Failure
_rows_encoder = msgspec.msgpack.Encoder()
_rows_decoder: msgspec.msgpack.Decoder[list[tuple[Example, str]]] = msgspec.msgpack.Decoder(list[tuple[Example, str]])
_answers_decoder: msgspec.msgpack.Decoder[list[Any]] = msgspec.msgpack.Decoder(list[Any])
_results_decoder: msgspec.msgpack.Decoder[list[Score | Failure | Escaped]] = msgspec.msgpack.Decoder(
    list[Score | Failure | Escaped]
)


class Channel:
    """One mapping of the shared memory. `words` is the header; `area` the whole mapping."""

    def __init__(self, file: int) -> None:
        self.file = file
        self.area = mmap.mmap(file, TOTAL_BYTES)
        self._kind = self._rows = 0
        self._view = memoryview(self.area)
        self.words: memoryview[int] = self._view[: WORDS * 8].cast("Q")

    def close(self) -> None:
        self.words.release()
        self._view.release()
        self.area.close()
        os.close(self.file)

    def post(self, kind: int, payload: bytes, rows: int) -> None:
        """Put a chunk into the request area; it stays there for as many children as it takes."""
        self._kind, self._rows = kind, rows  # what the child may have written over in the header
        self.area[HEADER_BYTES : HEADER_BYTES + len(payload)] = payload
        self.words[SIZE] = len(payload)

    def begin(self, sequence: int, first: int) -> None:
        """Set the header for work from row `first` on; call it only while no child works."""
        words = self.words
        words[FIRST], words[JUDGING], words[ESCAPED] = first, NOTHING, 0
        words[KIND], words[COUNT] = self._kind, self._rows
        words[COMMITTED] = first << COMMIT_SHIFT
        words[SEQUENCE] = sequence

    def progress(self) -> tuple[int, int, int]:
        return self.words[JUDGING], self.words[STARTED], self.words[COMMITTED]

    def judging(self) -> int | None:
        """Return when the call that has no result yet began, in monotonic ns; None between two calls."""
        judging, started, committed = self.progress()
        return started if judging == committed >> COMMIT_SHIFT else None

    def request(self) -> memoryview:
        return self._view[HEADER_BYTES : HEADER_BYTES + self.words[SIZE]]

    def collect(self, first: int) -> tuple[int, list[Result]]:
        """Return how many rows are finished since `first`, and the results that stand there.

        Raises ValueError or msgspec.MsgspecError when the child has damaged them.
        """
        committed = self.words[COMMITTED] >> COMMIT_SHIFT
        size = self.words[COMMITTED] & ((1 << COMMIT_SHIFT) - 1)
        if not first <= committed <= self._rows or size > RESULTS_BYTES - RESULTS_HEAD:
            raise ValueError("the header is damaged")
        finished = committed - first
        if not size:
            return finished, []
        count = 1 if self._kind & ASK_ACCEPTS else finished
        self.area[RESULTS_AT : RESULTS_AT + RESULTS_HEAD] = b"\xdd" + count.to_bytes(RESULTS_HEAD - 1, "big")
        items = _results_decoder.decode(self._view[RESULTS_AT : RESULTS_AT + RESULTS_HEAD + size])
        if self.words[ESCAPED]:
            return finished, [_unescape(item) if isinstance(item, Escaped) else item for item in items]
        return finished, cast("list[Result]", items)  # no Escaped among them


def create_file() -> int:
    """Return a descriptor of a new sparse file of TOTAL_BYTES that has no name."""
    if sys.platform == "linux":
        file = os.memfd_create("lockedroom-scorer")
    else:
        with tempfile.TemporaryFile() as temporary:
            file = os.dup(temporary.fileno())
    os.truncate(file, TOTAL_BYTES)
    return file


def encode_rows(examples: Sequence[Example], completions: Sequence[str]) -> tuple[int, bytes]:
    """Return KIND flags and bytes. marshal (never read from the child) takes what msgpack refuses, exactly."""
    try:
        return 0, _rows_encoder.encode(list(zip(examples, completions, strict=True)))
    except (OverflowError, UnicodeEncodeError):
        rows = zip(examples, completions, strict=True)
        return MARSHALLED, marshal.dumps([(e.id, e.prompt, e.expected_answer, e.metadata, c) for e, c in rows], 2)


def decode_rows(kind: int, raw: memoryview) -> Sequence[tuple[Example, str]]:
    """Return fresh objects for every row, so that what a scorer does to its arguments stays in that row."""
    if not kind & MARSHALLED:
        return _rows_decoder.decode(raw)
    return [
        (Example(id=name, prompt=prompt, expected_answer=answer, metadata=metadata), completion)
        for name, prompt, answer, metadata, completion in marshal.loads(raw)
    ]


def encode_answers(answers: Sequence[Any]) -> tuple[int, bytes]:
    """Return KIND flags and bytes, as encode_rows does."""
    try:
        return 0, _rows_encoder.encode(answers)
    except (OverflowError, UnicodeEncodeError):
        return MARSHALLED, marshal.dumps(list(answers), 2)


def decode_answers(kind: int, raw: memoryview) -> Sequence[Any]:
    """Return the expected answers of one chunk."""
    answers: Sequence[Any] = marshal.loads(raw) if kind & MARSHALLED else _answers_decoder.decode(raw)
    return answers


def result_encoder() -> Callable[[Result], tuple[bytes, bool]]:
    """Return the child's encoder: the bytes of one item, and whether it had to be escaped."""
    encode = msgspec.msgpack.Encoder().encode

    def encoded(result: Result) -> tuple[bytes, bool]:
        try:
            return encode(result), False
        except (OverflowError, UnicodeEncodeError):
            return encode(Escaped(json.dumps(msgspec.to_builtins(result)))), True

    return encoded


def _unescape(item: Escaped) -> Result:
    result: Result = msgspec.convert(json.loads(item.text), Score | Failure)
    return result
