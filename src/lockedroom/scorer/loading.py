"""Import a person's scorer or selector file and check what it offers. Runs in the worker's process only."""

from __future__ import annotations

import ast
import inspect
import signal
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.records import Code, ScorerSpec
from lockedroom.scorer.validate import shown

MODULE_NAME, PACKAGE_NAME = "lockedroom_custom_scorer", "lockedroom_custom_package"


class Loaded(msgspec.Struct, frozen=True):
    """The person's functions, and the rules that their SPEC sets."""

    function: Callable[..., Any]
    accepts: Callable[[Any], Any] | None
    spec: ScorerSpec | None


class Unusable(Exception):
    """Carries the message for the person from where it is found to the worker's `main`."""


def load(path: Path, function: str) -> Loaded:
    """Import the file under a name of its own and check what it offers. Raises Unusable with one clear message."""
    module = run_file(path)
    spec = _spec(path, vars(module)["SPEC"]) if "SPEC" in vars(module) else None
    accepts = vars(module).get("accepts")
    if accepts is not None:
        _check_signature(path, "accepts", accepts, 1, "accepts(expected_answer)")
    if function not in vars(module):
        names = ", ".join(name for name, value in vars(module).items() if inspect.isfunction(value))
        raise Unusable(f"{path}: no function '{function}' in this file; it has: {names or 'no functions'}")
    _check_signature(path, function, vars(module)[function], 2, f"{function}(example, completion)")
    return Loaded(vars(module)[function], accepts, spec)


def run_file(path: Path, what: str = "scorer") -> types.ModuleType:
    """Run the person's file as a module. Raises Unusable with one clear message."""
    source = path.read_bytes()  # compiled from these bytes: a stale .pyc can never run in place of the file
    sys.path.insert(0, str(path.parent))
    module = types.ModuleType(MODULE_NAME)
    module.__file__ = str(path)
    sys.modules[MODULE_NAME] = module
    try:
        code = compile(source, str(path), "exec", dont_inherit=True)
        module.__package__ = _packages_above(path, source)
        exec(code, module.__dict__)  # running the person's file is the point
    except Unusable:  # of the person's file, which this one, a wrapper of ours, loads
        raise
    except SystemExit:
        raise Unusable(
            f"{_where(path)}: the file ends the process (sys.exit) when it is imported; move that under "
            'if __name__ == "__main__":'
        ) from None
    except BaseException as error:  # noqa: BLE001  # a person's code may raise anything; they get one message
        raise Unusable(f"{_where(path)}: importing the {what} raised {described(error)}; fix the file") from None
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return module


def _packages_above(path: Path, source: bytes) -> str:
    """Make packages of the folders that the file's relative imports reach up to; return the name of its own, or nothing."""
    levels = max((node.level for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)), default=0)
    name = ""
    for folder in reversed(path.parents[:levels]):
        name = f"{name}.below" if name else PACKAGE_NAME
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        package.__package__ = name
        sys.modules[name] = package
        init = folder / "__init__.py"
        if init.is_file():
            package.__file__ = str(init)
            exec(compile(init.read_bytes(), str(init), "exec", dont_inherit=True), package.__dict__)
    return name


def load_beside(path: Path, function: str) -> Callable[[str], Any]:
    """Return another function of the person's file, of one argument: `viable(prefix)`. Raises Unusable."""
    module = run_file(path)
    found = vars(module).get(function)
    if found is None:
        raise Unusable(f"{path}: no function '{function}' in this file")
    _check_signature(path, function, found, 1, f"{function}(prefix)")
    return found  # type: ignore[no-any-return]  # callable, as was just checked


def load_selector(path: Path, class_name: str) -> Any:
    """Return an object of a class in the person's file that offers `select(asked, completions)`. Raises Unusable."""
    module = run_file(path, "selector")
    found = vars(module).get(class_name)
    if not isinstance(found, type) or not callable(getattr(found, "select", None)):
        raise Unusable(f"{path}: no class '{class_name}' with a method select(self, asked, completions) -> int")
    try:
        made = found()
    except BaseException as error:  # noqa: BLE001  # as above
        raise Unusable(
            f"{_where(path)}: making a {class_name} raised {described(error)}; it has to be made without arguments"
        ) from None
    _check_signature(path, f"{class_name}.select", made.select, 2, "select(self, asked, completions)")
    return made


def _check_signature(path: Path, name: str, function: Any, arguments: int, wanted: str) -> None:
    if not callable(function):
        raise Unusable(f"{path}: '{name}' is a {type(function).__name__}, not a function; define {wanted}")
    if inspect.iscoroutinefunction(function):
        raise Unusable(f"{path}: '{name}' is async; define it with def, as {wanted}")
    try:
        signature = inspect.signature(function)
    except ValueError:
        return  # some functions written in C do not tell theirs
    try:
        signature.bind(*[None] * arguments)
    except TypeError:
        raise Unusable(f"{path}: '{name}{signature}' cannot be called as {wanted}; change its arguments") from None


def _spec(path: Path, declared: Any) -> ScorerSpec:
    """Return SPEC with every field checked; a ScorerSpec is checked too, since structs check nothing when built."""
    if not isinstance(declared, (ScorerSpec, dict)):
        raise Unusable(f"{path}: SPEC is a {type(declared).__name__}; make it a ScorerSpec or a dict")
    try:
        plain = msgspec.to_builtins(declared)
        spec = msgspec.convert(plain, ScorerSpec)
    except (msgspec.ValidationError, TypeError) as error:
        raise Unusable(f"{path}: SPEC cannot be read: {error}; see docs/writing-a-scorer.md") from None
    unknown = set(plain) - set(ScorerSpec.__struct_fields__)
    unknown |= {key for code in plain.get("codes", ()) for key in code} - set(Code.__struct_fields__)
    if unknown:
        raise Unusable(f"{path}: SPEC has the unknown field {min(unknown)!r}; remove it")
    names = [code.name for code in spec.codes]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise Unusable(f"{path}: SPEC declares the code {twice[0]!r} twice; keep one")
    low, high = spec.reward_range
    if not -sys.float_info.max <= low < high <= sys.float_info.max:
        raise Unusable(f"{path}: SPEC's reward_range is {low} to {high}; give two finite numbers, the lower one first")
    if not spec.name or "" in names or spec.version < 0:
        raise Unusable(f"{path}: SPEC needs a name, codes with names, and a version of at least 0")
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
