"""Proxies as the environment names them: http_proxy, https_proxy, all_proxy, and no_proxy for those that need none."""

from __future__ import annotations

import base64
import urllib.request
from urllib.parse import urlsplit

import msgspec
from yarl import URL

from lockedroom.errors import BadInput

HOW = "set it to http://HOST:PORT, or unset it (or name the server in no_proxy)"


class Proxy(msgspec.Struct, frozen=True):
    """`url` is without the name and password that a proxy may ask for; they are in `headers`, for it alone."""

    url: URL
    headers: dict[str, str]


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
    url, headers = URL(named if "://" in named else f"http://{named}"), {}
    if url.user is not None:
        login = base64.b64encode(f"{url.user}:{url.password or ''}".encode()).decode()
        headers["Proxy-Authorization"] = f"Basic {login}"
    return Proxy(url.with_user(None).with_port(found), headers)
