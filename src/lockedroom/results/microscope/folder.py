"""The folder of a finished run of the microscope (bandit, frontier, goodhart): what was asked, what was found, the manifest last."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lockedroom._version import __version__
from lockedroom.results.plain_folder import measure_files, seal, write_files
from lockedroom.results.run_folder import CONFIG, writing
from lockedroom.safeguards import manifest as manifests
from lockedroom.safeguards.environment import GitState, Hardware, read_git_state, read_hardware

if TYPE_CHECKING:
    from lockedroom.protocols import TrainablePolicy

FORMAT = "lockedroom.microscope/1"


class MicroscopeManifest(msgspec.Struct, frozen=True, kw_only=True):
    """`kind`: bandit, frontier or goodhart. Everything in the other files follows from `config` and these versions."""

    format: str
    kind: str
    seed: int
    threads: int
    command: list[str]
    versions: dict[str, str]
    git: GitState | None
    hardware: Hardware
    started: str
    seconds: float
    files: dict[str, manifests.FileEntry]


def write_microscope(
    path: Path,
    kind: str,
    setting: msgspec.Struct,
    contents: Mapping[str, bytes],
    *,
    policies: Mapping[str, TrainablePolicy],
    seed: int,
    command: Sequence[str],
    started: str,
    seconds: float,
) -> MicroscopeManifest:
    """Write the folder: `config.toml`, contents and policies by name, SHA256SUMS, the manifest. Raises BadInput and CannotWrite."""
    import tomli_w
    import torch

    config = tomli_w.dumps({k: v for k, v in msgspec.to_builtins(setting).items() if v is not None}).encode()
    named = {CONFIG: config, **contents}
    write_files(path, named)
    for name, policy in policies.items():
        with writing(path / name):
            policy.save(path / name, origin={"kind": kind, "seed": seed})
    made = MicroscopeManifest(
        format=FORMAT,
        kind=kind,
        seed=seed,
        threads=torch.get_num_threads(),
        command=list(command),
        versions={
            "lockedroom": __version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
        },
        git=read_git_state(Path.cwd()),
        hardware=read_hardware(),
        started=started,
        seconds=seconds,
        files=measure_files(path, [*named, *policies]),
    )
    seal(path, made)
    return made
