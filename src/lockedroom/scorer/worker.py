"""The isolated side of a person's scorer: `python -m lockedroom.scorer.worker`, started by IsolatedScorer only.

One *zygote* imports the person's file, once, and forks a scoring *child* whenever the parent asks; a fork takes about a
millisecond, so an expensive import is paid once however often children are killed. The child judges chunks of rows
from shared memory (see channel.py) and commits each result there.

Nobody is left behind: the child is killed by the kernel when the zygote dies, the zygote ends at the end of its control
socket or when its parent changes, and it adopts (Linux) and kills every process that a child started.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import time
import warnings
from pathlib import Path

import msgspec

from lockedroom.records import Failure, FailureCode
from lockedroom.scorer import channel as ch
from lockedroom.scorer.loading import Loaded, Unusable, described, load
from lockedroom.scorer.validate import Rules, rules_for, shown, to_score
from lockedroom.wording import counted

PARENT_CHECK_S = 1.0
# linux/prctl.h
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

# The scorer may patch the clock of its own process; ours is bound before its file is imported.
_now = time.monotonic_ns


def main(argument: str) -> None:
    """Import, report Ready or Refused, then fork children until the parent goes away."""
    start = msgspec.convert(json.loads(argument), ch.Start)
    control = socket.socket(fileno=start.control)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # the parent waits for the import, so its thread is alive until then
    if os.getppid() != start.parent:
        os._exit(0)
    try:
        loaded = load(Path(start.path), start.function)
    except Unusable as trouble:
        _tell(control, ch.Refused(shown(str(trouble), 1000)))
        os._exit(0)
    # From here on, death of the *thread* that started us (which is what the kernel reports) must not matter.
    prctl(PR_SET_PDEATHSIG, 0)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    gc.collect()
    gc.freeze()  # children then share these pages instead of copying them at their first collection
    _tell(control, ch.Ready(loaded.spec, loaded.accepts is not None))
    Zygote(start, control, loaded).serve()
    os.killpg(0, signal.SIGKILL)  # ourselves, and what the import may have started


# --- the zygote -------------------------------------------------------------------------------------------------------


class Zygote:
    """Forks, kills and reaps the child on the parent's word; holds one child at a time."""

    def __init__(self, start: ch.Start, control: socket.socket, loaded: Loaded) -> None:
        self.start, self.control, self.loaded = start, control, loaded
        self.child = 0
        self.before = _children()  # what the import started belongs to the scorer, and stays
        self.wake, wake_end = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(wake_end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)

    def serve(self) -> None:
        """Return when the parent has closed the control socket or is gone, with every child dead."""
        poller = select.poll()
        poller.register(self.control, select.POLLIN)
        poller.register(self.wake, select.POLLIN)
        while os.getppid() == self.start.parent:
            ready = {file for file, _ in poller.poll(PARENT_CHECK_S * 1000)}
            if self.wake in ready:
                os.read(self.wake, 512)
            if self.child:
                self._reap(os.WNOHANG)
            if self.control.fileno() in ready:
                command = self.control.recv(1)
                if command == b"":
                    break
                if command == ch.FORK and not self.child:
                    self._fork()
                elif command == ch.KILL and self.child:
                    _kill_group(self.child)
                    self._reap(0)
        if self.child:
            _kill_group(self.child)
            os.waitpid(self.child, 0)
        self._sweep(keep=set())

    def _fork(self) -> None:
        zygote = os.getpid()
        with warnings.catch_warnings():  # Python 3.12 warns when the import has started threads
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            try:
                self.control.close()
                _enter_child(zygote)
                Child(self.start, self.loaded).serve()
            finally:
                os._exit(0)
        self.child = pid
        self._event(ch.STARTED_CHILD, pid)

    def _reap(self, options: int) -> None:
        pid, status = os.waitpid(self.child, options)
        if pid == 0:
            return
        _kill_group(self.child)  # what it had started and left in its group
        self.child = 0
        self._sweep(self.before)
        self._event(ch.CHILD_ENDED, os.waitstatus_to_exitcode(status))

    def _sweep(self, keep: set[int]) -> None:
        """Kill what the dead child had started and we adopted, until a look finds nothing new."""
        while adopted := _children() - keep:
            for pid in adopted:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def _event(self, kind: bytes, value: int) -> None:
        with contextlib.suppress(OSError):  # the parent is gone; `serve` sees that next
            self.control.sendall(ch.EVENT.pack(kind, value))


def _children() -> set[int]:
    """Return the pids of our children; empty where the system does not tell (not Linux)."""
    try:
        return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}
    except OSError:
        return set()


def _kill_group(leader: int) -> None:
    for kill in (os.killpg, os.kill):  # both: it may not have called setsid yet, or be dead with others left
        with contextlib.suppress(OSError):
            kill(leader, signal.SIGKILL)


# --- the child --------------------------------------------------------------------------------------------------------


