"""Weights files: safetensors with one JSON document in the header, refused unless every byte is the expected one.

The header's `lockedroom` entry holds the format version, the network's shape, the tokenizer, where the weights come from
and the sha256 of the tensor bytes. A shipped variant is pinned by the sha256 of its whole file in `SHIPPED`.
"""

from __future__ import annotations

import hashlib
import math
import struct
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from lockedroom.errors import BadInput
from lockedroom.policy.tiny.tokenizer import TokenizerFile

FORMAT = 1
FOLDER = Path(__file__).parent / "weights"

# variant -> sha256 of its file, as `recipes/tiny.py` makes it (recipes/README.md says where and how it was made)
SHIPPED = {
    "tiny": "9bb0a06a34a15efd834ca11f2b8695bef9e8f7145c6cc65a93f2d7415d5cc07d",
    "tiny-weak": "dae6be42dfe5495bc14a83877323fdd12fbae3b1affce44a426df075a697e5ce",
    "tiny-hedge": "f3b6d2a74366ce7e0470c19a1fba6560a4221861b758edf6a9263ac55e99be10",
}


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a weights file says of itself; `origin` is free (recipe, seed, threads, instruction set, versions)."""

    format: int
    config: dict[str, int]
    tokenizer: TokenizerFile
    origin: dict[str, Any]
    tensors_sha256: str


class _FormatOnly(msgspec.Struct, frozen=True):
    format: int


class Weights(msgspec.Struct, frozen=True):
    """A weights file in memory: its header, its tensors by name, and the sha256 of the file."""

    header: Header
    tensors: dict[str, NDArray[np.floating[Any]]]
    sha256: str


def load_shipped(variant: str) -> Weights:
    """Load a variant of the package; a file that is not the one shipped is refused."""
    if variant not in SHIPPED:
        raise BadInput(f"no embedded model is named {variant!r}; there are {', '.join(SHIPPED)}, or give a file")
    return load_weights(FOLDER / f"{variant}.safetensors", expected_sha256=SHIPPED[variant])


def load_weights(path: Path, *, expected_sha256: str | None = None) -> Weights:
    """Load a weights file. Raises BadInput for a wrong hash, another format version, or a file that is cut short."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}; check the path") from None
    sha256 = hashlib.sha256(raw).hexdigest()
    if expected_sha256 is not None and sha256 != expected_sha256:
        raise BadInput(
            f"{path}: the weights are corrupted: sha256 is {sha256[:16]}…, {expected_sha256[:16]}… was shipped; "
            "reinstall lockedroom"
        )
    header, tensor_bytes = _read_header(path, raw)
    if hashlib.sha256(tensor_bytes).hexdigest() != header.tensors_sha256:
        raise BadInput(
            f"{path}: the weights are corrupted: the tensors do not match the sha256 in the header; restore the file"
        )
    return Weights(header, _tensors(path, raw), sha256)


def save_weights(
    path: Path,
    tensors: dict[str, NDArray[np.floating[Any]]],
    *,
    config: dict[str, int],
    tokenizer: TokenizerFile,
    origin: dict[str, Any],
) -> str:
    """Write a weights file and return its sha256. The bytes depend on the arguments only."""
    from safetensors.numpy import save

    tensors_sha256 = hashlib.sha256(_split(save(tensors))[1]).hexdigest()
    header = Header(FORMAT, config, tokenizer, origin, tensors_sha256)
    # One metadata entry: safetensors writes several in no fixed order, which would change the hash.
    raw = save(tensors, metadata={"lockedroom": msgspec.json.encode(header, order="sorted").decode()})
    path.write_bytes(raw)
    return hashlib.sha256(raw).hexdigest()


def _read_header(path: Path, raw: bytes) -> tuple[Header, bytes]:
    try:
        head, tensor_bytes = _split(raw)
        text = msgspec.json.decode(head)["__metadata__"]["lockedroom"].encode()
        version = msgspec.json.decode(text, type=_FormatOnly).format
    except (struct.error, msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        raise BadInput(
            f"{path}: not weights that lockedroom wrote (no readable header); give a file made by "
            "recipes/tiny.py or by a learning run"
        ) from None
    if version != FORMAT:
        raise BadInput(
            f"{path}: the weights have format version {version}, this lockedroom reads version {FORMAT}; "
            "make them again or install the matching version"
        )
    try:
        return msgspec.json.decode(text, type=Header), tensor_bytes
    except msgspec.ValidationError as error:
        raise BadInput(f"{path}: the header is damaged: {error}; restore the file") from None


def _split(raw: bytes) -> tuple[bytes, bytes]:
    """Split a safetensors file into its JSON header and its tensor bytes."""
    (length,) = struct.unpack("<Q", raw[:8])
    return raw[8 : 8 + length], raw[8 + length :]


def _tensors(path: Path, raw: bytes) -> dict[str, NDArray[np.floating[Any]]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(raw)
    except SafetensorError as error:
        raise BadInput(f"{path}: not a safetensors file: {error}; restore the file") from None
    for name, tensor in tensors.items():
        if not math.isfinite(float(np.abs(tensor).sum(dtype=np.float64))):
            raise BadInput(f"{path}: tensor {name} holds values that are not finite; these weights cannot be sampled")
    return tensors
