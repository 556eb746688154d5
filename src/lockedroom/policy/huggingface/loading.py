"""From a source on disk to a policy: model, tokenizer, adapter, and what identifies them.

transformers reads the network; nothing is downloaded unless a hub id was named, no code of a model's folder runs unless
`trust_remote_code` asks for it, and weights come from safetensors or GGUF only.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import huggingface_hub
import peft
import tokenizers
import torch
import transformers

from lockedroom.errors import BadInput
from lockedroom.policy.backend import Backend
from lockedroom.policy.huggingface.adapter import new_adapter, saved_adapter
from lockedroom.policy.huggingface.policy import HuggingFacePolicy, files_sha256, vocabulary_of
from lockedroom.policy.huggingface.source import ADAPTER_WEIGHTS, EXTRA, HUB_COMMIT, Source
from lockedroom.policy.huggingface.text import TextCodec
from lockedroom.policy.huggingface.trial import TOLERANCE, disagreement
from lockedroom.policy.tiny.randomness import SEED_SCHEME
from lockedroom.records import PolicySpec
from lockedroom.visible import visible

NAMED_DIGITS = 8  # of the sha256 of the weights, in a policy's name
HUB_TIMEOUT_S = 5.0
Loaded = TypeVar("Loaded")
_WANTED = "only causal transformers with a cache of keys and values are supported"


def load(source: Source, backend: Backend, *, threads: int) -> HuggingFacePolicy:
    """Return the policy of a source. Raises BadInput for whatever transformers cannot make a causal model of."""
    torch.set_num_threads(threads)
    said: Any = transformers.utils.logging
    said.set_verbosity_error()
    said.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)  # it writes a line for every retry
    device = _device(backend.device)
    if source.kind == "hub":
        _reach_hub(source)
    tokenizer = _try(source, "tokenizer", lambda: _tokenizer(source, backend))
    model = _try(source, "weights", lambda: _model(source, backend))
    _try(source, "generation_config.json", lambda: _generation_config(source))
    template = source.saved.template if source.saved is not None and backend.template == "auto" else backend.template
    codec = TextCodec(tokenizer, end_ids(model, tokenizer, source.name), template, f"hf:{source.name}")
    base_sha256 = files_sha256(source.weights) if source.weights else _hub_commit(model)
    identity = {
        "weights_sha256": base_sha256,
        **_adapter_identity(source, base_sha256),
        **codec.identity(),
        "end_ids": list(codec.end_ids),
        "engine": "transformers",
        "seeds": SEED_SCHEME,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "torch": str(torch.__version__),
        "attention": model.config._attn_implementation,
        "dtype": backend.dtype,
        "device": str(device),
        "batch": backend.batch,
        "threads": threads,
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
    }
    model = _with_adapter(model, source, backend).to(device).eval()
    _refuse_unfit(model, codec, source)
    spec = PolicySpec(_name(source, identity), "huggingface", identity)
    return HuggingFacePolicy(model, codec, spec, batch=backend.batch, base=(_lasting(source), base_sha256))


def _reach_hub(source: Source) -> None:
    """Ask the hub once for a model, or raise BadInput; transformers would retry every file of it for a minute.

    Under HF_HUB_OFFLINE nothing is asked, and what the cache holds is all there is.
    """
    if huggingface_hub.constants.is_offline_mode():
        return
    try:
        huggingface_hub.HfApi().model_info(str(source.path), timeout=HUB_TIMEOUT_S)
    except huggingface_hub.errors.RepositoryNotFoundError:
        raise BadInput(
            f"hf:{source.path}: no such folder, and the hub has no model of this name that you may see; check the spelling, "
            "or set HF_TOKEN for a private one"
        ) from None
    except (OSError, _transport_error(), huggingface_hub.errors.HFValidationError) as error:
        said = visible((str(error) or type(error).__name__).splitlines()[0], 200)
        raise BadInput(
            f"hf:{source.path}: no such folder, and the hub cannot be asked ({said}); give a model's folder, or set "
            "HF_HUB_OFFLINE=1 to use what the hub's cache on this machine holds"
        ) from None


def _transport_error() -> type[Exception]:
    """Return what the hub's client raises where no answer came: the error of whichever HTTP library it is built on."""
    found: type[Exception] = huggingface_hub.errors.HTTPError  # type: ignore[attr-defined]  # it is there, not re-exported
    return found


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise BadInput(
            f"--device {name!r}: cannot be used here: {visible(str(error).splitlines()[0], 200)}; use cpu, or cuda where "
            "PyTorch sees a GPU"
        ) from None
    if device.type == "meta":
        raise BadInput("--device 'meta': holds no numbers; use cpu or cuda")
    return device


