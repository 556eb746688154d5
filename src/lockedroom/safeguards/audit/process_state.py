"""What a scorer must leave as it finds it in its process: the interpreter's own functions, its limits, handlers and streams."""

from __future__ import annotations

import atexit
import builtins
import decimal
import gc
import locale
import os
import signal
import sys
from typing import Any

# Whose functions nobody but their authors may replace: what judges a result, and what everybody calls.
_OWN = "lockedroom"
_MODULES = ("json", "math", "msgspec", "msgspec.json", "os", "random", "re", "string", "time", "unicodedata")


def functions_in_use() -> dict[str, dict[str, int]]:
    """Return the identity of every function and class of the interpreter, the standard library's, and ours, by module."""
    modules = [name for name in sys.modules if name in _MODULES or name.partition(".")[0] == _OWN]
    return {"builtins": _functions(vars(builtins))} | {name: _functions(vars(sys.modules[name])) for name in modules}


def _functions(names: dict[str, Any]) -> dict[str, int]:
    return {name: id(value) for name, value in list(names.items()) if callable(value)}


def settings() -> dict[str, Any]:
    """Return the settings that calls in one process share."""
    context = decimal.getcontext()
    return {
        "the recursion limit": sys.getrecursionlimit(),
        "the trace function": sys.gettrace(),
        "the limit of int()": sys.get_int_max_str_digits(),
        "the garbage collector": gc.isenabled(),
        "the locale": locale.setlocale(locale.LC_ALL),
        "the decimal context": (context.prec, context.rounding, context.Emin, context.Emax),
        "signal handlers": tuple(map(str, map(signal.getsignal, signal.valid_signals()))),
        "exit handlers": atexit._ncallbacks(),
        "the working folder": os.getcwd(),
        "the environment": dict(os.environ),
        "the import path": tuple(sys.path),
        "standard streams": (id(sys.stdout), id(sys.stderr), id(sys.stdin), tuple(map(_is_open, range(3)))),
    }


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return in words what differs, of `settings()`."""
    return [f"changes {name}" for name, value in after.items() if before.get(name, value) != value]


def replacements(before: dict[str, dict[str, int]], after: dict[str, dict[str, int]]) -> list[str]:
    """Return in words whose functions were replaced, of `functions_in_use()`; modules that came later do not count."""
    return [
        f"replaces functions of {module}"
        for module, functions in before.items()
        if any(after.get(module, {}).get(name) != identity for name, identity in functions.items())
    ]
