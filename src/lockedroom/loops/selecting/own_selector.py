"""A person's own selector: a class in a file, named `path/to/file.py:Class`.

The class is made without arguments and offers `select(asked, completions) -> int`. It runs as a person's scorer does, in a
process of its own with a time-out and a memory cap, so it can neither end nor hang the run, nor write into its output. All
that reaches that process is the example's id and prompt and the completions: no verdict and no expected answer is there to
be found. Whatever it does but return a position becomes one message that names the example.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from lockedroom.errors import BadInput
from lockedroom.protocols import BatchSelector, Prompt
from lockedroom.records import Completion, Example, Failure, FailureCode
from lockedroom.scorer.custom import IsolatedScorer
from lockedroom.scorer.identity import source_sha256
from lockedroom.visible import visible
from lockedroom.wording import counted

PREFIX = "own:"
# Loaded by the isolated worker in place of the person's file; a position travels as a reward.
_WRAPPER = """\
import json
import operator
from pathlib import Path
import msgspec
from lockedroom.records import Completion
from lockedroom.scorer.loading import load_selector

_selector = load_selector(Path({source!r}), {name!r})

class Asked:
    __slots__ = ("id", "prompt")
    def __init__(self, id, prompt):
        self.id, self.prompt = id, prompt

def score(example, completion):
    shown = msgspec.convert(json.loads(completion), list[Completion])
    count = len(shown)
    chosen = _selector.select(Asked(example.id, example.prompt), shown)
    try:
        position = -1 if isinstance(chosen, bool) else operator.index(chosen)
    except TypeError:
        position = -1
    taken = 0 <= position < count
    return {{"reward": position if taken else -1, "details": {{"message": "" if taken else repr(chosen)[:80]}}}}
"""


class OwnSelector(BatchSelector):
    """The person's object behind our seam; `sha256` is of its file."""

    def __init__(self, source: Path, class_name: str, asked: IsolatedScorer) -> None:
        self.name, self.sha256 = PREFIX + class_name, source_sha256(source)
        self._shown_name = f"{source.name}:{class_name}"
        self._asked = asked

    def select_batch(self, asked: Prompt, groups: Sequence[Sequence[Completion]]) -> list[int]:
        """Return the position that the person's selector picks from each group.

        Raises BadInput for whatever else it does.
        """
        example = Example(id=asked.id, prompt=asked.prompt, expected_answer=None)
        texts = [json.dumps(msgspec.to_builtins(list(group))) for group in groups]
        said = self._asked.score_batch([example] * len(texts), texts)
        where = f"selector {self._shown_name}"
        picked = []
        for group, one in zip(groups, said, strict=True):
            if isinstance(one, Failure):
                raised = "raised " if one.code is FailureCode.SCORER_RAISED else ""
                what = one.message.replace("the scorer", "the selector")
                raise BadInput(
                    f"{where}: {raised}{visible(what, 200)} for id {visible(asked.id, 60)!r}; nothing was selected"
                )
            if one.reward < 0:
                raise BadInput(
                    f"{where}: returned {visible(one.details.message, 60)} for id {visible(asked.id, 60)!r} with "
                    f"{counted(len(group), 'completion')}; it must return a position from 0 to one less than their number"
                )
            picked.append(int(one.reward))
        return picked


@contextlib.contextmanager
def open_selector_file(name: str, *, timeout_s: float, memory_mb: int) -> Iterator[OwnSelector]:
    """Yield the selector that `path/to/file.py:Class` names. Raises BadInput when there is none that can be used."""
    path_text, _, class_name = name.rpartition(":")
    path = Path(path_text)
    if not path_text.endswith(".py") or not class_name.isidentifier():
        raise BadInput(f"--selector {visible(name, 80)!r}: name your own as path/to/file.py:Class")
    if not path.is_file():
        raise BadInput(f"--selector {visible(name, 80)!r}: no such file {visible(path_text, 80)}; check the path")
    with tempfile.TemporaryDirectory(prefix="lockedroom-selector-") as folder:
        wrapper = Path(folder) / "selector.py"
        wrapper.write_text(_WRAPPER.format(source=str(path.resolve()), name=class_name), "utf-8")
        with IsolatedScorer(f"{wrapper}:score", timeout_s=timeout_s, memory_mb=memory_mb) as asked:
            yield OwnSelector(path, class_name, asked)
