"""How a policy of somebody else's making is run: settings that belong to the policy, not to the room."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from lockedroom.errors import BadInput

# How a server is asked, which changes nothing of what it answers: an interrupted run may go on with others.
ASKING = ("concurrency", "request_timeout", "retries", "api_key_env")
# What has an effect on whom; `batch` also says how many completions of an embedded model are judged at a time.
OF_SERVERS = ("template", *ASKING)
OF_HUGGING_FACE = ("template", "dtype", "device", "adapter", "lora", "trust_remote_code", "batch")
OF_TINY = ("batch",)


class Backend(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Settings of `hf:` and server policies; the other policies have none.

    `dtype`, `device`, `adapter` (a folder of LoRA weights), `lora` (the rank of a new adapter, which is then what
    learning changes; 0: all weights are), `trust_remote_code` and `batch` (sequences in a forward pass) are for Hugging
    Face models. `concurrency` (requests in flight), `request_timeout` (seconds), `retries` and `api_key_env` (the *name*
    of the environment variable that holds the key, never the key) are for servers. `template` is `chat`, `plain` or
    `auto` (chat where the model has a template).
    """

    template: str = "auto"
    dtype: str = "float32"
    device: str = "cpu"
    adapter: str | None = None
    lora: int = 0
    trust_remote_code: bool = False
    batch: int = 32
    concurrency: int = 16
    request_timeout: float = 60.0
    retries: int = 6
    api_key_env: str = "OPENAI_API_KEY"

    def refuse_idle(self, used: Collection[str], who: str) -> None:
        """Raise BadInput for a setting that would have no effect on `who`: a person who gives it thinks otherwise."""
        for field in msgspec.structs.fields(self):
            if field.name not in used and getattr(self, field.name) != field.default:
                raise BadInput(f"leave out --{field.name.replace('_', '-')}: it has no effect with {who}")
