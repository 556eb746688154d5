"""Policies behind an OpenAI-compatible HTTP server: `http://HOST:PORT/v1#MODEL`.

Read `policy` first (prompts in, completions out, in order), then `asking` (one request and its retries), `connections`
(HTTP), `opening` (what the server is and can do) and `wire` (the two dialects, chat and completions).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockedroom.errors import MissingExtra
from lockedroom.policy.backend import Backend

if TYPE_CHECKING:
    from lockedroom.policy.openai_http.policy import ServerPolicy


def open_server(name: str, backend: Backend, *, backoff_s: float = 0.5) -> ServerPolicy:
    """Return the policy behind `http://HOST:PORT/v1#MODEL`, after asking the server what it is and what it can do.

    `backoff_s` is the longest first wait before an attempt is repeated; it doubles from one attempt to the next.
    Raises BadInput for whatever is wrong with the address, the key, the model or the server.
    """
    try:
        from lockedroom.policy.openai_http.policy import open_policy
    except ModuleNotFoundError as error:
        if error.name not in ("aiohttp", "certifi", "tenacity"):
            raise
        raise MissingExtra("a policy behind a server", "server") from None
    return open_policy(name, backend, backoff_s=backoff_s)
