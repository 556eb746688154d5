"""The scorer's side of an audit: a person's function, wrapped so that what it does besides returning is seen.

It runs in the isolated worker, loaded as a scorer file of a few lines (see asking.py). Every call travels as the metadata
of an example: `[batch, mode, argument, metadata]`. What is seen comes back in the details of a Score.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import io
import locale
import mmap
import os
import random
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.records import Details, Example, Failure, Outcome, Score, ScorerSpec
from lockedroom.safeguards.audit.foreign import adapted
from lockedroom.safeguards.audit.overhearing import Listening, Overheard
from lockedroom.safeguards.audit.process_state import changes, functions_in_use, replacements, settings
from lockedroom.safeguards.audit.surroundings import ELSEWHERE, Calls
from lockedroom.scorer.loading import Unusable
from lockedroom.scorer.validate import rules_for, to_score

SKIPPED, FAILED, SPEC_CODE, UNUSABLE, HEARD = (
    "audit_skipped",
    "audit_failure",
    "audit_spec",
    "audit_unusable",
    "audit_heard",
)
PLAIN, VALUE, THREAD, TOGETHER, DESCRIBE, WATCHED = "plain", "value", "thread", "together", "describe", "watched"
OVERHEAR, NO_THREAD = "overhear", "audit_no_thread"
# A batch goes on after this many calls that never came back; the rest of it is skipped.
MOST_DEATHS = 1
THREADS = 4
THREAD_WAIT_S = 10.0
_BATCH, _IN_CALL, _DEATHS = 0, 1, 2

# Audit events of the interpreter (https://docs.python.org/3/library/audit_events.html) that a pure function never raises.
_IMPURE = {
    "open": "opens files", "os.listdir": "reads folders", "os.scandir": "reads folders", "os.remove": "deletes files", "os.mkdir": "makes folders",
    "os.rename": "renames files", "os.chdir": "changes the working folder", "os.putenv": "changes the environment",
    "os.system": "starts processes", "os.fork": "starts processes", "os.forkpty": "starts processes", "os.posix_spawn": "starts processes",
    "os.exec": "starts processes", "subprocess.Popen": "starts processes", "os.kill": "sends signals", "socket.__new__": "opens sockets",
    "socket.connect": "opens sockets", "socket.getaddrinfo": "opens sockets", "import": "imports modules", "compile": "evaluates code",
    "exec": "evaluates code", "_thread.start_new_thread": "starts threads", "signal.pthread_kill": "sends signals", "ctypes.dlopen": "loads libraries",
    "sys.addaudithook": "watches the interpreter", "sys.setprofile": "watches the interpreter", "sys.settrace": "watches the interpreter",
    "sys._getframe": "looks at its callers", "sys._current_frames": "looks at its callers", "gc.get_objects": "looks at its callers",
    "gc.get_referrers": "looks at its callers", "socket.bind": "opens sockets", "socket.gethostname": "asks about its process",
    "sqlite3.connect": "opens files", "resource.setrlimit": "changes the limits of its process", "os.rmdir": "deletes files",
    "os.chmod": "changes files", "os.link": "changes files", "os.symlink": "changes files", "os.truncate": "changes files",
    "os.unsetenv": "changes the environment", "code.__new__": "evaluates code", "pickle.find_class": "evaluates code",
}  # fmt: skip


class Probe:
    """A person's scorer under watch. `shared` outlives the forked children, so a call that kills one is known to the next."""

    def __init__(self, path: str, function: str, signature: str) -> None:
        self.spec: ScorerSpec | None = None
        self.unusable = ""
        self.functions = functions_in_use()
        self.settings: dict[str, Any] = {}
        try:
            self.call, self.spec = adapted(Path(path), function, signature)
        except Unusable as trouble:
            self.unusable = str(trouble)
        self.rules = rules_for(self.spec)
        self.shared: memoryview[int] = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
        self.noise = -1
        self.calling = False
        self.events: set[str] = set()
        self.ready_in = self.threads = 0

    def score(self, example: Example, completion: str) -> Any:
        """Make one call in the mode that travels with the example, and return a Score that says what was seen."""
        assert example.metadata is not None, "every question of the audit carries its mode"
        batch, mode, argument, metadata = example.metadata["audit"]
        if self.ready_in != os.getpid():
            self._enter()
        shared = self.shared
        if shared[_BATCH] != batch:
            shared[_BATCH], shared[_DEATHS], shared[_IN_CALL] = batch, 0, 0
        if shared[_IN_CALL]:
            shared[_IN_CALL], shared[_DEATHS] = 0, shared[_DEATHS] + 1
        if mode == DESCRIBE:
            return self._describe()
        if shared[_DEATHS] >= MOST_DEATHS:
            return _told(SKIPPED, {})
        asked = Example(
            id=example.id, prompt=example.prompt, expected_answer=example.expected_answer, metadata=metadata
        )
        shared[_IN_CALL] = 1
        try:
            if mode == PLAIN:
                return self._plain(asked, completion)
            return self._special(mode, asked, argument if mode == VALUE else completion)
        finally:
            shared[_IN_CALL] = 0

    def _enter(self) -> None:
        """Called once in every child: watch its descriptors and the interpreter's own events."""
        self.ready_in, self.threads = os.getpid(), threading.active_count()
        with tempfile.TemporaryFile() as file:
            self.noise = os.dup(file.fileno())
        for descriptor in (1, 2):
            os.dup2(self.noise, descriptor)
        self.settings = settings()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, _arguments: tuple[Any, ...]) -> None:
        if self.calling and event in _IMPURE:
            self.events.add(_IMPURE[event])

    def _plain(self, example: Example, completion: Any) -> Any:
        snapshot = None if _is_scalar(example) else copy.deepcopy(example)
        self.events.clear()
        self.calling = True
        try:
            result = self.call(example, completion)
        finally:
            self.calling = False
        seen = sorted(self.events) if self.events else []
        if snapshot is not None and snapshot != example:
            seen.append("changes its arguments")
        if threading.active_count() > self.threads:
            self.threads = threading.active_count()
            seen.append("starts threads")
        if self._noisy():
            seen.append("writes to stdout or stderr")
        score = to_score(result, self.rules)
        if isinstance(score, Failure):
            return _told(FAILED, {"message": score.message, "seen": seen})
        if not seen:
            return score
        extra = {**(score.details.extra or {}), "audit_seen": seen}
        return msgspec.structs.replace(score, details=msgspec.structs.replace(score.details, extra=extra))

    def _special(self, mode: str, example: Example, completion: Any) -> Any:
        if mode == WATCHED:
            before = _random_states()
            with Calls() as calls:
                told = self._plain(example, completion)
            for what in sorted(calls.seen):
                told = _also_seen(told, what)
            if before != _random_states() and "draws from global randomness" not in calls.seen:
                told = _also_seen(told, "draws from global randomness")
            for what in changes(self.settings, settings()) + replacements(self.functions, functions_in_use()):
                told = _also_seen(told, what)
            return _also_seen(told, "leaves an alarm running") if signal.getitimer(signal.ITIMER_REAL)[0] else told
        if mode == OVERHEAR:
            return self._overhear(example, completion)
        if mode in (THREAD, TOGETHER):
            return self._in_threads(example, completion, 1 if mode == THREAD else THREADS)
        return self._plain(example, completion)

    def _overhear(self, example: Example, completion: str) -> Score:
        """Tell what the scorer compares a text with; what it makes of that text does not count."""
        with Listening() as listening, contextlib.suppress(Exception):
            self.call(example, Overheard(completion))
        return _told(HEARD, listening.told())

    def _in_threads(self, example: Example, completion: Any, count: int) -> Any:
        """Call from threads that are not the main one; results that differ among them, or an exception, are told."""
        results: list[Any] = []

        def call() -> None:
            try:
                results.append(to_score(self.call(copy.deepcopy(example), completion), self.rules))
            except BaseException as error:  # noqa: BLE001  # whatever a scorer raises in a thread is what we came to see
                results.append(f"raised {type(error).__name__}: {error}"[:200])

        threads = [threading.Thread(target=call, daemon=True) for _ in range(count)]
        try:
            for thread in threads:
                thread.start()
        except RuntimeError:  # the memory cap leaves no room for a stack: that is not the scorer's doing
            return _told(NO_THREAD, {})
        for thread in threads:
            thread.join(THREAD_WAIT_S)
        if len(results) < count:
            return _told(FAILED, {"message": "a call in a thread did not come back", "seen": []})
        for result in results:
            if isinstance(result, str):
                return _told(FAILED, {"message": f"in a thread that is not the main one it {result}", "seen": []})
        if isinstance(results[0], Failure):
            return _told(FAILED, {"message": results[0].message, "seen": []})
        if any(result != results[0] for result in results):
            return _also_seen(results[0], "gives threads different verdicts")
        return results[0]

    def _describe(self) -> Score:
        if self.unusable:
            return _told(UNUSABLE, {"message": self.unusable})
        return _told(SPEC_CODE, {"spec": msgspec.to_builtins(self.spec)})

    def _noisy(self) -> bool:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, ValueError, OSError):
                return True  # the scorer has closed or replaced it
        if isinstance(sys.stdout, io.TextIOWrapper) and os.lseek(self.noise, 0, os.SEEK_END):
            os.ftruncate(self.noise, 0)
            os.lseek(self.noise, 0, os.SEEK_SET)
            return True
        return not isinstance(sys.stdout, io.TextIOWrapper)


