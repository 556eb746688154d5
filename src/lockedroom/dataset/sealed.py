"""What a sealed holdout looks like from outside, so that whatever reads datasets can refuse it.

The first field of every line of sealed prompts is `sealed`; the folder is told by its `sealed.json`, the encrypted
answers by how they begin. None of this keeps anything secret: the encryption does.
"""

from __future__ import annotations

from pathlib import Path

from lockedroom.errors import Sealed

HEADER = "sealed.json"
SUFFIX = ".sealed.jsonl"
MAGIC = b"lockedroom sealed answers 1\n"
FIRST_FIELD = b'{"sealed":'


def refuse_sealed(path: Path) -> None:
    """Return when `path` is not a sealed holdout or a part of one; else raise Sealed, saying how to read it."""
    try:
        if (path / HEADER).is_file():
            folder = str(path)
        elif path.is_file() and _looks_sealed(path):
            folder = str(path.parent) if (path.parent / HEADER).is_file() else "FOLDER"
        else:
            return
    except OSError:
        return  # a name too long to exist, for one; the reader says what is wrong with the file
    raise Sealed(
        f"{path}: a sealed holdout, which only its ledger opens; draw completions for the prompts of "
        f"`lockedroom holdout prompts {folder}`, then spend a look with `lockedroom holdout open {folder} --key KEY "
        "--reason TEXT --completions FILE`"
    )


def _looks_sealed(path: Path) -> bool:
    if path.name.endswith(SUFFIX):
        return True
    with open(path, "rb") as file:
        start = file.read(len(MAGIC))
    return start == MAGIC or start.startswith(FIRST_FIELD)
