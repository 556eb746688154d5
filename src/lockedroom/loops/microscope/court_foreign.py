"""A person's function before the court: loaded and judged in a process of its own, so that nothing it does can end the session.

The child is a fork: it holds the batches already. It says when a call begins and ends; a call that takes longer than it may,
or a process that ends without a result, is a verdict like any other.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import select
import signal
import sys
import traceback
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch

from lockedroom.errors import BadInput
from lockedroom.jsonl import open_for_reading
from lockedroom.learning.court import Batches, Finding, batch_tensors, gradients, judge
from lockedroom.learning.foreign import (
    CALLED_WITH,
    GIVES_ADVANTAGES,
    SHAPES,
    Foreign,
    Shape,
    Unusable,
    foreign_advantages,
    foreign_slope,
    foreign_slopes,
)
from lockedroom.learning.probes import faults
from lockedroom.loops.microscope.court_timing import timed, timed_rows
from lockedroom.results.microscope.court import SEVERITY, Judged, worst
from lockedroom.visible import visible

FOREIGN_ROUNDING = 1e-5  # a person's function may compute in float32
CALL_SECONDS = 10.0  # that one call of a person's function may take
OTHER_SECONDS = 300.0  # that importing its file, or the court's own arithmetic between two calls, may take
_CALLED, _RETURNED, _RESULT = b"(", b")", b"\n"


class Named(msgspec.Struct, frozen=True):
    """A person's function as they name it: path/to/file.py:function, how it is called, what is passed as well."""

    name: str
    shape: str
    keywords: dict[str, Any] = {}
    seconds: float = CALL_SECONDS


class _Said(msgspec.Struct, frozen=True):
    """What the child found: a verdict, bad input, or a bug of ours."""

    kind: Literal["judged", "bad input", "bug"]
    judged: Judged | None = None
    text: str = ""


def judge_foreign(named: Named, batches: Sequence[Batches], *, beta: float = 0.0, cost: bool = True) -> Judged:
    """Return the verdict on a person's function; whatever it does amiss makes it BROKEN, with one message.

    Raises BadInput when it cannot be loaded, or not be called as its shape says.
    """
    _check_names(named)
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _in_child(named, batches, beta=beta, cost=cost, pipe=writing)
    os.close(writing)
    try:
        answer, late = _listen(reading, named.seconds)
    finally:
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if answer is None:
        how = (
            f"it did not return within {late:g} s and was stopped; --function-timeout allows more"
            if late
            else _ended(status)
        )
        return Judged(name=named.name, verdict="BROKEN", said=how, beta=beta, shape=named.shape)
    said = msgspec.json.decode(answer, type=_Said)
    if said.kind == "bad input":
        raise BadInput(said.text)
    if said.judged is None:
        raise RuntimeError(said.text)
    return said.judged


def _listen(reading: int, seconds: float) -> tuple[bytes | None, float]:
    """Return the child's answer, or None and how many seconds its last call was waited for (0: it ended by itself)."""
    got = b""
    allowed = OTHER_SECONDS
    while True:
        ready, _, _ = select.select([reading], [], [], allowed)
        if not ready:
            return None, allowed
        block = os.read(reading, 65536)
        if not block:
            return got.partition(_RESULT)[2] or None, 0.0
        got = (got + block).lstrip(_CALLED + _RETURNED)
        allowed = seconds if block.endswith(_CALLED) else OTHER_SECONDS