def probe(path: str, function: str, signature: str, elsewhere: str) -> Callable[[Example, str], Any]:
    """Return the watched scorer's `score`. `elsewhere`: a locale, for a process whose surroundings are all different ones."""
    if elsewhere and os.environ.get("PYTHONHASHSEED") != ELSEWHERE["PYTHONHASHSEED"]:
        # The worker fixes the hash seed for measurements. Starting it anew, in place, is the only way to have another.
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **ELSEWHERE, "LC_ALL": elsewhere, "LANG": elsewhere})
    if elsewhere:
        locale.setlocale(locale.LC_ALL, elsewhere)
    _preload()
    return Probe(path, function, signature).score


def _preload() -> None:
    """Import what the watch itself may touch later, so that it is never blamed on the scorer."""
    import encodings.idna  # noqa: F401
    import traceback  # noqa: F401
    import unicodedata  # noqa: F401

    ctypes.CDLL(None)


def _is_scalar(example: Example) -> bool:
    return example.metadata is None and not isinstance(example.expected_answer, (list, dict))


def _random_states() -> tuple[Any, ...]:
    numpy = sys.modules.get("numpy")
    state = None if numpy is None else numpy.random.get_state()[1].tobytes()
    return random.getstate(), state


def _also_seen(told: Any, what: str) -> Any:
    if not isinstance(told, Score):
        return told
    extra = dict(told.details.extra or {})
    key = "seen" if told.details.code == FAILED else "audit_seen"
    extra[key] = [*extra.get(key, []), what]
    return msgspec.structs.replace(told, details=msgspec.structs.replace(told.details, extra=extra))


def _told(code: str, extra: dict[str, Any]) -> Score:
    return Score(0.0, Details(code, Outcome.WRONG, None, "", extra))
