"""One request and its retries: what is tried again, how long to wait, and which answers end everything.

200                                    an answer, unless it is junk (tried again: gateways do that when overloaded)
408 409 425 429 5xx, no answer         tried again, after a random wait that doubles, never before `Retry-After`
400 413 422 and other 4xx              this request is refused: a Failure of its example
401 402 404 3xx, `Retry-After` in an hour  nothing can go well from here: BadInput, and the run can be resumed
"""

from __future__ import annotations

import email.utils
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
import tenacity

from lockedroom.errors import BadInput
from lockedroom.policy.backend import Backend
from lockedroom.policy.openai_http.address import Address, Key
from lockedroom.policy.openai_http.connections import Connections, Reply, Transient
from lockedroom.policy.openai_http.wire import Junk, error_in
from lockedroom.visible import visible

T = TypeVar("T")

LONGEST_BACKOFF_S = 30.0
LONGEST_RETRY_AFTER_S = 600.0
SHOWN = 300
LONGEST_PAGE = 20_000  # bytes of a page in which words are looked for
KEY_HOW = "the key is read from the environment variable that --api-key-env names (OPENAI_API_KEY)"
_AGAIN = frozenset((408, 409, 425, 429))
NO_SUCH = frozenset((404, 405, 501))
# Of refusals, those that any server may give for one prompt (too long, say) while it answers the others.
ABOUT_THE_PROMPT = frozenset((400, 413, 422))


class Refused(Exception):
    """The server will not answer this request, however often it is asked."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Asked(msgspec.Struct):
    """How a request went so far: attempts made, what went wrong by kind, and the seconds of the last attempt.

    `stale`: the last attempt went out on a kept connection that the server had closed.
    """

    attempts: int = 0
    seconds: float = 0.0
    stale: bool = False
    faults: Counter[str] = msgspec.field(default_factory=Counter)


class Asker:
    """The connections to one server, or to several that are the same, used inside one event loop.

    `address` is the first of them; `others` share the requests with it.
    """

    def __init__(
        self, address: Address, key: Key, backend: Backend, *, backoff_s: float, others: Sequence[Address] = ()
    ) -> None:
        self.address, self.key = address, key
        self._bases = (address.base, *(other.base for other in others))
        self._retries, self._backoff_s = backend.retries, backoff_s
        self._connections = Connections(timeout_s=backend.request_timeout, secret=key.secret)

    async def close(self) -> None:
        """Close the connections; nothing may be under way."""
        await self._connections.close()

    async def once(self, method: str, url: str, body: bytes | None = None, *, fresh: bool = False) -> Reply:
        """Send one request and return the reply, whatever its status. Raises Transient when none comes."""
        try:
            return await self._connections.exchange(method, url, body, fresh=fresh)
        except Transient as error:
            raise Transient(error.kind, self.shown(str(error)), error.retry_after, stale=error.stale) from None

    async def ask(
        self,
        path: str,
        body: bytes,
        read: Callable[[bytes], T],
        asked: Asked,
        *,
        turn: int = 0,
    ) -> T:
        """Return what `read` makes of the answer, trying again where that may help.

        Of several servers, `turn` says which is asked first; every attempt after that asks the next one.
        Raises Transient after the last attempt, Refused, or BadInput where nothing can go well from here.
        """

        async def attempt() -> T:
            base = self._bases[(turn + asked.attempts) % len(self._bases)]
            asked.attempts += 1
            try:
                reply = await self.once("POST", f"{base}{path}", body, fresh=asked.stale)
                asked.seconds = reply.seconds
                self.judge(reply, base)
                return read_or_junk(reply, read, self.shown)
            except Refused as error:
                asked.faults[str(error.status)] += 1
                raise
            except Transient as error:
                asked.faults[error.kind] += 1
                asked.stale = error.stale
                raise

        return await self.patiently(attempt)

    async def patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Return what an attempt returns; a Transient is raised only by the last of them."""
        try:
            return await attempt()  # most succeed at once, and tenacity's bookkeeping costs half of what a request does
        except Transient as error:
            failed = [error]

        async def counted() -> T:
            if failed:
                raise failed.pop()
            return await attempt()

        patience = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(self._retries + 1),
            wait=self._wait,
            retry=tenacity.retry_if_exception_type(Transient),
            reraise=True,
        )
        return await patience(counted)

    def judge(self, reply: Reply, base: str) -> None:
        """Return for a status of 200; raise what any other means. `base` is the server that gave it."""
        status = reply.status
        if status == 200:
            return
        said = self.said(reply)
        if status in _AGAIN or (status >= 500 and status not in NO_SUCH):
            wait = retry_after_s(reply.headers)
            if wait is not None and wait > LONGEST_RETRY_AFTER_S:
                later = "continue with --resume after that"
                raise BadInput(f"{base}: asks to wait for {wait:,.0f} s (status {status}: {said}); {later}")
            raise Transient(str(status), f"status {status}: {said}", wait)
        if status == 401:
            raise BadInput(f"{base}: the key was refused (status 401: {said}); {KEY_HOW}")
        if status == 402:
            raise BadInput(f"{base}: nothing is answered until it is paid for (status 402: {said})")
        if status in NO_SUCH or 300 <= status < 400:
            raise BadInput(f"{base}: nothing to ask here (status {status}: {said}); is the address right?")
        raise Refused(status, f"status {status}: {said}")

    def fatal(self, what: str) -> str:
        return f"{self.address.base}: {what}"

    def said(self, reply: Reply) -> str:
        """Return the server's own words for what went wrong, on one line, without the key."""
        if "location" in reply.headers:
            return f"moved to {self.shown(reply.headers['location'])}"
        text = error_in(reply.content) or reply.content[:LONGEST_PAGE].decode("utf-8", "replace")
        if text.lstrip()[:1] == "<":
            text = "a page of HTML: " + " ".join(re.sub(r"<[^>]*>", " ", text).split())
        return self.shown(text.strip()) or "no message"

    def shown(self, text: str) -> str:
        return visible(self.key.hidden(text), SHOWN)

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, Transient) and error.stale:
            return 0.0  # some servers close a connection after so many answers without saying so; a new one will do
        longest = tenacity.wait_exponential(multiplier=self._backoff_s, max=LONGEST_BACKOFF_S)(state)
        # Random, so that requests that failed together do not come back together; never short, so that a server has
        # the time to come back.
        backoff = longest * random.uniform(0.5, 1)
        asked = error.retry_after if isinstance(error, Transient) else None
        return backoff if asked is None else asked + min(backoff, max(asked, self._backoff_s) / 4)


def read_or_junk(reply: Reply, read: Callable[[bytes], T], shown: Callable[[str], str]) -> T:
    try:
        return read(reply.content)
    except Junk as error:
        raise Transient("junk", shown(str(error))) from None


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds `Retry-After` asks to wait: a number, or an HTTP date. None for anything else.

    A date is counted from the `Date` of the same answer, where it has one: the server's clock may not be ours.
    """
    value = headers.get("retry-after")
    if value is None:
        return None
    if re.fullmatch(r"[+-]?[0-9]{1,300}(\.[0-9]{0,300})?", value.strip()):
        seconds = float(value)
    else:
        then = _http_date(value)
        if then is None:
            return None
        seconds = (then - (_http_date(headers.get("date", "")) or datetime.now(UTC))).total_seconds()
    return max(0.0, seconds)


def _http_date(value: str) -> datetime | None:
    try:
        found = email.utils.parsedate_to_datetime(value)
        return (found.replace(tzinfo=UTC) if found.tzinfo is None else found).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