def _try(source: Source, what: str, read: Callable[[], Loaded]) -> Loaded:
    """Read a part of the model's folder; whatever is wrong with it is the folder's fault and becomes one message."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stderr(io.StringIO()),
    ):  # a progress bar that cannot be asked off
        warnings.simplefilter("ignore")  # of transformers and peft, about their own files and past versions
        try:
            return read()
        except BadInput:
            raise
        except Exception as error:  # a foreign folder fails inside foreign code in ways nobody can list
            if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in EXTRA:
                raise
            wants_code = "trust_remote_code" in str(error)
            folder = source.adapter if what == "adapter" else source.path
            what_to_do = "read that code, and give --trust-remote-code to run it" if wants_code else f"check {folder}"
            raise BadInput(f"hf:{source.name}: its {what} cannot be read: {_said(error)}; {what_to_do}") from None


def _said(error: Exception) -> str:
    """Return the first line of what an error says, with the next where the first only announces it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason given"]
    said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return f"{visible(said, 300)} ({type(error).__name__})"


def _where(source: Source, backend: Backend) -> tuple[str, dict[str, Any]]:
    """Return what from_pretrained is called with."""
    flags: dict[str, Any] = {"trust_remote_code": backend.trust_remote_code}
    if source.kind == "gguf":
        return str(source.path.parent), {**flags, "gguf_file": source.path.name, "local_files_only": True}
    return str(source.path), {**flags, "local_files_only": source.kind == "folder"}


def _tokenizer(source: Source, backend: Backend) -> Any:
    where, flags = _where(source, backend)
    tokenizer = transformers.AutoTokenizer.from_pretrained(where, **flags)
    if not tokenizer.is_fast:
        raise BadInput(
            f"hf:{source.name}: its tokenizer has no tokenizer.json form, which is needed for spans of tokens"
        )
    return tokenizer


def _model(source: Source, backend: Backend) -> Any:
    where, flags = _where(source, backend)
    if source.kind != "gguf":
        _refuse_configuration(transformers.AutoConfig.from_pretrained(where, **flags), source)
        flags["use_safetensors"] = True
    dtype = getattr(torch, backend.dtype)
    of_library: Any = transformers.AutoModelForCausalLM
    model, info = of_library.from_pretrained(
        where, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, **flags
    )
    for name, found, expected in sorted(info["mismatched_keys"]):
        raise BadInput(
            f"hf:{source.name}: its weights do not fit its config.json: {name} is {'×'.join(map(str, found))} in the file, and "
            f"{'×'.join(map(str, expected))} by the configuration; restore the files"
        )
    absent = sorted(info["missing_keys"])
    if absent:  # transformers would go on with random numbers
        raise BadInput(
            f"hf:{source.name}: its weights lack tensors ({len(absent)}: {_some(absent)}); restore the files"
        )
    beyond = _without_a_place(model, info["unexpected_keys"])
    if beyond:  # and here without them
        raise BadInput(
            f"hf:{source.name}: its weights do not fit its config.json, which describes a model without {_some(beyond)} "
            f"({len(beyond)} such); restore the files"
        )
    return _dequantised(model).to(dtype) if source.kind == "gguf" else model


def _refuse_configuration(config: Any, source: Source) -> None:
    """Raise BadInput for what transformers has no causal model of, and for weights that are codes for others."""
    if type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING and not hasattr(config, "auto_map"):
        raise BadInput(f"hf:{source.name}: a model of type {config.model_type}; {_WANTED}")
    for part in (config, config.get_text_config()):
        quantised = getattr(part, "quantization_config", None)
        if quantised is not None:
            method = dict(quantised).get("quant_method", "unknown") if isinstance(quantised, dict) else "unknown"
            raise BadInput(
                f"hf:{source.name}: its weights are quantised ({method}); only plain ones are supported, or a .gguf file: name the "
                "model that they were made from, or save it dequantised and without quantization_config"
            )


def _without_a_place(model: Any, names: Iterable[str]) -> list[str]:
    """Return which of these tensors belong in layers like the model's: more of them than it has, or more in one.

    Others, such as another head or a part that reads images, change nothing of what this model says.
    """
    own = {re.sub(r"\d+", "#", name) for name, _ in model.named_parameters()}
    modules = {name.rpartition(".")[0] for name in own}
    forms = {name: re.sub(r"\d+", "#", name) for name in names}
    return sorted(name for name, form in forms.items() if form in own or form.rpartition(".")[0] in modules)


