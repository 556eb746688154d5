"""Progress on stderr: a bar with rate, time, what is left and the pass rate so far on a terminal, nothing otherwise.

What cannot say how far it is shows that it is at work, once it has taken a second.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

WATCH_SECONDS = 1.0
WATCH_BYTES = 4 * 1024 * 1024


@contextlib.contextmanager
def progress_bar(
    what: str, run: Path | None = None, total: Callable[[], int | None] = lambda: None
) -> Iterator[Callable[[int], None] | None]:
    """Yield a function that takes the number of attempts just finished, or None when stderr is not a terminal.

    `run` is the folder being written: its pass rate so far is shown as `lockedroom watch` would. `total` says how many
    attempts there will be, if that is known; it is asked only when there is a bar to show.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:,.0f}/s")  # None until two steps are done

    expected = total()
    left = () if expected is None else (BarColumn(20), TimeRemainingColumn(), TextColumn("left"))
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed:,.0f} attempts"),
               Rate(), TimeElapsedColumn(), *left)  # fmt: skip
    said = watched(what, run)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=expected)
        yield lambda attempts: bar.update(task, advance=attempts, description=said())


def watched(what: str, run: Path | None, every: float = WATCH_SECONDS) -> Callable[[], str]:
    """Return a function that says what is done and the pass rate so far, read from the records at most `every` so many seconds."""
    if run is None:
        return lambda: what
    import time

    from lockedroom.results.evaluation.watching import Stream, watch_interval

    stream = Stream(run)
    text, due = what, time.monotonic() + every

    def say() -> str:
        nonlocal text, due
        if time.monotonic() >= due:
            seen = stream.read_new(WATCH_BYTES)
            due = time.monotonic() + every
            if seen.scored:
                interval = watch_interval(seen, 0.95)
                text = f"{what}: pass rate {seen.passed / seen.scored:.3f} so far, in {interval.low:.3f} to {interval.high:.3f},"
        return text

    return say


@contextlib.contextmanager
def steps_bar(what: str, steps: int) -> Iterator[Callable[[int, str], None]]:
    """Yield a function that shows on a terminal how many steps are done, and what the last one says."""
    if not sys.stderr.isatty():
        yield lambda _done, _said: None
        return
    from rich.console import Console
    from rich.progress import (  # fmt: skip
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("left"),
               TextColumn("{task.description}"))  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=steps)
        yield lambda done, said: bar.update(task, completed=done, description=said)


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show a spinner with the time on a terminal when what is done inside takes over a second."""
    if not sys.stderr.isatty():
        yield
        return
    import threading

    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    shown = Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=Console(stderr=True), transient=True)  # fmt: skip
    shown.add_task(what, total=None)
    ended, lock = False, threading.Lock()

    def show() -> None:
        with lock:
            if not ended:
                shown.start()

    timer = threading.Timer(WATCH_SECONDS, show)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            ended = True
        timer.cancel()
        shown.stop()


def records_of(run: Path) -> int | None:
    """Return how many records a run says it holds; None where it cannot be read, which is not for a bar to say."""
    import json

    try:
        return int(json.loads((run / "manifest.json").read_bytes())["files"]["records.jsonl"]["lines"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def recorded_attempts(dataset: Path, completions: Path, limit: int | None) -> int | None:
    """Return how many attempts recorded completions make, by the shape of their first line; None where that does not say."""
    import json

    if completions.suffix != ".jsonl" or not completions.is_file():
        return None
    with completions.open("rb") as file:
        first = file.readline(WATCH_BYTES)
    try:
        samples = json.loads(first).get("samples")
    except (ValueError, AttributeError, RecursionError):
        return None
    draws = len(samples) if isinstance(samples, list) else 1
    return attempts_of(dataset, draws, limit)


def attempts_of(dataset: Path, draws: int, limit: int | None) -> int | None:
    """Return how many attempts a JSONL dataset makes, by its newlines; None for other files."""
    if dataset.suffix != ".jsonl" or not dataset.is_file():
        return None
    with dataset.open("rb") as file:
        rows = sum(block.count(b"\n") for block in iter(lambda: file.read(WATCH_BYTES), b""))
    return draws * (rows if limit is None else min(limit, rows))
