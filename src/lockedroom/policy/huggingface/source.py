"""What the name after `hf:` means, checked on disk before anything heavy is imported.

A folder that `save_pretrained` wrote, a `.gguf` file, a folder of LoRA weights (its base is named in it), a folder that
holds one of these as `policy`, or `owner/name` on the hub. Weights are read from safetensors (or GGUF) only: a pickle
can run any code when it is opened.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import msgspec

from lockedroom.errors import BadInput
from lockedroom.policy.backend import Backend

SAVED = "lockedroom.json"  # what we write beside saved weights: where they come from
POLICY = "policy"  # the name, inside a run's folder, of the policy that it made
CONFIG, ADAPTER_CONFIG, ADAPTER_WEIGHTS = "config.json", "adapter_config.json", "adapter_model.safetensors"
HUB_COMMIT = "hub commit"  # what pins weights of the hub, in place of their sha256
EXTRA = ("torch", "transformers", "peft", "safetensors", "tokenizers", "gguf")  # packages that `[hf]` installs
TEMPLATES = ("auto", "chat", "plain")
DTYPES = ("float32", "bfloat16", "float16", "float64")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


class Saved(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `SAVED` holds: for an adapter also the base it was trained on, and the sha256 of that base's weights."""

    format: int
    origin: dict[str, object]
    template: str
    base: str | None = None
    base_sha256: str | None = None


class Source(msgspec.Struct, frozen=True):
    """Where to read from. `weights` are the files hashed into the policy's identity (none of a hub id, which is `path`)."""

    name: str
    kind: Literal["folder", "gguf", "hub"]
    path: Path
    weights: tuple[Path, ...] = ()
    adapter: Path | None = None
    saved: Saved | None = None


def find_source(name: str, backend: Backend) -> Source:
    """Return what a name means. Raises BadInput for a folder that cannot be used, and for unknown settings."""
    check_backend(backend)
    if not name:
        raise BadInput("--policy hf: names no model; give hf:FOLDER, hf:FILE.gguf or hf:OWNER/NAME")
    path = Path(name)
    if (path / POLICY / CONFIG).is_file() or (path / POLICY / ADAPTER_CONFIG).is_file():
        path = path / POLICY
    if (path / ADAPTER_CONFIG).is_file():
        if backend.adapter is not None:
            raise BadInput(f"--adapter {backend.adapter}: hf:{name} is an adapter itself; name its base model instead")
        return _with_adapter(_base_of(name, path), path, backend.lora)
    source = _weights_at(name, path)
    if backend.adapter is None:
        return source
    return _with_adapter(source, _adapter_folder(Path(backend.adapter)), backend.lora)


def check_backend(backend: Backend) -> None:
    """Raise BadInput for settings that no Hugging Face policy has."""
    if backend.template not in TEMPLATES:
        raise BadInput(f"--template {backend.template!r}: use {', '.join(TEMPLATES)}")
    if backend.dtype not in DTYPES:
        raise BadInput(f"--dtype {backend.dtype!r}: use {', '.join(DTYPES)}")
    if backend.batch < 1:
        raise BadInput(f"--batch {backend.batch}: give 1 or more sequences in a forward pass")
    if backend.lora < 0:
        raise BadInput(f"--lora {backend.lora}: give the rank of the adapter, or 0 for all weights")


def read_saved(folder: Path) -> Saved | None:
    """Return what we wrote beside these weights, or None where somebody else made them."""
    file = folder / SAVED
    if not file.is_file():
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=Saved)
    except msgspec.DecodeError as error:
        raise BadInput(f"{file}: damaged: {error}; restore the file, or save the policy again") from None


def _weights_at(name: str, path: Path) -> Source:
    if path.is_file():
        if path.suffix != ".gguf":
            raise BadInput(f"hf:{name}: is a file; name the model's folder, or a .gguf file")
        return Source(name, "gguf", path, (path,))
    if path.is_dir():
        return Source(name, "folder", path, _check_folder(path), saved=read_saved(path))
    if _HUB_ID.fullmatch(name):
        return Source(name, "hub", path)
    raise BadInput(
        f"hf:{name}: no such folder or file; give a folder with {CONFIG}, or OWNER/NAME of a model on the hub"
    )


def _check_folder(folder: Path) -> tuple[Path, ...]:
    """Return the safetensors files of a model's folder, or raise BadInput naming what is missing."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    names = {file.name for file in files}
    if CONFIG not in names:
        raise BadInput(f"{folder}: not a model's folder: it has no {CONFIG}; name the folder save_pretrained wrote")
    weights = tuple(file for file in files if file.suffix == ".safetensors")
    if not weights:
        pickles = [file.name for file in files if file.suffix in _PICKLES]
        found = f"holds {pickles[0]} but no .safetensors" if pickles else "holds no .safetensors weights"
        raise BadInput(
            f"{folder}: {found}; only safetensors are read, because other formats can run code when opened: save the "
            "model again with save_pretrained(…), or name a .gguf file"
        )
    if not names.intersection(_TOKENIZERS):
        raise BadInput(f"{folder}: holds no tokenizer ({', '.join(_TOKENIZERS)}); save it beside the weights")
    return weights


def _adapter_folder(folder: Path) -> Path:
    if not (folder / ADAPTER_CONFIG).is_file():
        raise BadInput(f"--adapter {folder}: no {ADAPTER_CONFIG} there; name the folder of a saved adapter")
    return folder


def _with_adapter(base: Source, folder: Path, lora: int) -> Source:
    """Return the base with an adapter. Raises BadInput where `lora` asks for a new one of another rank than it has."""
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise BadInput(
            f"{folder}: holds no {ADAPTER_WEIGHTS}; only safetensors are read, save the adapter in that format"
        )
    rank = adapter_settings(folder).get("r")
    if lora not in (0, rank):
        raise BadInput(
            f"--lora {lora}: {folder} is an adapter already{f' (of rank {rank})' if rank else ''}, and learning goes on with it; "
            "leave --lora out, or name the base model to start a new one"
        )
    return msgspec.structs.replace(base, adapter=folder, saved=read_saved(folder))


def adapter_settings(folder: Path) -> dict[str, object]:
    """Return what an adapter's configuration says. Raises BadInput for one that is damaged."""
    file = folder / ADAPTER_CONFIG
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, object])
    except msgspec.DecodeError as error:
        raise BadInput(f"{file}: damaged: {error}; restore the file, or save the adapter again") from None


def _base_of(name: str, folder: Path) -> Source:
    """Return the base model that an adapter's folder names."""
    saved = read_saved(folder)
    base = saved.base if saved is not None else None
    if base is None:
        named = adapter_settings(folder).get("base_model_name_or_path")
        base = named if isinstance(named, str) else None
    if not base:
        raise BadInput(
            f"hf:{name}: this adapter does not say what it was trained on; use hf:BASE with --adapter {folder}"
        )
    if saved is not None and not Path(base).exists() and not str(saved.base_sha256).startswith(HUB_COMMIT):
        raise BadInput(
            f"hf:{name}: an adapter of {base}, which is not there; restore that model, or use hf:BASE with --adapter {folder}"
        )
    try:
        found = _weights_at(base, Path(base))
    except BadInput as error:
        raise BadInput(f"hf:{name}: an adapter of {base}, which cannot be used: {error}") from None
    return msgspec.structs.replace(found, name=name)
