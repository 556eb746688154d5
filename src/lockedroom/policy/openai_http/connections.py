"""Connections to servers: one request out, one whole reply in, whatever its status.

HTTP/1.1 is read and written by h11, the parser inside httpx. httpx itself is not used: a request costs it five times the
CPU time, and with many requests in flight that time decides how long a server waits for the next one
(docs/decisions/0009-http.md). What httpx adds and is needed is in `proxies` and below: certificates and packed bodies.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
import zlib
from urllib.parse import quote, urlsplit

import certifi
import h11
import msgspec

from lockedroom._version import __version__
from lockedroom.policy.openai_http.proxies import Proxy, named_proxy
from lockedroom.visible import visible

LONGEST_ANSWER = 64 * 1024 * 1024  # bytes, unpacked
LONGEST_CONNECT_S = 15.0
NOT_CONNECTED, TIMEOUT = "not connected", "timeout"
# Bytes of a reply's head, or of one line of a body that comes in chunks; what is longer is no reply.
LONGEST_HEAD = 256 * 1024
_AUTO_HEADER = 32 + zlib.MAX_WBITS  # zlib finds out itself whether it is gzip or deflate

Headers = list[tuple[bytes, bytes]]


class Transient(Exception):
    """An attempt failed in a way that may pass. `kind` is how it is counted; `retry_after` in seconds."""

    def __init__(self, kind: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after


class Reply(msgspec.Struct, frozen=True):
    """`headers` have lower-case names; `seconds` are from sending the request to the whole reply."""

    status: int
    headers: dict[str, str]
    content: bytes
    seconds: float


class _Place(msgspec.Struct, frozen=True):
    """Where a URL is asked: its server, the proxy on the way there, what stands in the request, and idle connections."""

    host: str
    port: int
    encrypted: bool
    proxy: Proxy | None
    target: bytes
    headers: Headers
    idle: list[_Connection]


class Connections:
    """Used inside one event loop. Each connection carries one request at a time; the one used last is used first."""

    def __init__(self, *, timeout_s: float, secret: str) -> None:
        self._timeout_s = timeout_s
        self._headers = [
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", b"identity"),
            (b"User-Agent", f"lockedroom/{__version__}".encode()),
        ]
        if secret:
            self._headers.append((b"Authorization", f"Bearer {secret}".encode()))
        self._places: dict[str, _Place] = {}
        self._idle: dict[tuple[str, int], list[_Connection]] = {}
        self._certificates: ssl.SSLContext | None = None

    def close(self) -> None:
        """Close the connections; nothing may be under way."""
        for idle in self._idle.values():
            for connection in idle:
                connection.close()

    async def exchange(self, method: str, url: str, body: bytes | None = None) -> Reply:
        """Send one request and return the reply. Raises Transient when none comes."""
        place = self._places.get(url) or self._place(url)
        headers = place.headers
        if body is not None:
            headers = [*headers, (b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body))]
        request = h11.Request(method=method, target=place.target, headers=headers)
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = _usable(place.idle) or await self._connected(place)
                try:
                    status, given, content = await connection.exchange(request, body)
                finally:
                    if connection.usable:
                        place.idle.append(connection)
                    else:
                        connection.close()
        except TimeoutError:
            raise Transient(TIMEOUT, f"no answer within {self._timeout_s:g} s") from None
        except ConnectionError as error:
            raise Transient("dropped", f"the connection was dropped: {error}") from None
        except h11.RemoteProtocolError as error:
            raise Transient("dropped", f"the answer breaks off or is not HTTP: {error}") from None
        return Reply(status, given, content, time.monotonic() - began)

    def _place(self, url: str) -> _Place:
        parts = urlsplit(url)
        host, encrypted = (parts.hostname or "").encode("idna").decode(), parts.scheme == "https"
        port = parts.port or (443 if encrypted else 80)
        named = f"[{host}]" if ":" in host else host
        authority = (named if parts.port is None else f"{named}:{parts.port}").encode()
        target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~").encode()
        headers = [(b"Host", authority), *self._headers]
        proxy = named_proxy(parts.scheme, host, parts.port)
        if proxy is not None and not encrypted:  # an encrypted request goes through a tunnel instead
            target = b"http://" + authority + target
            headers += proxy.headers
        idle = self._idle.setdefault((host, port), [])
        place = _Place(host, port, encrypted, proxy, target, headers, idle)
        self._places[url] = place
        return place

    async def _connected(self, place: _Place) -> _Connection:
        seconds = min(self._timeout_s, LONGEST_CONNECT_S)
        try:
            async with asyncio.timeout(seconds):
                return await self._connect(place)
        except TimeoutError:
            raise Transient(NOT_CONNECTED, f"cannot connect within {seconds:g} s") from None

    async def _connect(self, place: _Place) -> _Connection:
        loop, proxy = asyncio.get_running_loop(), place.proxy
        try:
            if proxy is None:
                trust = self._trusted() if place.encrypted else None
                _, made = await loop.create_connection(_Connection, place.host, place.port, ssl=trust)
                return made
            trust = self._trusted() if proxy.encrypted else None
            _, made = await loop.create_connection(_Connection, proxy.host, proxy.port, ssl=trust)
            if place.encrypted:
                await made.tunnel(place.host, place.port, proxy.headers, self._trusted())
            return made
        except OSError as error:
            whom = "" if proxy is None else " through the proxy that the environment names"
            raise Transient(NOT_CONNECTED, f"cannot connect{whom}: {error.strerror or error}") from None

    def _trusted(self) -> ssl.SSLContext:
        """Return the certificates that are trusted: this machine's and certifi's, or SSL_CERT_FILE's alone."""
        if self._certificates is None:
            self._certificates = ssl.create_default_context()
            if "SSL_CERT_FILE" not in os.environ:
                self._certificates.load_verify_locations(certifi.where())
        return self._certificates


