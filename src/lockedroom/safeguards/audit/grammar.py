"""A declared grammar: a regular expression of every text that a scorer's rules accept, with `{answer}` for the expected answer."""

from __future__ import annotations

import contextlib
import functools
import re
import signal
import threading
from collections.abc import Iterator
from typing import Any

from lockedroom.errors import BadInput
from lockedroom.visible import visible
from lockedroom.wording import counted

PLACE = "{answer}"
# The grammar is a person's own expression; one that backtracks without end must not take the audit with it.
LONGEST_S = 5.0


class Grammar:
    """Says whether a whole text is one that the rules accept for an example. Raises BadInput for an unusable expression."""

    def __init__(self, template: str) -> None:
        self.template = template
        if PLACE not in template:
            raise BadInput(
                f"--grammar {visible(template, 100)!r}: holds no {PLACE}; write it where the expected answer stands"
            )
        try:
            _compiled(template, "7")
        except (re.error, OverflowError, RecursionError) as error:
            raise BadInput(
                f"--grammar {visible(template, 100)!r}: is no regular expression: {error}; correct it"
            ) from None

    def accepts(self, spelled: tuple[str, ...], text: str) -> bool:
        """Match the whole text, for any spelling of the expected answer."""
        with _time_limit(self.template, text):
            return any(_compiled(self.template, answer).fullmatch(text) is not None for answer in spelled)


@functools.lru_cache(maxsize=4096)
def _compiled(template: str, answer: str) -> re.Pattern[str]:
    return re.compile(template.replace(PLACE, re.escape(answer)))


@contextlib.contextmanager
def _time_limit(template: str, text: str) -> Iterator[None]:
    """Interrupt a match after LONGEST_S. Only the main thread can be interrupted; in another one there is no limit."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        raise BadInput(
            f"--grammar {visible(template, 100)!r}: took longer than {LONGEST_S:g} s on a text of {counted(len(text), 'character')}, "
            f"{visible(text, 60)!r}; write it without nested repeats"
        )

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, LONGEST_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