class Child:
    """Judges chunks until the doorbell closes. Ends itself after a MemoryError: the next row gets a clean process."""

    def __init__(self, start: ch.Start, loaded: Loaded) -> None:
        self.start, self.loaded = start, loaded
        self.rules: Rules = rules_for(loaded.spec)
        self.channel = ch.Channel(start.memory)
        self.copied = False  # true in a copy of us that the scorer forked and that came back here
        os.register_at_fork(after_in_child=self._mark_copied)
        _limit_memory(start.memory_bytes)

    def serve(self) -> None:
        words = self.channel.words
        while sequence := os.read(self.start.doorbell, 8):
            if words[ch.SEQUENCE] != int.from_bytes(sequence, sys.byteorder):
                continue  # rung for a child that died before it heard
            if words[ch.KIND] & ch.ASK_ACCEPTS:
                self._ask(words[ch.FIRST], words[ch.COUNT])
            else:
                self._score(words[ch.FIRST], words[ch.COUNT])
            os.write(self.start.done, sequence)

    def _score(self, first: int, count: int) -> None:
        """Commit one result a row, until the chunk ends or the result area might not hold the next."""
        area, words, function, rules = self.channel.area, self.channel.words, self.loaded.function, self.rules
        encoded = ch.result_encoder()
        out_of_memory = encoded(Failure(FailureCode.SCORER_MEMORY, self._memory_message()))
        try:
            rows = ch.decode_rows(words[ch.KIND], self.channel.request())
        except MemoryError:  # the chunk alone, so one huge record or a tiny cap
            self._commit_alone(first + 1, out_of_memory[0])
            os._exit(0)
        offset = ch.RESULTS_AT + ch.RESULTS_HEAD
        position, full = 0, ch.RESULTS_BYTES - ch.RESULTS_HEAD - ch.LONGEST_RESULT
        for row in range(first, count):
            if position > full:
                return
            example, completion = rows[row]
            words[ch.STARTED] = _now()
            words[ch.JUDGING] = row
            retire = False
            try:
                data, escaped = encoded(to_score(function(example, completion), rules))
            except MemoryError:
                (data, escaped), retire = out_of_memory, True
            except BaseException as error:  # noqa: BLE001  # nothing the scorer raises may end the run
                data, escaped = encoded(Failure(FailureCode.SCORER_RAISED, described(error)))
            if self.copied:
                os._exit(0)
            if len(data) > ch.LONGEST_RESULT:
                data, escaped = encoded(_oversized(len(data)))
            if escaped:
                words[ch.ESCAPED] = 1
            area[offset + position : offset + position + len(data)] = data
            position += len(data)
            words[ch.COMMITTED] = (row + 1) << ch.COMMIT_SHIFT | position
            if retire:
                os._exit(0)

    def _ask(self, first: int, count: int) -> None:
        """Commit each answer that `accepts` takes; stop uncommitted at a refusal, or with a Failure as the result."""
        words, accepts = self.channel.words, self.loaded.accepts
        assert accepts is not None, "the parent asks only when the module has accepts"
        answers = ch.decode_answers(words[ch.KIND], self.channel.request())
        for row in range(first, count):
            words[ch.STARTED] = _now()
            words[ch.JUDGING] = row
            try:
                taken = accepts(answers[row])
                trouble = None if isinstance(taken, bool) else f"returned a {type(taken).__name__}, not True or False"
            except BaseException as error:  # noqa: BLE001  # as above
                taken, trouble = False, f"raised {described(error)}"
            if self.copied:
                os._exit(0)
            if trouble is not None:
                self._commit_alone(row, ch.result_encoder()(Failure(FailureCode.SCORER_RAISED, trouble))[0])
                return
            if not taken:
                return
            words[ch.COMMITTED] = (row + 1) << ch.COMMIT_SHIFT

    def _commit_alone(self, finished: int, data: bytes) -> None:
        offset = ch.RESULTS_AT + ch.RESULTS_HEAD
        self.channel.area[offset : offset + len(data)] = data
        self.channel.words[ch.COMMITTED] = finished << ch.COMMIT_SHIFT | len(data)

    def _memory_message(self) -> str:
        return f"the scorer needed more than its {self.start.memory_bytes >> 20} MB of memory"

    def _mark_copied(self) -> None:
        self.copied = True


def _oversized(size: int) -> Failure:
    return Failure(
        FailureCode.SCORER_INVALID_RESULT,
        f"the result takes {counted(size, 'byte')}; at most {ch.LONGEST_RESULT} are kept",
    )


def _enter_child(zygote: int) -> None:
    os.setsid()  # one kill of the group then reaches what the scorer starts
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != zygote:
        os._exit(0)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_memory(allowance: int) -> None:
    """Cap the address space at what is mapped now plus `allowance`; only Linux tells and enforces it."""
    if sys.platform != "linux":
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + allowance
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def _tell(control: socket.socket, message: ch.Ready | ch.Refused) -> None:
    body = msgspec.msgpack.encode(message)
    control.sendall(ch.LENGTH.pack(len(body)) + body)


if __name__ == "__main__":
    main(sys.argv[1])
