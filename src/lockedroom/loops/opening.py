"""From names on a command line to the policy and the scorer they mean."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from lockedroom.dataset.load import first_refused_by
from lockedroom.errors import BadInput
from lockedroom.policy.declared import Declared, read_declared
from lockedroom.policy.recorded import RecordedPolicy
from lockedroom.policy.scripted import ScriptedPolicy
from lockedroom.protocols import BatchScorer, Policy, Prompt, Scorer, TokenPolicy
from lockedroom.records import Failure, FailureCode, Sampling, Score
from lockedroom.safeguards.room import ScorerIdentity, prompts_sha256
from lockedroom.scorer.battery import BATTERY
from lockedroom.scorer.builtin import BUILTIN, BuiltinScorer, find_builtin
from lockedroom.scorer.identity import fingerprint, source_sha256

SCRIPTED = "scripted:"
TINY = ("tiny", "tiny-weak", "tiny-hedge")
UNAVAILABLE = "unavailable"


class Named(Protocol):
    """The part of a loop's configuration that names things."""

    @property
    def completions(self) -> str | None: ...
    @property
    def policy(self) -> str | None: ...
    @property
    def scorer(self) -> str: ...
    @property
    def draws(self) -> int | None: ...
    @property
    def declare(self) -> tuple[str, ...]: ...
    @property
    def scorer_timeout(self) -> float: ...
    @property
    def scorer_memory(self) -> int: ...
    @property
    def threads(self) -> int: ...
    @property
    def sampling(self) -> Sampling: ...


class Opened(msgspec.Struct, frozen=True):
    """What the names meant. `costly`: attempts are worth keeping one by one (a live policy, a person's scorer)."""

    policy: Policy
    scorer: Scorer
    first_refused: Callable[[Sequence[Any]], int | None]
    declared: Declared
    draws: int
    costly: bool


@contextlib.contextmanager
def open_named(names: Named) -> Iterator[Opened]:
    """Open the policy and the scorer that a configuration names; a person's scorer is stopped on the way out."""
    policy, declared, draws = _open_policy(names)
    with open_scorer(names.scorer, timeout_s=names.scorer_timeout, memory_mb=names.scorer_memory) as scorer:
        batches = isinstance(scorer, BatchScorer)
        yield Opened(
            policy=policy,
            scorer=scorer,
            first_refused=(
                scorer.first_refused
                if isinstance(scorer, BatchScorer | BuiltinScorer)
                else first_refused_by(scorer.accepts)
            ),
            declared=declared,
            draws=draws,
            costly=batches or not isinstance(policy, RecordedPolicy),
        )


@contextlib.contextmanager
def open_scorer(name: str, *, timeout_s: float, memory_mb: int) -> Iterator[Scorer]:
    """Yield the built-in scorer of this name, or a person's `path/to/file.py:function` in its own process."""
    builtin = find_builtin(name)
    if builtin is not None:
        yield builtin
    elif ".py" in name:
        from lockedroom.scorer.custom import IsolatedScorer

        with IsolatedScorer(name, timeout_s=timeout_s, memory_mb=memory_mb) as scorer:
            yield scorer
    else:
        raise BadInput(
            f"--scorer {name!r}: unknown scorer; use {' or '.join(BUILTIN)}, or your own as path/to/file.py:function"
        )


def identify(scorer: Scorer) -> ScorerIdentity:
    """Return what the room keeps of a scorer: name, version, hash of its source, fingerprint of its behaviour.

    The fingerprint of a scorer that runs out of time on the battery is `unavailable`: that depends on the machine.
    """
    if isinstance(scorer, BuiltinScorer):
        verdicts: list[Score | Failure] = [scorer.score(example, completion) for example, completion in BATTERY]
        source = source_sha256(scorer.source)
    elif isinstance(scorer, BatchScorer):
        source = source_sha256(scorer.source)
        verdicts = []
        for example, completion in BATTERY:
            verdict = scorer.score_batch([example], [completion])[0]
            if isinstance(verdict, Failure) and verdict.code is FailureCode.SCORER_TIMEOUT:
                return ScorerIdentity(scorer.spec.name, scorer.spec.version, source, UNAVAILABLE)
            verdicts.append(verdict)
    else:
        return ScorerIdentity(scorer.spec.name, scorer.spec.version, UNAVAILABLE, UNAVAILABLE)
    return ScorerIdentity(scorer.spec.name, scorer.spec.version, source, fingerprint(verdicts))


def _open_policy(names: Named) -> tuple[Policy, Declared, int]:
    if (names.completions is None) == (names.policy is None):
        raise BadInput("name what to measure: either --completions FILE or --policy NAME")
    if names.completions is not None:
        return _open_recorded(Path(names.completions), names)
    policy = names.policy or ""
    if policy.startswith(SCRIPTED):
        text = policy.removeprefix(SCRIPTED)
        scripted = ScriptedPolicy(lambda prompt, _draw: _fill(text, prompt), name=policy)
        return scripted, _declared_live(names.sampling, "none: the script decides"), names.draws or 1
    if is_tiny(policy):
        from lockedroom.policy.tiny.randomness import SEED_SCHEME

        tiny = open_token_policy(policy, threads=names.threads)
        return tiny, _declared_live(names.sampling, SEED_SCHEME), names.draws or 1
    raise BadInput(
        f"--policy {policy!r}: unknown policy; use {', '.join(TINY)}, a .safetensors file of that kind, or {SCRIPTED}TEXT "
        "(the same completion for every example; {prompt} stands for the prompt), or measure recorded completions with "
        "--completions FILE"
    )


def room_prompts(opened: Opened, examples: Path) -> dict[str, Any]:
    """Return what the room keeps of the prompts: as declared, or with their sha256 where the lab rendered them."""
    if isinstance(opened.policy, RecordedPolicy):
        return opened.declared.prompts
    return {**opened.declared.prompts, "sha256": prompts_sha256(examples)}


def is_tiny(name: str) -> bool:
    return name in TINY or name.endswith(".safetensors")


def open_token_policy(name: str, *, threads: int) -> TokenPolicy:
    """Return the policy of this name, if its distribution can be read; else raise BadInput."""
    if not is_tiny(name):
        raise BadInput(
            f"--policy {name!r}: gives no probabilities; use {', '.join(TINY)} or a .safetensors file of that kind"
        )
    from lockedroom.policy.tiny import load_tiny

    return load_tiny(name if name in TINY else Path(name), threads=threads)


def _open_recorded(path: Path, names: Named) -> tuple[Policy, Declared, int]:
    if names.sampling != Sampling():
        raise BadInput(
            f"{path}: these completions were drawn already, so --temperature, --seed and the like cannot change them; "
            "say how they were drawn with --declare, e.g. --declare sampling.temperature=0.8"
        )
    declared = read_declared(path, names.declare)
    policy = RecordedPolicy(path, declared)
    recorded = policy.draws_recorded(enough=names.draws)
    if names.draws is not None and names.draws > recorded:
        raise BadInput(
            f"--draws {names.draws}: {policy.path} records {recorded} an example; ask for at most {recorded}"
        )
    return policy, declared, names.draws or max(1, recorded)


def _declared_live(sampling: Sampling, seed_scheme: str) -> Declared:
    fields = msgspec.structs.asdict(sampling)
    del fields["seed"]
    return Declared({}, {"template": "{prompt}"}, {**fields, "stop": list(sampling.stop), "seed_scheme": seed_scheme})


def _fill(text: str, prompt: Prompt) -> str:
    return text.replace("{prompt}", prompt.prompt)