class _Connection(asyncio.Protocol):
    """One connection. `usable` says that the next request may go out on it."""

    def __init__(self) -> None:
        self._state = h11.Connection(h11.CLIENT, max_incomplete_event_size=LONGEST_HEAD)
        self._waiter: asyncio.Future[None] | None = None
        self._busy = self._ended = False
        self._error: Exception | None = None

    @property
    def usable(self) -> bool:
        return not (self._busy or self._ended)

    # --- called by the event loop ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._busy:  # what nobody asked for must not be taken for the answer to the next request
            self.close()
            return
        self._state.receive_data(data)
        self._wake()

    def eof_received(self) -> None:
        self._ended = True
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._ended, self._error = True, error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- called by whoever has a request ---

    def close(self) -> None:
        self._ended = True
        self._transport.abort()

    async def exchange(self, request: h11.Request, body: bytes | None) -> tuple[int, dict[str, str], bytes]:
        """Send a request and return status, headers and unpacked body of the reply."""
        self._busy = True
        state = self._state
        block = state.send(request) or b""
        if body is not None:
            block += state.send(h11.Data(body)) or b""
        self._transport.write(block + (state.send(h11.EndOfMessage()) or b""))
        status, headers = await self._head()
        content = await self._body(headers.get("content-encoding", "identity"))
        if state.our_state is h11.DONE and state.their_state is h11.DONE and not state.trailing_data[0]:
            state.start_next_cycle()
            self._busy = False
        return status, headers, content

    async def tunnel(self, host: str, port: int, headers: Headers, trusted: ssl.SSLContext) -> None:
        """Ask the proxy at the other end for a way to a server, and encrypt what goes there."""
        self._busy = True
        authority = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode()
        request = h11.Request(method=b"CONNECT", target=authority, headers=[(b"Host", authority), *headers])
        self._transport.write(self._state.send(request) or b"")
        self._state.send(h11.EndOfMessage())
        status, _ = await self._head()
        if not 200 <= status < 300:
            self.close()
            raise OSError(f"it answers {status}")
        self._state = h11.Connection(h11.CLIENT, max_incomplete_event_size=LONGEST_HEAD)
        loop = asyncio.get_running_loop()
        transport = await loop.start_tls(self._transport, self, trusted, server_hostname=host)
        if transport is None:
            raise ConnectionError("the server went away while its certificate was asked for")
        self._transport, self._busy = transport, False

    async def _head(self) -> tuple[int, dict[str, str]]:
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):  # and not, say, 100 Continue
                return event.status_code, {name.decode(): value.decode("latin-1") for name, value in event.headers}

    async def _body(self, packing: str) -> bytes:
        content, unpack = bytearray(), _Unpacking(packing)
        while isinstance(event := await self._event(), h11.Data):
            content += unpack.block(event.data, LONGEST_ANSWER + 1 - len(content))
            if len(content) > LONGEST_ANSWER:
                raise Transient("junk", f"an answer of more than {LONGEST_ANSWER:,} bytes")
        unpack.end()
        return bytes(content)

    async def _event(self) -> h11.Event:
        """Return what comes next, waiting for it."""
        while True:
            event = self._state.next_event()
            if isinstance(event, h11.Event):
                return event
            if self._ended and self._state.their_state is h11.SEND_BODY:
                self._state.receive_data(b"")  # the end of a body without a length, or else an error
                continue
            if self._ended:
                raise ConnectionError(str(self._error or "it was closed before an answer came"))
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter


def _usable(idle: list[_Connection]) -> _Connection | None:
    """Take the idle connection that was used last, forgetting those that their server has closed."""
    while idle:
        connection = idle.pop()
        if connection.usable:
            return connection
    return None


class _Unpacking:
    """Unpacks a body block by block: some servers pack their answers although they were asked not to."""

    def __init__(self, packing: str) -> None:
        known = packing.strip().lower()
        if known not in ("identity", "", "gzip", "x-gzip", "deflate"):
            raise Transient("junk", f"an answer that cannot be unpacked: content-encoding {visible(packing, 40)!r}")
        self._zlib = zlib.decompressobj(_AUTO_HEADER) if known not in ("identity", "") else None
        self._begun = False

    def block(self, data: bytes, most: int) -> bytes:
        if self._zlib is None:
            return data
        self._begun = True
        try:
            return self._zlib.decompress(data, most)
        except zlib.error as error:
            raise Transient("junk", f"an answer that cannot be unpacked: {error}") from None

    def end(self) -> None:
        if self._zlib is not None and self._begun and not self._zlib.eof:
            raise Transient("junk", "an answer that cannot be unpacked: it is cut off")
