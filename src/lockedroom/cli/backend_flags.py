"""The flags for policies of somebody else's making: Hugging Face models and servers."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lockedroom.policy.backend import Backend

BACKEND_FLAGS = ("template", "dtype", "device", "adapter", "lora", "trust_remote_code", "batch",
          "concurrency", "request_timeout", "retries", "api_key_env")  # fmt: skip


def add_backend_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each field of `lockedroom.policy.backend.Backend`."""
    add = parser.add_argument_group("Hugging Face models (hf:PATH_OR_ID)").add_argument
    add("--template", metavar="NAME", help="chat, plain, or auto: chat where the model has a template (default)")
    add("--dtype", metavar="NAME", help="float32 (default), bfloat16, float16, float64")
    add("--device", metavar="NAME", help="cpu (default), cuda, cuda:1, mps")
    add("--adapter", metavar="FOLDER", help="LoRA weights to add to the model")
    add(
        "--lora",
        type=int,
        metavar="RANK",
        help="start a new adapter; learning changes it alone (default 0: all weights)",
    )
    add("--trust-remote-code", action="store_true", default=None, help="run code that the model's folder brings along")
    add("--batch", type=int, metavar="N", help="sequences in a forward pass (default 32)")
    add = parser.add_argument_group("servers (http://host:port/v1#model)").add_argument
    add("--concurrency", type=int, metavar="N", help="requests in flight (default 16)")
    add("--request-timeout", type=float, metavar="SECONDS", help="for one request (default 60)")
    add("--retries", type=int, metavar="N", help="of one request (default 6)")
    add("--api-key-env", metavar="NAME", help="the environment variable that holds the key (default OPENAI_API_KEY)")


def backend_config(args: argparse.Namespace) -> dict[str, Any]:
    """Return the part of a configuration that these flags give: nothing where none was given."""
    given = {name: value for name, value in vars(args).items() if name in BACKEND_FLAGS and value is not None}
    return {"backend": given} if given else {}


def backend_of(args: argparse.Namespace) -> Backend:
    """Return the settings that these flags give, for commands without a file of settings."""
    from lockedroom.policy.backend import Backend

    return Backend(**backend_config(args).get("backend", {}))
