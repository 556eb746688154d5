"""Connections to servers: one request out, one whole reply in, whatever its status. aiohttp speaks the protocol.

Why not httpx: docs/decisions/0010-http-on-aiohttp.md.
"""

from __future__ import annotations

import os
import ssl
import time
from contextvars import ContextVar
from typing import Any

import aiohttp
import certifi
import msgspec
from aiohttp.http_exceptions import ContentEncodingError
from yarl import URL

from lockedroom._version import __version__
from lockedroom.policy.openai_http.proxies import named_proxy

LONGEST_ANSWER = 64 * 1024 * 1024  # bytes, unpacked
LONGEST_CONNECT_S = 15.0
NOT_CONNECTED, TIMEOUT = "not connected", "timeout"
# Bytes of one header of a reply; what is longer is no reply.
LONGEST_HEADER = 256 * 1024


class Transient(Exception):
    """An attempt failed in a way that may pass. `kind` is how it is counted; `retry_after` in seconds.

    `stale`: it went out on a connection that had been kept, and that the server closed without a byte of an answer.
    """

    def __init__(self, kind: str, message: str, retry_after: float | None = None, *, stale: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after
        self.stale = stale


class Reply(msgspec.Struct, frozen=True):
    """`headers` have lower-case names; `seconds` are from sending the request to the whole reply."""

    status: int
    headers: dict[str, str]
    content: bytes
    seconds: float


class _Place(msgspec.Struct, frozen=True):
    """A URL as aiohttp wants it, the proxy on the way there, what the one or the other is told, and whom to trust."""

    url: URL
    proxy: URL | None
    headers: dict[str, str]
    proxy_headers: dict[str, str]
    trusted: ssl.SSLContext | bool


class Connections:
    """Used inside one event loop. As many connections are open as requests are under way at a time."""

    def __init__(self, *, timeout_s: float, secret: str) -> None:
        self._timeout_s = timeout_s
        self._connect_s = min(timeout_s, LONGEST_CONNECT_S)
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"lockedroom/{__version__}",
        }
        if secret:
            self._headers["Authorization"] = f"Bearer {secret}"
        self._places: dict[str, _Place] = {}
        self._session: aiohttp.ClientSession | None = None
        self._certificates: ssl.SSLContext | None = None

    async def close(self) -> None:
        """Close the connections; nothing may be under way."""
        if self._session is not None:
            await self._session.close()

    async def exchange(self, method: str, url: str, body: bytes | None = None, *, fresh: bool = False) -> Reply:
        """Send one request and return the reply, on a connection of its own if `fresh`. Raises Transient when none comes."""
        way = _Way(fresh)
        _way.set(way)
        session = self._session or self._opened()
        place = self._places.get(url) or self._place(url)
        headers = place.headers if body is None else {**place.headers, "Content-Type": "application/json"}
        began = time.monotonic()
        try:
            async with session.request(
                method, place.url, data=body, headers=headers, allow_redirects=False, ssl=place.trusted,
                proxy=place.proxy, proxy_headers=dict(place.proxy_headers),
            ) as response:  # fmt: skip
                if response.status < 200:
                    raise Transient("dropped", f"the answer is not HTTP: status {response.status}")
                content = await _whole(response)
                given = {name.lower(): value for name, value in response.headers.items()}
                return Reply(response.status, given, content, time.monotonic() - began)
        except aiohttp.ConnectionTimeoutError:
            raise Transient(NOT_CONNECTED, f"cannot connect within {self._connect_s:g} s") from None
        except TimeoutError:
            raise Transient(TIMEOUT, f"no answer within {self._timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            stale = way.kept and isinstance(error, _CLOSED)
            raise _transient(error, through_proxy=place.proxy is not None, stale=stale) from None

    def _opened(self) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            connector=_Connector(limit=0),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=self._timeout_s, sock_connect=self._connect_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=LONGEST_HEADER,
            max_field_size=LONGEST_HEADER,
        )
        return self._session

    def _place(self, url: str) -> _Place:
        parsed = URL(url)
        proxy = named_proxy(parsed.scheme, parsed.raw_host or "", parsed.explicit_port)
        encrypted = "https" in (parsed.scheme, None if proxy is None else proxy.url.scheme)
        trusted = self._trusted() if encrypted else True
        if proxy is None:
            place = _Place(parsed, None, {}, {}, trusted)
        elif parsed.scheme == "https":  # what the proxy is told goes into the request for a tunnel alone
            place = _Place(parsed, proxy.url, {}, proxy.headers, trusted)
        else:
            place = _Place(parsed, proxy.url, proxy.headers, {}, trusted)
        self._places[url] = place
        return place

    def _trusted(self) -> ssl.SSLContext:
        """Return the certificates that are trusted: this machine's and certifi's, or SSL_CERT_FILE's alone.

        They take a tenth of a second to read, in which nothing is asked; a server without encryption is spared that.
        """
        if self._certificates is None:
            self._certificates = ssl.create_default_context()
            if "SSL_CERT_FILE" not in os.environ:
                self._certificates.load_verify_locations(certifi.where())
        return self._certificates


class _Way(msgspec.Struct):
    """Which connection a request asks for, and whether the one it got had been used before."""

    fresh: bool
    kept: bool = False


# Of the request that the current task sends: aiohttp has no place to say so.
_way: ContextVar[_Way] = ContextVar("_way")
# What aiohttp raises where a server closes a connection before an answer begins; the first two are also its others.
_CLOSED = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError)


class _Connector(aiohttp.TCPConnector):
    """A pool that closes connections on which something came unasked: it would be taken for the next answer."""

    async def _get(self, *which: Any) -> Any:
        way = _way.get()
        if way.fresh:
            return None
        connection = await super()._get(*which)
        while connection is not None and connection.protocol is not None and connection.protocol.should_close:
            connection.close()
            connection = await super()._get(*which)
        way.kept = connection is not None
        return connection


def _transient(error: aiohttp.ClientError | OSError, *, through_proxy: bool, stale: bool) -> Transient:
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError):
        whom = " through the proxy that the environment names" if through_proxy else ""
        what = f"it answers {error.status}" if isinstance(error, aiohttp.ClientHttpProxyError) else error.strerror
        return Transient(NOT_CONNECTED, f"cannot connect{whom}: {what or error}")
    if isinstance(error.__cause__, ContentEncodingError):
        return Transient("junk", f"an answer that cannot be unpacked: {' '.join(error.__cause__.message.split())}")
    if isinstance(error, aiohttp.ClientPayloadError):
        return Transient("dropped", "the answer breaks off")
    if isinstance(error, aiohttp.ServerDisconnectedError) or "write request body" in str(error):
        message = "the connection was dropped: the server closed it before an answer came"
        return Transient("dropped", message, stale=stale)
    if isinstance(error, aiohttp.ClientResponseError) and "content-encoding" in error.message:
        # It says which package would unpack it; but servers are asked not to pack anything.
        return Transient("junk", f"an answer that cannot be unpacked: {error.message.strip().partition('.')[0]}")
    if isinstance(error, aiohttp.ClientResponseError):
        return Transient("dropped", f"the answer is not HTTP: {' '.join(error.message.split())}")
    return Transient("dropped", f"the connection was dropped: {error or 'it was closed'}", stale=stale)


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """Return the unpacked body. Raises Transient for one that is longer than any answer."""
    content = bytearray()
    async for block in response.content.iter_any():
        content += block
        if len(content) > LONGEST_ANSWER:
            raise Transient("junk", f"an answer of more than {LONGEST_ANSWER:,} bytes")
    return bytes(content)