def _ended(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"it ended the process with signal {os.WTERMSIG(status)}"
    return f"it ended the process with exit code {os.WEXITSTATUS(status)}"


def _in_child(named: Named, batches: Sequence[Batches], *, beta: float, cost: bool, pipe: int) -> None:
    """Judge and send what was found; never returns."""
    try:
        torch.set_num_threads(1)  # OpenMP's other threads do not survive a fork
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is asked to stop, and stops this process
        foreign = load_foreign(named)
        called = foreign.function

        def watched(*arguments: Any, **keywords: Any) -> Any:
            os.write(pipe, _CALLED)
            try:
                return called(*arguments, **keywords)
            finally:
                os.write(pipe, _RETURNED)

        foreign = msgspec.structs.replace(foreign, function=watched)
        said = _Said("judged", _judged(foreign, batches, beta=beta, cost=cost))
    except BadInput as error:
        said = _Said("bad input", text=str(error))
    except BaseException:  # noqa: BLE001  # a bug of ours: its traceback is raised again by the parent
        said = _Said("bug", text=traceback.format_exc())
    answer = memoryview(_RESULT + msgspec.json.encode(said))
    while answer:
        answer = answer[os.write(pipe, answer) :]
    os._exit(0)


def _judged(foreign: Foreign, batches: Sequence[Batches], *, beta: float, cost: bool) -> Judged:
    findings: list[Finding] = []
    try:
        for one in batches:
            given = batch_tensors(one)
            whole_BD = gradients(one, foreign_slopes(foreign, given))
            plain_BD = None
            if beta > 0 and foreign.shape not in GIVES_ADVANTAGES:
                plain_BD = whole_BD - gradients(one, foreign_slopes(foreign, given, rewarded=False))
            findings.append(judge(one, whole_BD, beta, plain_BD=plain_BD, rounding=FOREIGN_ROUNDING))
        wrong = faults(foreign)
        spent = timed(lambda: _update(foreign)) if cost else None
    except Unusable as error:
        return Judged(
            name=foreign.name,
            verdict="BROKEN",
            said=str(error),
            beta=beta,
            findings=tuple(findings),
            shape=foreign.shape,
        )
    main = worst(findings)
    verdict = max([main.verdict, *(one.verdict for one in wrong)], key=SEVERITY.index)
    said = [main.said] if main.verdict != "UNBIASED" or not wrong else []
    return Judged(
        name=foreign.name, verdict=verdict, said="; ".join([*said, *(one.said for one in wrong)]), beta=beta,
        findings=tuple(findings), shape=foreign.shape, milliseconds=spent,
    )  # fmt: skip


def _update(foreign: Foreign) -> None:
    rows, rewards_PG = timed_rows()
    if foreign.shape in GIVES_ADVANTAGES:
        foreign_advantages(foreign, rewards_PG, rows.mask_NT)
    else:
        foreign_slope(foreign, rows)


def _check_names(named: Named) -> Shape:
    path, _, function = named.name.rpartition(":")
    if not path.endswith(".py") or not function.isidentifier():
        raise BadInput(f"--module {visible(named.name, 120)!r}: name your function as path/to/file.py:function")
    known = [one for one in SHAPES if one == named.shape]
    if not known:
        raise BadInput(f"--shape {visible(named.shape, 60)!r}: known are {', '.join(SHAPES)}")
    if not 0 < named.seconds < float("inf"):
        raise BadInput(f"--function-timeout {named.seconds:g}: seconds that one call may take, above 0")
    return known[0]


def load_foreign(named: Named) -> Foreign:
    """Return the function that is named. Raises BadInput when there is none that can be called so.

    The file runs in this process, so it is trusted as any import is.
    """
    shape = _check_names(named)
    path, _, function = named.name.rpartition(":")
    with open_for_reading(Path(path)) as file:
        source = file.read()
    found = _imported(path, source).get(function)
    if not callable(found):
        raise BadInput(f"{path}: no function {function!r} in this file")
    _check_call(f"{path}:{function}", shape, found, named.keywords)
    return Foreign(named.name, shape, found, named.keywords)


def _imported(path: str, source: bytes) -> dict[str, Any]:
    module = types.ModuleType("lockedroom_court_module")
    module.__file__ = path
    sys.modules[module.__name__] = module  # dataclasses look their module up
    with contextlib.redirect_stdout(sys.stderr):
        try:
            exec(
                compile(source, path, "exec", dont_inherit=True), module.__dict__
            )  # running the person's file is the point
        except BaseException as error:  # noqa: BLE001  # a person's code may raise anything; they get one message
            line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
            raise BadInput(
                f"{path}{line}: importing it raised {type(error).__name__}: {visible(str(error), 200)}; fix the file"
            ) from None
    return module.__dict__


def _check_call(where: str, shape: Shape, function: Callable[..., Any], keywords: Mapping[str, Any]) -> None:
    positions, names = CALLED_WITH[shape]
    try:
        signature = inspect.signature(function)
    except ValueError:
        return  # some functions written in C do not tell theirs
    try:
        signature.bind(*[None] * positions, **dict.fromkeys(names), **keywords)
    except TypeError as error:
        wanted = ", ".join(f"{one}=" for one in names) or f"{positions} by position"
        raise BadInput(
            f"{where}{visible(str(signature), 300)} cannot be called as --shape {shape} calls it ({wanted}): {error}; wrap it "
            "in a function that can, or pass more arguments with --with NAME=VALUE"
        ) from None
