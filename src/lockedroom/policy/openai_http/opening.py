"""What a server is and what it can do, found out once, before anything is drawn.

`/models` is asked whether it serves the model; then one request of one token (its prompt is `PROBE`) finds the dialect:
chat where the server takes it, `n` where it is honoured, log-probabilities where they are given. Every combination that
the server refuses costs nothing; the first that it answers is used for the whole run and stands in the policy's identity.
"""

from __future__ import annotations

import itertools
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from lockedroom.errors import BadInput
from lockedroom.policy.backend import Backend
from lockedroom.policy.openai_http.asking import NO_SUCH, Asker, Refused, read_or_junk
from lockedroom.policy.openai_http.connections import NOT_CONNECTED, TIMEOUT, Reply, Transient
from lockedroom.policy.openai_http.wire import (
    NEUTRAL,
    SEED_SCHEME,
    Answer,
    Dialect,
    completions_of,
    parse_answer,
    request_body,
)
from lockedroom.records import Completion, PolicySpec, Sampling

PROBE = "1 + 1 ="
PROBE_SEED = 1
# Some servers answer 500 to a parameter that they cannot serve: it is tried so often again before it counts as refused.
PROBE_RETRIES_500 = 2
SHOWN_MODELS = 8
_STABLE = (
    "id",
    "owned_by",
    "root",
    "max_model_len",
    "meta",
)  # of a model's entry; `created` is often the time of asking


class _Models(msgspec.Struct, frozen=True):
    data: list[dict[str, Any]]


async def open_with(asker: Asker, name: str, backend: Backend) -> tuple[Dialect, PolicySpec]:
    """Return how the server is spoken to, and who it is. Raises BadInput."""
    entry = await _find_model(asker)
    dialect, answer, reply = await _find_dialect(asker, backend.template)
    hidden = asker.key.hidden
    identity: dict[str, Any] = {
        "url": asker.address.base,
        "model": asker.address.model,
        "answered_as": hidden(answer.said("model") or "not said"),
        "model_entry": entry,
        "server": hidden(reply.headers.get("server", "not said")),
        "version": await _version(asker),
        "system_fingerprint": hidden(answer.said("system_fingerprint") or "not said"),
        "template": "chat" if dialect.chat else "plain",
        "logprobs": "of the policy, for each token" if dialect.logprobs else "none",
        "not_taken": [] if dialect.extras else sorted(NEUTRAL),
        "choices_a_request": "as asked" if dialect.choices else 1,
        "seeds": SEED_SCHEME,
    }
    return dialect, PolicySpec(name, "server", identity)


def one_policy(found: Sequence[tuple[Dialect, PolicySpec]]) -> tuple[Dialect, PolicySpec]:
    """Return what several servers are together: one policy at several addresses. Raises BadInput where they differ."""
    (dialect, first), *others = found
    urls = [first.identity["url"]]
    for other, spec in others:
        urls.append(spec.identity["url"])
        differing = [name for name, value in first.identity.items() if name != "url" and spec.identity[name] != value]
        if differing or other != dialect:
            raise BadInput(
                f"{urls[-1]}: not the same policy as at {urls[0]} (differing: {', '.join(differing) or 'dialect'}); "
                "serve the same model with the same build and settings at every address"
            )
    if not others:
        return dialect, first
    return dialect, msgspec.structs.replace(first, identity={**first.identity, "url": urls})


async def _find_model(asker: Asker) -> dict[str, Any] | str:
    """Return the server's entry for the model, or that it offers no list."""
    try:
        reply = await _get(asker, f"{asker.address.base}/models")
    except Transient as error:
        raise BadInput(asker.fatal(f"no list of models: {error}")) from None
    except Refused as error:
        if error.status == 403:
            raise _no_access(asker, error) from None
        return "not offered"
    if reply is None:
        return "not offered"
    try:
        models = msgspec.json.decode(reply.content.removeprefix(BOM_UTF8), type=_Models).data
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadInput(
            asker.fatal(f"/models is not a list of models ({asker.said(reply)}); is this the address of an API?")
        ) from None
    found = [entry for entry in models if entry.get("id") == asker.address.model]
    if not found:
        names = [asker.shown(str(entry.get("id"))) for entry in models]
        more = f" and {len(names) - SHOWN_MODELS} more" if len(names) > SHOWN_MODELS else ""
        served = ", ".join(names[:SHOWN_MODELS]) + more if names else "none"
        raise BadInput(asker.fatal(f"no model {asker.shown(asker.address.model)!r} here; it serves: {served}"))
    return {field: asker.key.hidden_in(found[0][field]) for field in _STABLE if field in found[0]}