def _some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]}, …"


def _dequantised(model: Any) -> Any:
    """Forget that the weights came from a quantised file: they are plain tensors now, and can be trained and saved."""
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model


def _with_adapter(model: Any, source: Source, backend: Backend) -> Any:
    if source.adapter is not None:
        folder = source.adapter
        return _try(source, "adapter", lambda: saved_adapter(model, folder))
    return new_adapter(model, backend.lora) if backend.lora else model


def _generation_config(source: Source) -> None:
    """Raise what is wrong with a folder's generation_config.json, without which transformers would go on."""
    if source.kind == "folder" and (source.path / "generation_config.json").is_file():
        transformers.GenerationConfig.from_pretrained(str(source.path), local_files_only=True)


def end_ids(model: Any, tokenizer: Any, name: str) -> tuple[int, ...]:
    """Return every token that ends a completion, the tokenizer's own first."""
    known = vocabulary_of(model)
    found: list[int] = []
    configured = {
        "tokenizer": tokenizer.eos_token_id,
        "generation_config.json": model.generation_config.eos_token_id,
        "config.json": getattr(model.config.get_text_config(), "eos_token_id", None),
    }
    for file, named in configured.items():
        ids = named if isinstance(named, list) else [named]
        if not all(i is None or isinstance(i, int) for i in ids):
            raise BadInput(f"hf:{name}: its {file} names {visible(str(named), 60)} as eos_token_id; give token ids")
        found += [i for i in ids if i is not None and 0 <= i < known]  # others cannot be drawn
    if not found:
        raise BadInput(
            f"hf:{name}: neither its tokenizer nor its generation_config.json names an end token (eos_token) that the model knows, "
            "so no completion could end; add one"
        )
    return tuple(dict.fromkeys(found))


def _refuse_unfit(model: Any, codec: TextCodec, source: Source) -> None:
    """Raise BadInput for a model that sampling would read otherwise than the model reads itself (see `trial`)."""
    kind = f"hf:{source.name}: a model of type {model.config.model_type}"
    if model.config.is_encoder_decoder or getattr(model, "_is_stateful", False):
        raise BadInput(f"{kind}; {_WANTED}")
    try:
        apart = disagreement(model, vocabulary_of(model), codec.special_ids)
    except Exception as error:  # noqa: BLE001  (a model that needs another cache, or another input, fails anywhere in it)
        raise BadInput(f"{kind}, which cannot be read token by token: {_said(error)}; {_WANTED}") from None
    if math.isnan(apart):
        raise BadInput(
            f"{kind}, which gives no numbers (NaN): its weights hold some, or are too large for --dtype; restore the files, "
            "or use --dtype float32"
        )
    if apart > TOLERANCE[model.dtype]:
        raise BadInput(
            f"{kind}, in which padding, a cache or what comes after a token changes its log-probability (by {apart:.2g} nats in "
            f"a trial of a few tokens); {_WANTED}"
        )


def _hub_commit(model: Any) -> str:
    return f"{HUB_COMMIT} {getattr(model.config, '_commit_hash', None) or 'unknown'}"


def _lasting(source: Source) -> str:
    """Return how an adapter remembers its base: from whatever folder it is opened later."""
    return str(source.path if source.kind == "hub" else source.path.resolve())


def _name(source: Source, identity: dict[str, Any]) -> str:
    """Return what reports call the policy: files by their folder and what they hold, wherever that folder lies."""
    if source.kind == "hub":
        return f"hf:{source.name}"
    pinned = str(identity.get("adapter_sha256", identity["weights_sha256"]))
    return f"hf:{(source.adapter or source.path).resolve().name}@{pinned[:NAMED_DIGITS]}"


def _adapter_identity(source: Source, base_sha256: str) -> dict[str, str]:
    """Return what pins the adapter. Raises BadInput where it was trained on other weights than these."""
    if source.adapter is None:
        return {}
    if source.saved is not None and source.saved.base_sha256 not in (None, base_sha256):
        raise BadInput(
            f"{source.adapter}: this adapter was trained on weights {str(source.saved.base_sha256)[:12]}…, and "
            f"{source.path} holds {base_sha256[:12]}…; restore the base model"
        )
    return {"adapter_sha256": files_sha256([source.adapter / ADAPTER_WEIGHTS]), "peft": peft.__version__}
