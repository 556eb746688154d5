"""The isolated side of a person's scorer: `python -m lockedroom.scorer.worker`, started by IsolatedScorer only.

One *zygote* imports the person's file, once, and forks a scoring *child* whenever the parent asks; a fork takes about a
millisecond, so an expensive import is paid once however often children are killed. The child judges chunks of rows
from shared memory (see channel.py) and commits each result there.

Nobody is left behind: the child is killed by the kernel when the zygote dies, the zygote ends at the end of its control
socket or when its parent changes, and it adopts (Linux) and kills every process that a child started.
"""

from __future__ import annotations

import ctypes
import gc
import inspect
import json
import os
import resource
import select
import signal
import socket
import sys
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.records import Code, Failure, FailureCode, ScorerSpec
from lockedroom.scorer import channel as ch
from lockedroom.scorer.validate import Rules, rules_for, shown, to_score

MODULE_NAME = "lockedroom_custom_scorer"
PARENT_CHECK_S = 1.0
# linux/prctl.h
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

# The scorer may patch the clock of its own process; ours is bound before its file is imported.
_now = time.monotonic_ns


class Loaded(msgspec.Struct, frozen=True):
    """The person's functions, and the rules that their SPEC sets."""

    function: Callable[..., Any]
    accepts: Callable[[Any], Any] | None
    spec: ScorerSpec | None


class _Unusable(Exception):
    """Carries the message for the person from where it is found to `main`."""


def main(argument: str) -> None:
    """Import, report Ready or Refused, then fork children until the parent goes away."""
    start = msgspec.convert(json.loads(argument), ch.Start)
    control = socket.socket(fileno=start.control)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # the parent waits for the import, so its thread is alive until then
    if os.getppid() != start.parent:
        os._exit(0)
    try:
        loaded = load(Path(start.path), start.function)
    except _Unusable as trouble:
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


# --- the person's file ------------------------------------------------------------------------------------------------


def load(path: Path, function: str) -> Loaded:
    """Import the file under a name of its own and check what it offers. Raises _Unusable with one clear message."""
    source = path.read_bytes()  # compiled from these bytes: a stale .pyc can never run in place of the file
    sys.path.insert(0, str(path.parent))
    module = types.ModuleType(MODULE_NAME)
    module.__file__ = str(path)
    sys.modules[MODULE_NAME] = module
    try:
        code = compile(source, str(path), "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: PLW0122  # running the person's file is the point
    except SystemExit:
        raise _Unusable(
            f"{_where(path)}: the file ends the process (sys.exit) when it is imported; move that under "
            'if __name__ == "__main__":'
        ) from None
    except BaseException as error:  # noqa: BLE001  # a person's code may raise anything; they get one message
        raise _Unusable(f"{_where(path)}: importing the scorer raised {described(error)}; fix the file") from None
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    spec = _spec(path, vars(module)["SPEC"]) if "SPEC" in vars(module) else None
    accepts = vars(module).get("accepts")
    if accepts is not None:
        _check_signature(path, "accepts", accepts, 1, "accepts(expected_answer)")
    if function not in vars(module):
        names = ", ".join(name for name, value in vars(module).items() if inspect.isfunction(value))
        raise _Unusable(f"{path}: no function '{function}' in this file; it has: {names or 'no functions'}")
    _check_signature(path, function, vars(module)[function], 2, f"{function}(example, completion)")
    return Loaded(vars(module)[function], accepts, spec)


def _check_signature(path: Path, name: str, function: Any, arguments: int, wanted: str) -> None:
    if not callable(function):
        raise _Unusable(f"{path}: '{name}' is a {type(function).__name__}, not a function; define {wanted}")
    if inspect.iscoroutinefunction(function):
        raise _Unusable(f"{path}: '{name}' is async; define it with def, as {wanted}")
    try:
        signature = inspect.signature(function)
    except ValueError:
        return  # some functions written in C do not tell theirs
    try:
        signature.bind(*[None] * arguments)
    except TypeError:
        raise _Unusable(f"{path}: '{name}{signature}' cannot be called as {wanted}; change its arguments") from None


def _spec(path: Path, declared: Any) -> ScorerSpec:
    """Return SPEC with every field checked; a ScorerSpec is checked too, since structs check nothing when built."""
    if not isinstance(declared, (ScorerSpec, dict)):
        raise _Unusable(f"{path}: SPEC is a {type(declared).__name__}; make it a ScorerSpec or a dict")
    try:
        plain = msgspec.to_builtins(declared)
        spec = msgspec.convert(plain, ScorerSpec)
    except (msgspec.ValidationError, TypeError) as error:
        raise _Unusable(f"{path}: SPEC cannot be read: {error}; see docs/writing-a-scorer.md") from None
    unknown = set(plain) - set(ScorerSpec.__struct_fields__)
    unknown |= {key for code in plain.get("codes", ()) for key in code} - set(Code.__struct_fields__)
    if unknown:
        raise _Unusable(f"{path}: SPEC has the unknown field {min(unknown)!r}; remove it")
    names = [code.name for code in spec.codes]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise _Unusable(f"{path}: SPEC declares the code {twice[0]!r} twice; keep one")
    low, high = spec.reward_range
    if not -sys.float_info.max <= low < high <= sys.float_info.max:
        raise _Unusable(f"{path}: SPEC's reward_range is {low} to {high}; give two finite numbers, the lower one first")
    if not spec.name or "" in names or spec.version < 0:
        raise _Unusable(f"{path}: SPEC needs a name, codes with names, and a version of at least 0")
    return spec


def _where(path: Path) -> str:
    """Return file:line of the innermost line of the person's file in the exception being handled."""
    error = sys.exc_info()[1]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}:{error.lineno}"
    line, trace = 0, error.__traceback__ if error else None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{path}:{line}" if line else str(path)


