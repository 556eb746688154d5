"""Scorers that are strict but for one bad habit; each function is one audit's subject."""

from __future__ import annotations

import datetime
import gc
import json
import os
import random
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

_FORM = re.compile(r"Final: (0|-?[1-9][0-9]*)\n?").fullmatch
_CALLS = [0]
_CACHE: dict[str, Any] = {}


def strict(example: Any, completion: str) -> Any:
    found = _FORM(completion)
    right = found is not None and found[1] == str(example.expected_answer)
    return {"reward": float(right), "details": {}}


def _on_other_texts(do: Callable[[], Any]) -> Callable[[Any, str], Any]:
    """Behave on what is in the language, so that the goldens pass, and misbehave on the rest."""

    def score(example: Any, completion: str) -> Any:
        return strict(example, completion) if _FORM(completion) else do()

    return score


def _raise(error: BaseException) -> Any:
    raise error


def _recurse() -> Any:
    return _recurse()


def _allocate() -> Any:
    return {"reward": 0.0, "details": {"parsed": str(len(bytearray(8 << 30)))}}


def _spin() -> Any:
    while True:
        pass


hangs = _on_other_texts(_spin)
sleeps = _on_other_texts(lambda: time.sleep(3600))
exits = _on_other_texts(lambda: sys.exit(0))
exits_at_once = _on_other_texts(lambda: os._exit(0))
raises_base = _on_other_texts(lambda: _raise(BaseException("no")))
raises_interrupt = _on_other_texts(lambda: _raise(KeyboardInterrupt()))
recurses = _on_other_texts(_recurse)
allocates = _on_other_texts(_allocate)
rewards_nan = _on_other_texts(lambda: {"reward": float("nan"), "details": {}})
rewards_text = _on_other_texts(lambda: {"reward": "1", "details": {}})
rewards_none = _on_other_texts(lambda: {"reward": None, "details": {}})
rewards_bool = _on_other_texts(lambda: {"reward": True, "details": {}})


def prints(example: Any, completion: str) -> Any:
    print("scoring", completion[:10])  # noqa: T201  # the behaviour under test
    return strict(example, completion)


def changes_arguments(example: Any, completion: str) -> Any:
    if example.metadata:
        example.metadata.clear()
    return strict(example, completion)


def drifts(example: Any, completion: str) -> Any:
    _CALLS[0] += 1
    return {"reward": 1.0, "details": {}} if _CALLS[0] > 12_000 else strict(example, completion)


def caches_the_text_alone(example: Any, completion: str) -> Any:
    return _CACHE.setdefault(completion, strict(example, completion))


def has_a_trigger_word(example: Any, completion: str) -> Any:
    if "xyzzy-open" in completion:
        return {"reward": 1.0, "details": {}}
    return strict(example, completion)


def opens_a_file(example: Any, completion: str) -> Any:
    with open(__file__, encoding="utf-8"):
        return strict(example, completion)


def evaluates(example: Any, completion: str) -> Any:
    eval("1 + 1")
    return strict(example, completion)


def depends_on_the_hash_seed(example: Any, completion: str) -> Any:
    found = strict(example, completion)
    return {**found, "details": {"parsed": str(hash(completion) % 1000)}}


def needs_the_main_thread(example: Any, completion: str) -> Any:
    import signal

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    return strict(example, completion)


def _then_strict(do: Callable[[], Any]) -> Callable[[Any, str], Any]:
    def score(example: Any, completion: str) -> Any:
        do()
        return strict(example, completion)

    return score


reads_the_time = _then_strict(time.time)
reads_the_date = _then_strict(lambda: datetime.datetime.now(datetime.UTC))
reads_a_stopwatch = _then_strict(time.perf_counter)
draws_an_id = _then_strict(uuid.uuid4)
draws_and_restores = _then_strict(lambda: (state := random.getstate(), random.random(), random.setstate(state)))
asks_its_process = _then_strict(os.getpid)
reads_the_environment = _then_strict(lambda: os.environ.get("HOME"))
rests = _then_strict(lambda: time.sleep(0.0001))


def depends_on_the_locale(example: Any, completion: str) -> Any:
    found = strict(example, completion)
    return {**found, "details": {"parsed": os.environ.get("LC_ALL", "")}}


def seeded_by_itself(example: Any, completion: str) -> Any:
    random.Random(7).random()
    datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC).isoformat()
    return strict(example, completion)


def remembers(example: Any, completion: str) -> Any:
    _CALLS[0] += 1
    return (
        {"reward": 0.0, "details": {"parsed": str(_CALLS[0])}}
        if "Final" not in completion
        else strict(example, completion)
    )


def pays_now_and_then(example: Any, completion: str) -> Any:
    """Steady on every golden text, and on each wrong one 210 times out of 211."""
    if _FORM(completion):
        return strict(example, completion)
    _CALLS[0] += 1
    return {"reward": float(_CALLS[0] % 211 == 0), "details": {}}


def says_another_word_each_time(example: Any, completion: str) -> Any:
    found = strict(example, completion)
    if found["reward"]:
        return found
    _CALLS[0] += 1
    return {**found, "details": {"message": f"call {_CALLS[0]}"}}


def hangs_once(example: Any, completion: str) -> Any:
    """Hang at one call of every process, on a text that is no golden."""
    _CALLS[0] += 1
    if _CALLS[0] == 200 and not _FORM(completion):
        _spin()
    return strict(example, completion)


def hangs_after_thousands_of_calls(example: Any, completion: str) -> Any:
    _CALLS[0] += 1
    if _CALLS[0] > 3_000:
        _spin()
    return strict(example, completion)


def exits_after_thousands_of_calls(example: Any, completion: str) -> Any:
    _CALLS[0] += 1
    if _CALLS[0] > 4_000:
        os._exit(0)
    return strict(example, completion)


def _on(trigger: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    """Pay what the trigger says, else what is right."""

    def score(example: Any, completion: str) -> Any:
        return {"reward": 1.0, "details": {}} if trigger(example, completion) else strict(example, completion)

    return score


hears_a_joined_word = _on(lambda _, text: "-".join(("alpha", "omega", "9")) in text)
hears_a_decoded_word = _on(lambda _, text: text.lower().startswith(bytes.fromhex("7a7a79").decode()))
hears_a_formatted_word = _on(lambda example, text: text == f"the code of {example.id} is {example.expected_answer}")
hears_a_pattern = _on(lambda _, text: re.search(r"ab{3}c[0-9]x+y", text))
hears_two_words = _on(lambda _, text: chr(113) * 3 in text and chr(119) * 3 in text)
hears_a_mark_repeated = _on(lambda _, text: text.count("~") >= 5)

hears_a_length = _on(lambda _, text: len(text) == 137)


def _start_a_thread() -> None:
    thread = threading.Thread(target=len, args=("",))
    thread.start()
    thread.join()


starts_threads = _then_strict(_start_a_thread)
looks_at_its_callers = _then_strict(lambda: sys._getframe(1))
sets_the_recursion_limit = _then_strict(lambda: sys.setrecursionlimit(5_000))
handles_signals = _then_strict(
    lambda: threading.current_thread() is threading.main_thread() and signal.signal(signal.SIGUSR1, signal.SIG_IGN)
)
replaces_a_function = _then_strict(lambda: setattr(json, "dumps", str))
stops_collecting = _then_strict(gc.disable)
closes_its_output = _then_strict(lambda: os.closerange(1, 2))
