"""`export scorer`: one readable Python file that wraps a scorer in another project's shape."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template

import msgspec

from lockedroom._version import __version__
from lockedroom.adapters.exported import Identity
from lockedroom.adapters.targets import TARGETS
from lockedroom.errors import BadInput
from lockedroom.loops.opening.named import identify, open_scorer
from lockedroom.results.run_folder import write_atomically, writing
from lockedroom.safeguards.room import ScorerIdentity
from lockedroom.scorer.builtin import find_builtin
from lockedroom.scorer.custom import parse_target
from lockedroom.visible import visible


def export_scorer(
    scorer: str,
    to: str,
    out: Path,
    *,
    end_tokens: Sequence[str] = (),
    timeout_s: float = 5.0,
    memory_mb: int = 512,
) -> list[Path]:
    """Write the file (for lm-eval, a YAML beside it) and return what was written.

    Raises BadInput for an unknown target or scorer, a name that Python cannot import, or a file that exists.
    """
    target = TARGETS.get(to)
    if target is None:
        raise BadInput(f"--to {to!r}: unknown target; use one of {', '.join(TARGETS)}")
    if end_tokens and to != "openrlhf":
        raise BadInput(f"--end-token: {to} hands over completions without their end token; leave the flag out")
    if any(not token for token in end_tokens):
        raise BadInput("--end-token '': is empty; write the text of the token that ends a completion")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*\.py", out.name, re.ASCII):
        raise BadInput(f"--out {out}: {to} imports this file, so name it like a Python module, such as reward.py")
    with open_scorer(scorer, timeout_s=timeout_s, memory_mb=memory_mb) as opened:
        identity = Identity(_lasting_name(scorer), identify(opened))
    files = {out: target.template}
    if target.task is not None:
        files[out.with_suffix(".yaml")] = target.task
    for path in files:
        if path.exists():
            raise BadInput(f"{path}: exists already; name another --out, or remove it")
    words = _words(identity, out, end_tokens, (timeout_s, memory_mb))
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    for path, template in files.items():
        write_atomically(path, _template(template).substitute(words).encode())
    return list(files)


def _words(identity: Identity, out: Path, end_tokens: Sequence[str], limits: tuple[float, int]) -> dict[str, str]:
    name = re.sub(r"[^A-Za-z0-9]+", "_", identity.scorer.name).strip("_").lower() or "scorer"
    fields = (f"    {name}={value!r}," for name, value in msgspec.structs.asdict(identity.scorer).items())
    lines = [
        "\n    Identity(",
        f"        {identity.target!r},",
        f"        {ScorerIdentity.__name__}(",
        *(f"        {field}" for field in fields),
        "        ),",
        "    ),",
        f"    timeout_s={limits[0]!r},",
        f"    memory_mb={limits[1]!r},\n",
    ]
    return {
        "name": re.sub(r"[\\\"]", "_", visible(identity.scorer.name, 80)),
        "version": str(identity.scorer.version),
        "lockedroom": __version__,
        "module": out.stem,
        "file": out.name,
        "identity": "\n".join(lines),
        "end_tokens": repr(tuple(sorted(set(end_tokens), key=len, reverse=True))),
        "registered": f"lockedroom_{name}",
        "task": f"lockedroom_{name}",
    }


def _lasting_name(scorer: str) -> str:
    """Return a name that opens the scorer from any folder: a person's file by its absolute path."""
    if find_builtin(scorer) is not None:
        return scorer
    path, function = parse_target(scorer)
    return f"{path}:{function}"


def _template(name: str) -> Template:
    return Template(resources.files("lockedroom.adapters").joinpath("templates", name).read_text("utf-8"))
