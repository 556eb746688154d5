"""A person's own selector: a class in a file, named `path/to/file.py:Class`.

The class is made without arguments and offers `select(asked, completions) -> int`. It sees the example's id and prompt and
the completions, never a verdict and never the expected answer. It runs in this process, so the file is trusted as any
import is; whatever it raises becomes one message that names the example.
"""

from __future__ import annotations

import hashlib
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.errors import BadInput
from lockedroom.jsonl import open_for_reading
from lockedroom.protocols import Prompt
from lockedroom.records import Completion
from lockedroom.visible import visible

PREFIX = "own:"


class OwnSelector(msgspec.Struct, frozen=True):
    """The person's object behind our seam; `sha256` is of its file."""

    name: str
    sha256: str
    made: Any

    def select(self, asked: Prompt, completions: Sequence[Completion]) -> int:
        """Return what the person's selector returns (checked by the caller). Raises BadInput for whatever it raises."""
        try:
            chosen: int = self.made.select(asked, completions)
        except Exception as error:  # noqa: BLE001  # a person's code may raise anything; they get one message
            raise BadInput(
                f"selector {self.name}: raised {type(error).__name__}: {visible(str(error), 200)} for id "
                f"{visible(asked.id, 60)!r}; nothing was selected"
            ) from None
        return chosen


def load_selector(name: str) -> OwnSelector:
    """Return the selector that `path/to/file.py:Class` names. Raises BadInput when there is none that can be used."""
    path, _, class_name = name.rpartition(":")
    if not path.endswith(".py") or not class_name.isidentifier():
        raise BadInput(f"--selector {visible(name, 80)!r}: name your own as path/to/file.py:Class")
    with open_for_reading(Path(path)) as file:
        source = file.read()
    module = types.ModuleType("lockedroom_own_selector")
    module.__file__ = path
    try:
        exec(
            compile(source, path, "exec", dont_inherit=True), module.__dict__
        )  # running the person's file is the point
        found = vars(module).get(class_name)
        made = found() if isinstance(found, type) else None
    except Exception as error:  # noqa: BLE001  # a person's code may raise anything; they get one message
        raise BadInput(
            f"{path}: importing the selector raised {type(error).__name__}: {visible(str(error), 200)}; fix the file"
        ) from None
    if made is None or not callable(getattr(made, "select", None)):
        raise BadInput(f"{path}: no class {class_name!r} with a method select(self, asked, completions) -> int")
    return OwnSelector(PREFIX + class_name, hashlib.sha256(source).hexdigest(), made)
