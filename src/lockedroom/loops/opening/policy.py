"""From the name of a policy to the policy: the embedded models, Hugging Face models, servers, learned and recorded ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from lockedroom.errors import BadInput, Tampered
from lockedroom.policy.backend import OF_HUGGING_FACE, OF_SERVERS, OF_TINY, Backend
from lockedroom.policy.declared import INDEPENDENT, SAMPLING_FIELDS, UNDECLARED, Declared, read_declared
from lockedroom.policy.limits import check_sampling
from lockedroom.policy.recorded import RecordedPolicy
from lockedroom.policy.scripted import ScriptedPolicy
from lockedroom.protocols import Policy, Prompt, TokenPolicy
from lockedroom.records import Sampling
from lockedroom.safeguards import manifest as manifests

SCRIPTED = "scripted:"
HUGGING_FACE = "hf:"
SERVERS = ("http://", "https://")
TINY = ("tiny", "tiny-weak", "tiny-hedge")
LEARNED_WEIGHTS, LEARNED_FOLDER = (
    "learned.safetensors",
    "learned-model",
)  # of a learning run: weights, or a folder of them
WITH_PROBABILITIES = (
    f"use {', '.join(TINY)}, a .safetensors file of that kind, the folder of a learning run, {HUGGING_FACE}PATH_OR_ID"
)
HOW_TO_NAME = (
    f"{WITH_PROBABILITIES}, http://HOST:PORT/v1#MODEL (several: with commas), or {SCRIPTED}TEXT (the same completion everywhere; {{prompt}} stands for the "
    "prompt), or measure recorded completions with --completions FILE"
)


class NamesPolicy(Protocol):
    """The part of a loop's configuration that names a policy."""

    @property
    def completions(self) -> str | None: ...
    @property
    def policy(self) -> str | None: ...
    @property
    def draws(self) -> int | None: ...
    @property
    def declare(self) -> tuple[str, ...]: ...
    @property
    def threads(self) -> int: ...
    @property
    def sampling(self) -> Sampling: ...
    @property
    def backend(self) -> Backend: ...


def open_policy(names: NamesPolicy) -> tuple[Policy, Declared, int]:
    """Return the policy, how its completions are drawn, and how many an example. Raises BadInput."""
    if (names.completions is None) == (names.policy is None):
        raise BadInput("name what to measure: either --completions FILE or --policy NAME")
    if names.completions is not None:
        return _open_recorded(Path(names.completions), names)
    check_sampling(names.sampling)
    policy = names.policy or ""
    draws = names.draws or 1
    if policy.startswith(SCRIPTED):
        names.backend.refuse_idle((), "a scripted policy")
        text = policy.removeprefix(SCRIPTED)
        scripted = ScriptedPolicy(lambda prompt, _draw: _fill(text, prompt), name=policy)
        return scripted, _declared_live(names.sampling), draws
    if policy.lower().startswith(SERVERS):
        from lockedroom.policy.openai_http import open_server

        names.backend.refuse_idle(OF_SERVERS, "a server, which was started with settings of its own")
        server = open_server(policy, names.backend)
        return server, _declared_live(names.sampling, server.spec.identity["not_taken"]), draws
    opened = open_token_policy(policy, threads=names.threads, backend=names.backend)
    return opened, _declared_live(names.sampling), draws


def refuse_untrainable(name: str) -> None:
    """Raise BadInput for a policy whose weights are not here."""
    if name.lower().startswith((SCRIPTED, *SERVERS)):
        raise BadInput(f"--policy {name}: cannot be trained; use tiny, tiny-weak, a run, or hf:MODEL")


def open_token_policy(name: str, *, threads: int, backend: Backend | None = None) -> TokenPolicy:
    """Return the policy of this name, if its distribution can be read; else raise BadInput."""
    if name.startswith(HUGGING_FACE):
        from lockedroom.policy.huggingface import load_huggingface

        backend = backend or Backend()
        backend.refuse_idle(OF_HUGGING_FACE, "a Hugging Face model; it is for servers")
        return load_huggingface(name.removeprefix(HUGGING_FACE), backend, threads=threads)
    if name in TINY or name.endswith(".safetensors"):
        from lockedroom.policy.tiny import load_tiny

        (backend or Backend()).refuse_idle(OF_TINY, "an embedded model")
        return load_tiny(name if name in TINY else Path(name), threads=threads)
    if (Path(name) / manifests.NAME).is_file():
        return _open_learned(Path(name), threads=threads, backend=backend)
    if name.lower().startswith((SCRIPTED, *SERVERS)):
        raise BadInput(f"--policy {name!r}: gives no probabilities of its own; {WITH_PROBABILITIES}")
    raise BadInput(f"--policy {name!r}: unknown policy; {HOW_TO_NAME}")


def _open_learned(run: Path, *, threads: int, backend: Backend | None) -> TokenPolicy:
    """Return what a learning run learned, after checking that its weights are those that the run ended with."""
    manifest = manifests.read_manifest(run)
    if manifest.kind != "learn":
        raise BadInput(
            f"--policy {run}: a run of kind {manifest.kind}, which holds no policy; give the folder of a learning run"
        )
    weights = {
        name: entry for name, entry in manifest.files.items() if name.startswith((LEARNED_WEIGHTS, LEARNED_FOLDER))
    }
    for name, entry in weights.items():
        if not (run / name).is_file() or manifests.measure_file(run / name) != entry:
            raise Tampered(f"{run / name}: not the weights that this run ended with; restore the file")
    whole = LEARNED_WEIGHTS in weights
    return open_token_policy(
        str(run / LEARNED_WEIGHTS) if whole else f"{HUGGING_FACE}{run / LEARNED_FOLDER}",
        threads=threads,
        backend=backend,
    )


def _open_recorded(path: Path, names: NamesPolicy) -> tuple[Policy, Declared, int]:
    if names.sampling != Sampling():
        raise BadInput(
            f"{path}: these completions were drawn already, so --temperature, --seed and the like cannot change them; "
            "say how they were drawn with --declare, e.g. --declare sampling.temperature=0.8"
        )
    names.backend.refuse_idle((), "--completions, which were drawn already")
    declared = read_declared(path, names.declare)
    policy = RecordedPolicy(path, declared)
    recorded = policy.draws_recorded(enough=names.draws)
    if names.draws is not None and names.draws > recorded:
        raise BadInput(
            f"--draws {names.draws}: {policy.path} records {recorded} an example; ask for at most {recorded}"
        )
    return policy, declared, names.draws or max(1, recorded)


def _declared_live(sampling: Sampling, not_taken: Sequence[str] = ()) -> Declared:
    """Return how a live policy is asked to draw; what its server does not take is the server's, so nobody declared it."""
    asked = msgspec.structs.asdict(sampling) | {"stop": list(sampling.stop), "seed_scheme": INDEPENDENT}
    known = {name: asked[name] if name not in not_taken else UNDECLARED for name in SAMPLING_FIELDS}
    return Declared({}, {"template": "{prompt}"}, known)


def _fill(text: str, prompt: Prompt) -> str:
    return text.replace("{prompt}", prompt.prompt)