def described(error: BaseException) -> str:
    """Return `TypeName: text`, short and printable, whatever the exception's own __str__ does."""
    try:
        text = str(error.msg if isinstance(error, SyntaxError) else error)
    except BaseException:  # noqa: BLE001  # the text is the scorer's code too
        text = "(its text cannot be read)"
    return shown(f"{type(error).__name__}: {text}" if text else type(error).__name__)


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
                _enter_child(zygote, self.start)
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
        try:
            self.control.sendall(ch.EVENT.pack(kind, value))
        except OSError:
            pass  # the parent is gone; `serve` sees that next


def _children() -> set[int]:
    """Return the pids of our children; empty where the system does not tell (not Linux)."""
    try:
        return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}
    except OSError:
        return set()


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except OSError:
        pass  # it has not called setsid yet, or nobody is left in it
    try:
        os.kill(leader, signal.SIGKILL)
    except OSError:
        pass


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
        rows = ch.decode_rows(words[ch.KIND], self.channel.request())
        offset = ch.HEADER_BYTES + ch.REQUEST_BYTES + ch.RESULTS_HEAD
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
                self._commit_refusal(row, trouble)
            if not taken or trouble is not None:
                return
            words[ch.COMMITTED] = (row + 1) << ch.COMMIT_SHIFT

    def _commit_refusal(self, row: int, trouble: str) -> None:
        data, _ = ch.result_encoder()(Failure(FailureCode.SCORER_RAISED, trouble))
        offset = ch.HEADER_BYTES + ch.REQUEST_BYTES + ch.RESULTS_HEAD
        self.channel.area[offset : offset + len(data)] = data
        self.channel.words[ch.COMMITTED] = row << ch.COMMIT_SHIFT | len(data)

    def _memory_message(self) -> str:
        return f"the scorer needed more than its {self.start.memory_bytes >> 20} MB of memory"

    def _mark_copied(self) -> None:
        self.copied = True


def _oversized(size: int) -> Failure:
    return Failure(
        FailureCode.SCORER_INVALID_RESULT, f"the result takes {size} bytes; at most {ch.LONGEST_RESULT} are kept"
    )


def _enter_child(zygote: int, start: ch.Start) -> None:
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