async def _first(asker: Asker, method: str, url: str, body: bytes | None = None) -> Reply:
    """Return a reply; a server that cannot be reached, or says nothing for so long, is not asked again."""
    try:
        return await asker.once(method, url, body)
    except Transient as error:
        if error.kind == NOT_CONNECTED:
            raise BadInput(asker.fatal(f"{error}; is the server running, and is the address right?")) from None
        if error.kind == TIMEOUT:
            longer = "if it is still loading the model, try again later, or raise --request-timeout"
            raise BadInput(asker.fatal(f"{error}; {longer}")) from None
        raise


async def _get(asker: Asker, url: str) -> Reply | None:
    """Return the reply of a page, or None where there is none."""

    async def attempt() -> Reply | None:
        reply = await _first(asker, "GET", url)
        if reply.status in NO_SUCH:
            return None
        asker.judge(reply, asker.address.base)
        return reply

    return await asker.patiently(attempt)


async def _version(asker: Asker) -> str:
    """Return the version that an engine gives of itself (vLLM: `/version`; llama.cpp's server: `/props`)."""
    for page, field in (("/version", "version"), ("/props", "build_info")):
        try:
            reply = await asker.once("GET", f"{asker.address.root}{page}")
            found = msgspec.json.decode(reply.content, type=dict[str, Any]).get(field)
        except (Transient, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        if reply.status == 200 and isinstance(found, str):
            return asker.shown(found)
    return "not said"


async def _find_dialect(asker: Asker, template: str) -> tuple[Dialect, Answer, Reply]:
    """Return the first dialect that the server answers in, asking for as much as it may give first."""
    refusals: dict[bool, Refused] = {}
    for dialect in _dialects(template):
        if dialect.chat in refusals and refusals[dialect.chat].status in NO_SUCH:
            continue
        try:
            answer, reply = await _probe(asker, dialect)
        except Refused as error:
            if error.status == 403:
                raise _no_access(asker, error) from None
            refusals[dialect.chat] = error
            continue
        except Transient as error:
            raise BadInput(asker.fatal(f"the first request failed: {error}")) from None
        drawn = completions_of(answer, dialect, Sampling(), asker.key)
        if not any(isinstance(one, Completion) for one in drawn):
            raise BadInput(asker.fatal(f"the first request brought no completion: {drawn[0]}"))
        given = all(isinstance(one, Completion) and one.token_policy_logprobs is not None for one in drawn)
        choices = dialect.choices and len(answer.choices) >= 2
        return msgspec.structs.replace(dialect, choices=choices, logprobs=dialect.logprobs and given), answer, reply
    said = "; ".join(f"{'chat' if chat else 'plain'}: {error}" for chat, error in refusals.items())
    hint = "; does the address end in /v1?" if any(one.status in NO_SUCH for one in refusals.values()) else ""
    raise BadInput(asker.fatal(f"the first request was refused ({said}){hint}"))


def _no_access(asker: Asker, error: Refused) -> BadInput:
    return BadInput(asker.fatal(f"access was refused ({error}); check the key and what it may do"))


def _dialects(template: str) -> Iterator[Dialect]:
    chats = {"auto": (True, False), "chat": (True,), "plain": (False,)}[template]
    for chat in chats:
        combinations = sorted(itertools.product((True, False), repeat=3), key=lambda flags: -sum(flags))
        for logprobs, extras, choices in combinations:
            yield Dialect(chat, choices=choices, logprobs=logprobs, extras=extras)


def probe_body(dialect: Dialect, model: str, n: int = 1) -> bytes:
    """Return the JSON of a request for one token."""
    return request_body(dialect, model, PROBE, Sampling(max_tokens=1), n=n, seed=PROBE_SEED)


async def _probe(asker: Asker, dialect: Dialect) -> tuple[Answer, Reply]:
    """Ask for one token, twice if `n` is to be tried."""
    body = probe_body(dialect, asker.address.model, n=2 if dialect.choices else 1)
    faults = Counter[int]()

    async def attempt() -> tuple[Answer, Reply]:
        reply = await _first(asker, "POST", f"{asker.address.base}{dialect.path}", body)
        faults[reply.status] += 1
        if reply.status in NO_SUCH or faults[500] > PROBE_RETRIES_500:
            raise Refused(reply.status, f"status {reply.status}: {asker.said(reply)}")
        asker.judge(reply, asker.address.base)
        return read_or_junk(reply, parse_answer, asker.shown), reply

    return await asker.patiently(attempt)
