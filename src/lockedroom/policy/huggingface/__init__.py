"""Hugging Face causal language models as policies: read, sampled, trained, saved.

Read order: `source` (what a name means, without heavy imports) -> `loading` -> `text` (tokenizer and template) ->
`forward` (forward passes of fixed shape) -> `sample` -> `spelling` and `exact` -> `training` -> `policy`. Only this module and
`source` import without PyTorch and transformers; the rest needs `pip install 'lockedroom[hf]'`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockedroom.errors import BadInput, MissingExtra
from lockedroom.policy.backend import Backend
from lockedroom.policy.huggingface.source import EXTRA, find_source

if TYPE_CHECKING:
    from lockedroom.policy.huggingface.policy import HuggingFacePolicy


def load_huggingface(name: str, backend: Backend, *, threads: int = 1) -> HuggingFacePolicy:
    """Return the policy of a folder, a GGUF file, an adapter's folder or a model id of the hub.

    `threads` is set for the whole process, because the last bits of a sum depend on it. Raises BadInput for what cannot
    be loaded as asked, and MissingExtra without the packages of `[hf]`.
    """
    if threads < 1:
        raise BadInput(f"threads: {threads}; give 1 or more")
    source = find_source(name, backend)
    try:
        from lockedroom.policy.huggingface.loading import load

        return load(source, backend, threads=threads)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        raise MissingExtra(f"--policy hf:{name}", "hf") from None
