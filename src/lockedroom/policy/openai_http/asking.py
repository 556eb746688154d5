"""One request and its retries: what is tried again, how long to wait, and which answers end everything.

200                                    an answer, unless it is junk (tried again: gateways do that when overloaded)
408 409 425 429 5xx, no answer         tried again, after a random wait that doubles, never before `Retry-After`
400 413 422 and other 4xx              this request is refused: a Failure of its example
401 404 3xx, `Retry-After` in an hour  nothing can go well from here: BadInput, and the run can be resumed
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import math
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import httpx
import msgspec
import tenacity

from lockedroom.errors import BadInput
from lockedroom.policy.backend import Backend
from lockedroom.policy.openai_http.address import Address, Key
from lockedroom.policy.openai_http.wire import Junk
from lockedroom.visible import visible

T = TypeVar("T")

LONGEST_BACKOFF_S = 30.0
LONGEST_RETRY_AFTER_S = 600.0
LONGEST_ANSWER = 64 * 1024 * 1024  # bytes
SHOWN = 300
_AGAIN = frozenset((408, 409, 425, 429))
NOT_CONNECTED = "not connected"
NO_SUCH = frozenset((404, 405, 501))


class Transient(Exception):
    """An attempt failed in a way that may pass. `kind` is how it is counted; `retry_after` in seconds."""

    def __init__(self, kind: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after


class Refused(Exception):
    """The server will not answer this request, however often it is asked."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Reply(msgspec.Struct, frozen=True):
    status: int
    headers: dict[str, str]
    content: bytes
    seconds: float


class Asked(msgspec.Struct):
    """How a request went so far: attempts made, what went wrong by kind, and the seconds of the last attempt."""

    attempts: int = 0
    seconds: float = 0.0
    faults: Counter[str] = msgspec.field(default_factory=Counter)


