"""The embedded language model: a small transformer whose whole distribution can be read, offline.

Read order: `tokenizer` -> `model` -> `decode` (fixed-shape forward passes) -> `sample` -> `exact` -> `policy`. This module
and `tokenizer`, `randomness` and `weights` import without PyTorch; everything else needs `pip install 'lockedroom[learn]'`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lockedroom.errors import MissingExtra

if TYPE_CHECKING:
    from lockedroom.policy.tiny.policy import TinyPolicy

DATA_FOLDER = (
    Path(__file__).parent / "data"
)  # train.jsonl, dev.jsonl, holdout.jsonl: the problems it was and was not shown


def load_tiny(variant: str | Path = "tiny", *, threads: int = 1) -> TinyPolicy:
    """Return a shipped variant by name, or a model saved in the same format by path.

    `threads` is set for the whole process, because the last bits of a sum depend on it. Raises MissingExtra without
    PyTorch, and BadInput for a name nobody shipped, corrupted weights or weights of another format version.
    """
    try:
        from lockedroom.policy.tiny.policy import TinyPolicy

        return TinyPolicy.load(variant, threads=threads)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "safetensors", "safetensors.numpy"):
            raise
        raise MissingExtra("the embedded model", "learn") from None
