"""Checkpoints of a learning run: one safetensors file, replaced atomically, refused unless every byte is its own.

It holds every tensor that decides the steps to come, and in its header the numbers beside them and how far each growing
file of the run counts, with the hash of that part: what stands behind it belongs to steps that a resumed run makes again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lockedroom.errors import BadInput
from lockedroom.results.run_folder import write_atomically
from lockedroom.safeguards.manifest import FileEntry

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 2
CHECKPOINT = "checkpoint.safetensors"


class _FormatOnly(msgspec.Struct):
    format: int


class Checkpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The header. `step` is the next one to be made; `files` are the growing files as they were."""

    format: int
    step: int
    updates: int
    ema: float
    files: dict[str, FileEntry]
    tensors_sha256: str


def write_checkpoint(run: Path, tensors: dict[str, Tensor], header: Checkpoint) -> None:
    """Write the checkpoint of a run folder so that there is always a whole one."""
    from safetensors.torch import save

    header = msgspec.structs.replace(header, tensors_sha256=_digest(tensors))
    text = msgspec.json.encode(header, order="sorted").decode()
    write_atomically(run / CHECKPOINT, save(tensors, metadata={"lockedroom": text}))


def read_checkpoint(run: Path) -> tuple[Checkpoint, dict[str, Tensor]] | None:
    """Return the checkpoint of an unfinished run, or None before the first. Raises BadInput for one that is damaged."""
    from safetensors import SafetensorError, safe_open

    path = run / CHECKPOINT
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            text = file.metadata()["lockedroom"]
            version = msgspec.json.decode(text, type=_FormatOnly).format
            if version != FORMAT:
                raise BadInput(
                    f"{path}: the checkpoint is of format {version}, this lockedroom reads {FORMAT}; resume with the version "
                    "that began the run, or start a new run in another folder"
                )
            header = msgspec.json.decode(text, type=Checkpoint)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    except (SafetensorError, msgspec.DecodeError, KeyError, TypeError, OSError) as error:
        raise BadInput(
            f"{path}: the checkpoint is cut short or damaged ({error}); restore the file, or start a new run in another folder"
        ) from None
    if header.tensors_sha256 != _digest(tensors):
        raise BadInput(
            f"{path}: the checkpoint is damaged: its tensors are not those that were saved; restore the file, or start a "
            "new run in another folder"
        )
    return header, tensors


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)}\n".encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
