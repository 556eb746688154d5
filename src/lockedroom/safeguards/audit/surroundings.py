"""What a pure function never asks for: the time, chance, the process it runs in. And the surroundings that must not matter.

Calls are watched with `sys.setprofile`, which tells of every call that Python code makes to a function written in C. A call
made by C code (`map(time.time, …)`) is not told, nor is what a library in C does by itself.
"""

from __future__ import annotations

import datetime
import os
import random
import shutil
import subprocess
import sys
import types
from collections.abc import Sequence
from typing import Any, Self

# What a process sees of its surroundings besides the locale; verdicts may not depend on any of it.
ELSEWHERE = {"PYTHONHASHSEED": "4242", "TZ": "Pacific/Kiritimati", "COLUMNS": "40"}
C_LOCALE = "C"
# Locales in which careless code goes wrong: a dotless i, a decimal comma.
_TELLING = ("tr_TR", "de_DE", "fr_FR")
_LOCALES_TIMEOUT_S = 5.0

CLOCK, CHANCE, PROCESS, ENVIRONMENT, SLEEP = (
    "reads the clock", "draws from the system's randomness", "asks about its process", "reads the environment", "sleeps",
)  # fmt: skip
_CLOCK_NAMES = frozenset({
    "time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time", "process_time_ns",
    "thread_time", "thread_time_ns", "clock_gettime", "clock_gettime_ns", "localtime", "gmtime", "ctime",
})  # fmt: skip
_OF_MODULES = {
    "time": dict.fromkeys(_CLOCK_NAMES, CLOCK) | {"sleep": SLEEP},
    "_thread": {"start_new_thread": "starts threads"},
    os.getpid.__module__: {"urandom": CHANCE, "getrandom": CHANCE, "times": CLOCK}
    | dict.fromkeys(("getpid", "getppid", "getcwd", "uname", "getloadavg", "cpu_count"), PROCESS),
}
_GLOBAL_RANDOM = random.random.__self__  # type: ignore[attr-defined]  # a bound method of the hidden instance


class Calls:
    """A context manager that collects what calls ask for, in this thread."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def __enter__(self) -> Self:
        sys.setprofile(self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _hear(self, frame: types.FrameType, event: str, argument: Any) -> None:
        if event == "c_call":
            what = asked_for(argument)
            if what is not None:
                self.seen.add(what)
        elif event == "call" and frame.f_code is _ENVIRONMENT_READ:
            self.seen.add(ENVIRONMENT)


_ENVIRONMENT_READ = type(os.environ).__getitem__.__code__


def asked_for(function: Any) -> str | None:
    """Return what a C function asks for that a scorer may not know, or None."""
    owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
    if isinstance(owner, types.ModuleType):
        return _OF_MODULES.get(owner.__name__, {}).get(name)
    if isinstance(owner, type) and issubclass(owner, datetime.date) and name in ("now", "utcnow", "today"):
        return CLOCK
    return "draws from global randomness" if owner is _GLOBAL_RANDOM else None


def installed_locale() -> str | None:
    """Return a locale of this machine that is not C under another name, or None."""
    program = shutil.which("locale")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "-a"], capture_output=True, text=True, timeout=_LOCALES_TIMEOUT_S, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return most_telling(done.stdout.split())


def most_telling(names: Sequence[str]) -> str | None:
    """Return the locale in which careless code most likely goes wrong; None where all are C."""
    others = [name for name in names if name.partition(".")[0] not in ("C", "POSIX")]
    return min(
        others,
        key=lambda name: (next((i for i, start in enumerate(_TELLING) if name.startswith(start)), len(_TELLING)), name),
        default=None,
    )
