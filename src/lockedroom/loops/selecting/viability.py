"""What a scorer says of beginnings: which can still become well formed, and which texts are complete.

A built-in scorer is asked in this process. A person's `viable(prefix) -> bool` stands beside `score` in their file and runs
as `score` does: in a process of its own, with a time-out and a memory cap. Neither is told the right answer.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lockedroom.errors import BadInput
from lockedroom.protocols import BatchScorer, Scorer, Searchable
from lockedroom.records import Example, Failure, Outcome
from lockedroom.results.selection.selectors import PROBE
from lockedroom.scorer.builtin import BuiltinScorer
from lockedroom.visible import visible

if TYPE_CHECKING:
    from lockedroom.policy.tiny.guided import Language

TEXTS_AT_A_TIME = 4
# Loaded by the isolated worker in place of the person's file; a verdict on a prefix travels as a reward.
_WRAPPER = """\
from pathlib import Path
from lockedroom.scorer.loading import load_beside
_viable = load_beside(Path({source!r}), "viable")
def score(example, completion):
    said = _viable(completion)
    if type(said) is not bool:
        raise TypeError(f"returned a {{type(said).__name__}}, not True or False")
    return {{"reward": float(said), "details": {{}}}}
"""


class Limits(Protocol):
    """The bounds on a person's scorer."""

    @property
    def scorer_timeout(self) -> float: ...
    @property
    def scorer_memory(self) -> int: ...


@contextlib.contextmanager
def open_language(policy: Searchable, scorer: Scorer, limits: Limits) -> Iterator[Language]:
    """Yield the language of a scorer over a policy's tokens. Raises BadInput for a scorer that offers no `viable`."""
    from lockedroom.policy.tiny.guided import Language

    steps = policy.steps()
    pieces, ends = steps.pieces, steps.ends
    if isinstance(scorer, BuiltinScorer):
        viable, score = scorer.viable, scorer.score
        if viable is None:
            raise BadInput(
                f"--measure {scorer.spec.name}: cannot say which prefixes are viable; use one that can: final-int"
            )
        yield Language(
            pieces,
            lambda texts: list(map(viable, texts)),
            lambda text: score(PROBE, text).details.outcome is not Outcome.MALFORMED,
            ends,
        )
        return
    assert isinstance(scorer, BatchScorer)
    from lockedroom.scorer.custom import IsolatedScorer

    with tempfile.TemporaryDirectory(prefix="lockedroom-viable-") as folder:
        wrapper = Path(folder) / "viable.py"
        wrapper.write_text(_WRAPPER.format(source=str(scorer.source)), "utf-8")
        try:
            asked = IsolatedScorer(f"{wrapper}:score", timeout_s=limits.scorer_timeout, memory_mb=limits.scorer_memory)
        except BadInput as error:
            raise BadInput(
                f"--measure {scorer.source}: cannot say which prefixes are viable; define viable(prefix) -> bool beside its score "
                f"({error})"
            ) from None
        with asked:
            yield Language(
                pieces, lambda texts: _viable(scorer, asked, texts), lambda text: _complete(scorer, text), ends
            )


def _viable(scorer: BatchScorer, asked: BatchScorer, texts: Sequence[str]) -> list[bool]:
    """Ask about a few texts at a time: one that hangs ends the search, and the time-outs of those behind it are not waited for."""
    probe = Example(id="viable", prompt="", expected_answer=0)
    said = []
    for start in range(0, len(texts), TEXTS_AT_A_TIME):
        part = texts[start : start + TEXTS_AT_A_TIME]
        for text, result in zip(part, asked.score_batch([probe] * len(part), part), strict=True):
            if isinstance(result, Failure):
                message = result.message.replace("the scorer", "viable")
                raise BadInput(
                    f"{scorer.source}: viable({visible(repr(text), 80)}): {visible(message, 200)}; it must return True or False "
                    "for every text"
                )
            said.append(result.reward == 1.0)
    return said


def _complete(scorer: BatchScorer, text: str) -> bool:
    """Whether the scorer does not call a text malformed; one that it cannot judge is not complete."""
    (result,) = scorer.score_batch([PROBE], [text])
    return not isinstance(result, Failure) and result.details.outcome is not Outcome.MALFORMED
