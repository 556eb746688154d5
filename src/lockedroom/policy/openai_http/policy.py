"""Prompts in, completions out, in order, with many requests in flight.

`stream` reads top to bottom: it takes prompts in as far ahead as `window`, starts one task a prompt in an event loop of
its own thread, and yields what the first of them gave, then the second. At most `concurrency` requests are in flight; one
that waits to be repeated keeps its place, so a server that asks for patience is not asked for more meanwhile.

A Failure is yielded only once something has succeeded after it. If nothing does, the server has gone (or refuses all we
ask), and the run ends with one message while it can be resumed, instead of with a Failure for every example left. Where
nothing is left to ask, one more request of one token tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Container, Coroutine, Generator, Iterator, Sequence
from itertools import groupby, islice

import msgspec

from lockedroom.errors import BadInput
from lockedroom.policy.backend import Backend
from lockedroom.policy.openai_http.address import Address, Key, check_backend, parse_addresses, read_key
from lockedroom.policy.openai_http.asking import ABOUT_THE_PROMPT, Asked, Asker, Refused
from lockedroom.policy.openai_http.connections import Transient
from lockedroom.policy.openai_http.opening import one_policy, open_with, probe_body
from lockedroom.policy.openai_http.wire import (
    Answer,
    Dialect,
    completions_of,
    parse_answer,
    request_body,
    request_seed,
)
from lockedroom.policy.streaming import Receipt, Receipts, StreamingPolicy
from lockedroom.protocols import Prompt
from lockedroom.records import Completion, Failure, FailureCode, PolicySpec, Sampling
from lockedroom.wording import counted

MOST_CHOICES = 32  # that one request asks for
WINDOW_ATTEMPTS = 4096  # taken in ahead of what is yielded
STRIDE_S = 0.02  # results are read in strides of so many seconds
FEWEST_FAILURES = 8  # in a row, without a success, that may end a run

Drawn = Completion | Failure


class Server(msgspec.Struct, frozen=True):
    """Everything that is needed to ask a server, or several that serve the same model in the same way."""

    addresses: tuple[Address, ...]
    key: Key
    backend: Backend
    backoff_s: float

    def asker(self) -> Asker:
        first, *others = self.addresses
        return Asker(first, self.key, self.backend, backoff_s=self.backoff_s, others=others)


def open_policy(name: str, backend: Backend, *, backoff_s: float) -> ServerPolicy:
    """See `lockedroom.policy.openai_http.open_server`."""
    check_backend(backend)
    server = Server(parse_addresses(name), read_key(backend.api_key_env), backend, backoff_s)

    async def opened(address: Address) -> tuple[Dialect, PolicySpec]:
        asker = msgspec.structs.replace(server, addresses=(address,)).asker()
        try:
            return await open_with(asker, name, backend)
        finally:
            await asker.close()

    with _running_loop() as loop:
        found = [asyncio.run_coroutine_threadsafe(opened(address), loop).result() for address in server.addresses]
    return ServerPolicy(server, *one_policy(found))


class ServerPolicy(StreamingPolicy):
    """A model behind a server. It holds no connection between streams."""

    def __init__(self, server: Server, dialect: Dialect, spec: PolicySpec) -> None:
        self._server, self._dialect = server, dialect
        self.spec = spec

    def stream(
        self,
        prompts: Iterator[Prompt],
        draws: range,
        sampling: Sampling,
        *,
        receipts: Receipts | None = None,
        first: int = 0,
    ) -> Generator[Drawn]:
        check_server_sampling(sampling, self._dialect)
        work = _Work(self._server, self._dialect, draws, sampling, receipts=receipts, first=first)
        window = max(4 * self._server.backend.concurrency, FEWEST_FAILURES, WINDOW_ATTEMPTS // len(draws))
        with _running_loop() as loop:
            try:
                yield from _in_order(work, loop, enumerate(prompts, first), window)
            finally:
                asyncio.run_coroutine_threadsafe(work.end(), loop).result()


def check_server_sampling(sampling: Sampling, dialect: Dialect) -> None:
    """Refuse what servers would decide silently, each in its own way."""
    if sampling.max_tokens is None:
        raise BadInput(
            "--max-tokens is missing: servers cut completions where they please (some after 16 tokens) unless they are "
            "told; give the number of tokens"
        )
    if sampling.top_k and not dialect.extras:
        raise BadInput(f"--top-k {sampling.top_k}: this server does not take top_k; leave it out")


def _in_order(
    work: _Work, loop: asyncio.AbstractEventLoop, prompts: Iterator[tuple[int, Prompt]], window: int
) -> Iterator[Drawn]:
    """Yield the results of every prompt, in order, starting new ones as old ones are yielded."""
    under_way = 0
    while True:
        batch = list(islice(prompts, window - under_way))
        under_way += len(batch)
        if not under_way:
            return
        if batch:
            loop.call_soon_threadsafe(work.start, batch)
        for results in work.take():
            under_way -= 1
            yield from results


class _Example(msgspec.Struct):
    """An example and what is known of its draws. Once all are, and one is a Failure: how many requests had succeeded by then."""

    number: int
    prompt: Prompt
    found: dict[int, Drawn]
    failed_at: int | None = None


class _Work:
    """What is shared by the askers of one stream: `concurrency` tasks, of which each asks one request after the other.

    Who has an answer asks the next request at once: with a task for each example, of answers that come together the last
    would have to be read before the first is followed by another request.

    Everything but `take` runs in the loop's thread. `first` above 0 says that this server has answered this run before:
    a refusal is then about its own prompt.
    """

    def __init__(
        self,
        server: Server,
        dialect: Dialect,
        draws: range,
        sampling: Sampling,
        *,
        receipts: Receipts | None,
        first: int,
    ) -> None:
        self._asker, self._dialect = server.asker(), dialect
        self._draws, self._sampling, self._receipts = draws, sampling, receipts
        self._most_askers = server.backend.concurrency
        self._patience = max(FEWEST_FAILURES, server.backend.concurrency)
        self._known = first > 0
        self._askers: set[asyncio.Task[None]] = set()
        self._requests: deque[tuple[_Example, list[int]]] = deque()
        self._in_flight = 0
        self._examples: dict[int, _Example] = {}
        self._next = first
        self._successes = self._failures_in_a_row = 0
        self._last_failure = ""
        self._fatal: BaseException | None = None
        self._released: deque[Sequence[Drawn]] = deque()
        self._ready = threading.Event()

    def take(self) -> Iterator[Sequence[Drawn]]:
        """Wait for results, then yield those of the next examples, in order; raise what has ended the stream.

        Called from the thread that reads. It sleeps a moment to take more at a time: the two threads share one
        interpreter, and one that wakes for each result holds up the other, which sends the requests.
        """
        if not self._ready.is_set():
            self._ready.wait()
            time.sleep(STRIDE_S)
        self._ready.clear()
        while self._released:
            yield self._released.popleft()
        if self._fatal is not None:
            raise self._fatal

    def start(self, prompts: Sequence[tuple[int, Prompt]]) -> None:
        """Take examples in: those draws that are paid for already, and requests for the others."""
        for number, prompt in prompts:
            try:
                found: dict[int, Drawn] = dict(self._receipts.paid(number, prompt.id) if self._receipts else {})
            except BadInput as error:
                self._end_with(error)
                return
            example = self._examples[number] = _Example(number, prompt, found)
            self._requests.extend((example, draws) for draws in self._cut(found))
        self._employ()
        self._release()

    def _employ(self) -> None:
        """Start an asker for each request that waits, up to as many as are allowed."""
        free = self._most_askers - len(self._askers) if self._fatal is None else 0
        for _ in range(min(free, len(self._requests))):
            self._start(self._ask())

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._askers.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._askers.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and self._fatal is None:
            self._end_with(error)

    def _end_with(self, error: BaseException) -> None:
        self._fatal = error
        for task in self._askers:
            task.cancel()
        self._ready.set()

    def _release(self) -> None:
        """Hand over what may be yielded: a Failure once something has succeeded since, or nothing is left to ask."""
        while self._fatal is None and (example := self._examples.get(self._next)) is not None:
            if len(example.found) < len(self._draws):
                return
            if example.failed_at is not None and self._successes <= example.failed_at:
                if self._in_flight or self._requests:
                    return
                if self._failures_in_a_row:
                    self._doubt()
                    return
            del self._examples[self._next]
            self._released.append([example.found[draw] for draw in self._draws])
            self._next += 1
            self._ready.set()

    def _doubt(self) -> None:
        """Nothing has succeeded since these failures, and nothing is left to ask: is the server still there?"""
        if self._known or self._successes:
            self._start(self._look())
        else:
            self._end_with(self._gone())

    async def _look(self) -> None:
        """Ask for one token. What failed was about its own prompt where that is answered; else the server has gone."""
        self._in_flight += 1
        body = probe_body(self._dialect, self._asker.address.model)
        try:
            await self._asker.ask(self._dialect.path, body, parse_answer, Asked())
        except (Transient, Refused):
            raise self._gone() from None
        self._in_flight -= 1
        self._successes += 1
        self._failures_in_a_row = 0
        self._release()

    async def _ask(self) -> None:
        """Ask one request after the other, until none is left."""
        while self._requests:
            example, draws = self._requests.popleft()
            self._in_flight += 1
            found = await self._request(example, draws)
            self._in_flight -= 1
            example.found |= found
            rest = [draw for draw in reversed(draws) if draw not in found]  # the server gave fewer choices than asked
            self._requests.extendleft((example, [draw]) for draw in rest)
            self._employ()
            if len(example.found) == len(self._draws) and any(type(one) is Failure for one in example.found.values()):
                example.failed_at = self._successes
            self._release()

    def _cut(self, found: Container[int]) -> Iterator[list[int]]:
        """Cut the draws that are missing into the requests that a run without interruption makes for them."""
        # Some servers refuse `n` for greedy decoding, where all choices are the same.
        most = MOST_CHOICES if self._dialect.choices and self._sampling.temperature > 0 else 1
        for _, group in groupby(self._draws, lambda draw: draw // most):
            draws = list(group)
            missing = [draw for draw in draws if draw not in found]
            # Of a request that was answered in part, the rest was asked for one by one before the kill as well.
            yield from [draws] if len(missing) == len(draws) else ([draw] for draw in missing)

    async def _request(self, example: _Example, draws: list[int]) -> dict[int, Drawn]:
        """Return what one request gives for these draws; nothing when the server refuses several in one request."""
        asker, dialect, prompt = self._asker, self._dialect, example.prompt
        seed = request_seed(self._sampling.seed, prompt.id, draws[0])
        body = request_body(dialect, asker.address.model, prompt.prompt, self._sampling, n=len(draws), seed=seed)
        asked = Asked()

        def read(raw: bytes) -> tuple[Answer, list[Drawn]]:
            answer = parse_answer(raw)
            return answer, completions_of(answer, dialect, self._sampling, asker.key)[: len(draws)]

        try:
            answer, choices = await asker.ask(dialect.path, body, read, asked, turn=example.number)
        except (Transient, Refused) as error:
            self._keep(Receipt(example.number, prompt.id), asked)
            if isinstance(error, Refused) and len(draws) > 1:
                return {}
            return dict.fromkeys(draws, self._failed(error, asked))
        found = dict(zip(draws, choices, strict=False))
        completions = {draw: one for draw, one in found.items() if isinstance(one, Completion)}
        failures = {draw: one for draw, one in found.items() if isinstance(one, Failure)}
        fingerprint = answer.said("system_fingerprint")
        receipt = Receipt(
            example.number,
            prompt.id,
            tuple(completions),
            tuple(completions.values()),
            tuple(failures),
            tuple(failures.values()),
            prompt_tokens=answer.tokens("prompt_tokens"),
            completion_tokens=answer.tokens("completion_tokens"),
            fingerprint=None if fingerprint is None else asker.shown(fingerprint),
        )
        self._keep(receipt, asked)
        self._successes += 1
        self._failures_in_a_row = 0
        return found

    def _failed(self, error: Transient | Refused, asked: Asked) -> Failure:
        """Return the Failure of a request. Raises BadInput when so many have failed that the server must be gone."""
        tries = f" (tried {asked.attempts} times)" if asked.attempts > 1 else ""
        self._last_failure = f"{error}{tries}"
        about_the_prompt = isinstance(error, Refused) and error.status in ABOUT_THE_PROMPT
        if not about_the_prompt or not (self._known or self._successes):
            self._failures_in_a_row += 1
        patience = self._patience if self._known or self._successes else FEWEST_FAILURES
        if self._failures_in_a_row >= patience:
            raise self._gone()
        return Failure(FailureCode.POLICY_ERROR, self._last_failure)

    def _gone(self) -> BadInput:
        return BadInput(
            f"{self._asker.address.base}: {counted(self._failures_in_a_row, 'request')} failed and none has succeeded since; the last: "
            f"{self._last_failure}; what is finished is kept: continue with --resume when that is mended"
        )

    def _keep(self, receipt: Receipt, asked: Asked) -> None:
        if self._receipts is not None:
            faults = dict(asked.faults)
            self._receipts.keep(
                msgspec.structs.replace(receipt, seconds=asked.seconds, attempts=asked.attempts, faults=faults)
            )

    async def end(self) -> None:
        """Give up whatever is still under way, and close the connections."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._asker.close()


@contextlib.contextmanager
def _running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop in a thread of its own: everything asynchronous stays in there."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="requests", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
