"""Proxies as the environment names them: http_proxy, https_proxy, all_proxy, and no_proxy for those that need none."""

from __future__ import annotations

import base64
import urllib.request
from urllib.parse import unquote_to_bytes, urlsplit

import msgspec

from lockedroom.errors import BadInput

HOW = "set it to http://HOST:PORT, or unset it (or name the server in no_proxy)"


class Proxy(msgspec.Struct, frozen=True):
    """`headers` are what a proxy that asks for a password is sent."""

    host: str
    port: int
    encrypted: bool
    headers: list[tuple[bytes, bytes]]


def named_proxy(scheme: str, host: str, port: int | None) -> Proxy | None:
    """Return the proxy for a server, or None where the environment names none. Raises BadInput for one of no use.

    The address is never repeated in a message: it may hold a password.
    """
    proxies = urllib.request.getproxies()
    variable = f"{scheme}_proxy" if scheme in proxies else "all_proxy"
    named = proxies.get(variable.removesuffix("_proxy"))
    if not named or urllib.request.proxy_bypass(host if port is None else f"{host}:{port}"):
        return None
    try:
        parts = urlsplit(named if "://" in named else f"http://{named}")
        found = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise BadInput(f"environment variable {variable}: not an address; {HOW}") from None
    if parts.scheme.startswith("socks"):
        raise BadInput(f"environment variable {variable}: SOCKS proxies are not supported; {HOW}")
    if parts.scheme not in ("http", "https") or not parts.hostname or not parts.hostname.isascii():
        raise BadInput(f"environment variable {variable}: not the address of a proxy; {HOW}")
    headers = []
    if parts.username is not None:
        pair = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
        headers.append((b"Proxy-Authorization", b"Basic " + base64.b64encode(pair)))
    return Proxy(parts.hostname, found, parts.scheme == "https", headers)