class Asker:
    """The connections to one server, or to several that are the same, used inside one event loop.

    `address` is the first of them; `others` share the requests with it.

    Each is a client of its own: looking for a free connection in a shared pool of httpx takes time in proportion to
    their number, at every request and every answer.
    """

    def __init__(
        self, address: Address, key: Key, backend: Backend, *, backoff_s: float, others: Sequence[Address] = ()
    ) -> None:
        self.address, self.key = address, key
        self._bases = (address.base, *(other.base for other in others))
        self._timeout_s, self._retries, self._backoff_s = backend.request_timeout, backend.retries, backoff_s
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key.secret:
            self._headers["Authorization"] = f"Bearer {key.secret}"
        self._certificates = httpx.create_ssl_context()
        self._idle: list[httpx.AsyncClient] = []

    async def close(self) -> None:
        """Close the connections; nothing may be under way."""
        for client in self._idle:
            await client.aclose()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[httpx.AsyncClient]:
        """Lend a connection; the one used last is used first."""
        made = not self._idle
        client = (
            httpx.AsyncClient(timeout=None, headers=self._headers, verify=self._certificates)
            if made
            else self._idle.pop()
        )
        try:
            yield client
        finally:
            self._idle.append(client)

    async def once(self, method: str, url: str, body: bytes | None = None) -> Reply:
        """Send one request and return the reply, whatever its status. Raises Transient when none comes."""
        began = time.monotonic()
        try:
            with self._connection() as client:
                async with asyncio.timeout(self._timeout_s), client.stream(method, url, content=body) as response:
                    content = bytearray()
                    async for block in response.aiter_bytes():
                        content += block
                        if len(content) > LONGEST_ANSWER:
                            raise Transient("junk", f"an answer of more than {LONGEST_ANSWER:,} bytes")
                    return Reply(response.status_code, dict(response.headers), bytes(content), time.monotonic() - began)
        except TimeoutError:
            raise Transient("timeout", f"no answer within {self._timeout_s:g} s") from None
        except httpx.ConnectError as error:
            raise Transient(NOT_CONNECTED, f"cannot connect: {self.shown(str(error))}") from None
        except httpx.DecodingError as error:
            raise Transient("junk", f"an answer that cannot be unpacked: {self.shown(str(error))}") from None
        except httpx.TransportError as error:
            what = self.shown(str(error)) or type(error).__name__
            raise Transient("dropped", f"the connection was dropped: {what}") from None

    async def ask(
        self,
        path: str,
        body: bytes,
        read: Callable[[bytes], T],
        asked: Asked,
        *,
        retries: int | None = None,
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
                reply = await self.once("POST", f"{base}{path}", body)
                asked.seconds = reply.seconds
                self.judge(reply)
                return read_or_junk(reply, read)
            except Refused as error:
                asked.faults[str(error.status)] += 1
                raise
            except Transient as error:
                asked.faults[error.kind] += 1
                raise

        return await self.patiently(attempt, retries=self._retries if retries is None else retries)

    async def patiently(self, attempt: Callable[[], Awaitable[T]], *, retries: int | None = None) -> T:
        """Return what an attempt returns; a Transient is raised only by the last of them."""
        patience = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt((self._retries if retries is None else retries) + 1),
            wait=self._wait,
            retry=tenacity.retry_if_exception_type(Transient),
            reraise=True,
        )
        return await patience(attempt)

    def judge(self, reply: Reply) -> None:
        """Return for a status of 200; raise what any other means."""
        status, said = reply.status, self.said(reply)
        if status == 200:
            return
        if status in _AGAIN or (status >= 500 and status not in NO_SUCH):
            wait = retry_after_s(reply.headers.get("retry-after"))
            if wait is not None and wait > LONGEST_RETRY_AFTER_S:
                later = "continue with --resume after that"
                raise BadInput(self.fatal(f"asks to wait for {wait:,.0f} s (status {status}: {said}); {later}"))
            raise Transient(str(status), f"status {status}: {said}", wait)
        if status == 401:
            raise BadInput(self.fatal(f"the key was refused (status 401: {said})"))
        if status in NO_SUCH or 300 <= status < 400:
            raise BadInput(self.fatal(f"nothing to ask here (status {status}: {said})"))
        raise Refused(status, f"status {status}: {said}")

    def fatal(self, what: str) -> str:
        return f"{self.address.base}: {what}"

    def said(self, reply: Reply) -> str:
        """Return the server's own words for what went wrong, on one line, without the key."""
        if "location" in reply.headers:
            return f"moved to {self.shown(reply.headers['location'])}"
        text = reply.content.decode("utf-8", "replace")
        with contextlib.suppress(msgspec.DecodeError, RecursionError):
            text = _message_in(msgspec.json.decode(reply.content)) or text
        if text.lstrip()[:1] == "<":
            text = "a page of HTML: " + " ".join(re.sub(r"<[^>]*>", " ", text).split())
        return self.shown(text.strip()) or "no message"

    def shown(self, text: str) -> str:
        return visible(self.key.hidden(text), SHOWN)

    def _wait(self, state: tenacity.RetryCallState) -> float:
        backoff = tenacity.wait_random_exponential(multiplier=self._backoff_s, max=LONGEST_BACKOFF_S)(state)
        error = state.outcome.exception() if state.outcome is not None else None
        asked = error.retry_after if isinstance(error, Transient) else None
        return backoff if asked is None else asked + min(backoff, max(asked, self._backoff_s) / 4)


def read_or_junk(reply: Reply, read: Callable[[bytes], T]) -> T:
    try:
        return read(reply.content)
    except Junk as error:
        raise Transient("junk", f"{error}") from None


def retry_after_s(value: str | None) -> float | None:
    """Return how many seconds a `Retry-After` header asks to wait: a number, or an HTTP date. None for anything else."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            then = email.utils.parsedate_to_datetime(value)
        except ValueError:
            return None
        then = then.replace(tzinfo=UTC) if then.tzinfo is None else then
        seconds = (then - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _message_in(body: object) -> str | None:
    """Return the message of an error body: `error.message`, `error`, `message` or `detail`."""
    if not isinstance(body, dict):
        return None
    for name in ("error", "message", "detail"):
        found = body.get(name)
        if isinstance(found, str):
            return found
        if isinstance(found, dict):
            return _message_in(found)
        if found:
            return msgspec.json.encode(found).decode()
    return None
