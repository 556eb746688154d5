"""What a person names: the address of a server, the model it serves, and the variable that holds the key."""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import urlsplit

import msgspec

from lockedroom.errors import BadInput
from lockedroom.policy.backend import Backend
from lockedroom.visible import visible

HOW = "write http://HOST:PORT/v1#MODEL"
TEMPLATES = ("auto", "chat", "plain")
SHORTEST_SECRET = 8  # shorter keys are placeholders ("EMPTY"), and may stand in any text


class Address(msgspec.Struct, frozen=True):
    """`base` is what `/chat/completions` is put behind; `root` is the same without its last part (`/v1`)."""

    base: str
    root: str
    model: str


class Key(msgspec.Struct, frozen=True):
    """The API key, or "" for none. It goes into the Authorization header and nowhere else."""

    secret: str

    def __repr__(self) -> str:
        return "Key(…)"

    def hidden(self, text: str) -> str:
        """Return a text of the server's without the key, in case the server repeats it."""
        return text.replace(self.secret, "[key]") if self.secret else text

    def hidden_in(self, value: Any) -> Any:
        """Return a decoded JSON value of the server's without the key in any of its texts."""
        if isinstance(value, str):
            return self.hidden(value)
        if isinstance(value, list):
            return [self.hidden_in(one) for one in value]
        if isinstance(value, dict):
            return {self.hidden(name): self.hidden_in(one) for name, one in value.items()}
        return value

    def stands_in(self, text: str) -> bool:
        return len(self.secret) >= SHORTEST_SECRET and self.secret in text


def parse_addresses(name: str) -> tuple[Address, ...]:
    """Read one address, or several of the same model's with commas between them. Raises BadInput."""
    addresses = tuple(parse_address(one) for one in re.split(r",\s*(?=https?://)", name, flags=re.IGNORECASE))
    if len(set(addresses)) < len(addresses):
        raise BadInput(f"--policy {visible(name, 120)!r}: names a server twice; name each once")
    return addresses


def parse_address(name: str) -> Address:
    """Read `http://HOST:PORT/v1#MODEL`. Raises BadInput, never repeating what may be a secret."""
    url, _, model = name.partition("#")
    try:
        parts = urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")  # as it is looked up
    except ValueError as error:
        raise BadInput(f"--policy: not an address ({visible(str(error), 80)}); {HOW}") from None
    if parts.username is not None or parts.password is not None or parts.query:
        raise BadInput(
            "--policy: the address holds a user name, a password or a query, which would be written down with the run; "
            "give the key in an environment variable (--api-key-env)"
        )
    if not parts.hostname or port == 0 or not url.isprintable() or " " in url:
        raise BadInput(f"--policy {visible(name, 120)!r}: no host, or no port, in this address; {HOW}")
    if not model:
        raise BadInput(f"--policy {visible(name, 120)!r}: which model? {HOW}, e.g. {visible(url, 100)}#my-model")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    origin = f"{parts.scheme.lower()}://{host}{'' if port is None else f':{port}'}"
    path = parts.path.rstrip("/")
    return Address(origin + path, origin + path[: path.rfind("/") + 1].rstrip("/"), model)


def read_key(variable: str) -> Key:
    """Return the key from the environment; none is fine where only the default variable was looked at."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
        raise BadInput(
            "--api-key-env: not the name of an environment variable (if this is the key itself, it stays out of "
            "every file: export it, and give the name of the variable)"
        )
    secret = os.environ.get(variable, "").strip()
    if not secret and variable != Backend().api_key_env:
        raise BadInput(f"--api-key-env: the environment variable {variable} is not set; export it")
    if not secret.isascii() or not secret.isprintable():
        raise BadInput(f"environment variable {variable}: holds characters that no key has; set it again")
    return Key(secret)


def check_backend(backend: Backend) -> None:
    """Refuse settings that no server policy can have."""
    if backend.template not in TEMPLATES:
        raise BadInput(f"--template {visible(backend.template, 60)!r}: use {', '.join(TEMPLATES)}")
    if backend.concurrency < 1:
        raise BadInput(f"--concurrency {backend.concurrency}: must be at least 1")
    if not 0 < backend.request_timeout < float("inf"):
        raise BadInput(f"--request-timeout {backend.request_timeout}: must be above 0 and finite, in seconds")
    if backend.retries < 0:
        raise BadInput(f"--retries {backend.retries}: must be 0 or more")
