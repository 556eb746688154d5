"""Asking a scorer without trusting it: every question is answered, skipped or given up within the budget.

A built-in scorer is asked in this process. A person's runs in the isolated worker, behind `instrument.probe`. After a call
that never comes back, the rest of its batch is skipped by the worker, so a batch costs at most one time-out.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import msgspec

from lockedroom.errors import BadInput
from lockedroom.records import Details, Example, Failure, FailureCode, Score, ScorerSpec
from lockedroom.safeguards.audit import instrument
from lockedroom.safeguards.audit.foreign import OURS, check_signature
from lockedroom.scorer.builtin import BuiltinScorer
from lockedroom.scorer.custom import IsolatedScorer, parse_target

LARGEST_BATCH = 512
BATCH_SECONDS = 0.25
# Calls of one group of questions that may never come back before the rest of the group is given up.
PATIENCE = 3


class Question(msgspec.Struct, frozen=True):
    """One call. `mode` says how it is made (see instrument.py); `value` replaces a completion that is no string."""

    example: Example
    completion: Any
    mode: str = instrument.PLAIN


class Said(msgspec.Struct, frozen=True):
    """What came of one call, and what the scorer did besides returning."""

    result: Score | Failure
    seen: tuple[str, ...] = ()

    @property
    def reward(self) -> float | None:
        return self.result.reward if isinstance(self.result, Score) else None


class Clock:
    """The wall time that is left."""

    def __init__(self, seconds: float) -> None:
        self.began = time.monotonic()
        self.end = self.began + seconds

    def left(self) -> float:
        return self.end - time.monotonic()

    def spent(self) -> float:
        return time.monotonic() - self.began


class Asker(Protocol):
    """Answers questions in order; None for one that was given up or that no time was left for."""

    spec: ScorerSpec
    calls: int

    def ask(self, questions: Sequence[Question], clock: Clock, patience: int = PATIENCE) -> list[Said | None]: ...


class InProcess:
    """Asks a built-in scorer, which is total: nothing has to be isolated."""

    def __init__(self, scorer: BuiltinScorer) -> None:
        self.spec, self._score = scorer.spec, scorer.score
        self.calls = 0

    def ask(self, questions: Sequence[Question], clock: Clock, patience: int = PATIENCE) -> list[Said | None]:
        del patience  # nothing hangs
        said: list[Said | None] = []
        for start in range(0, len(questions), LARGEST_BATCH):
            if clock.left() <= 0:
                break
            part = questions[start : start + LARGEST_BATCH]
            said += [Said(self._score(question.example, question.completion)) for question in part]
        self.calls += len(said)
        return said + [None] * (len(questions) - len(said))


class Isolated:
    """Asks a person's function in the isolated worker; a context manager. Raises BadInput when it cannot be used.

    `elsewhere` names a locale: the process then has that one, another hash seed and another time zone.
    """

    def __init__(
        self,
        target: str,
        *,
        signature: str = OURS,
        timeout_s: float = 2.0,
        memory_mb: int = 512,
        import_timeout_s: float = 60.0,
        elsewhere: str = "",
    ) -> None:
        wrong = check_signature(signature)
        if wrong:
            raise BadInput(f"--signature {signature!r}: {wrong}")
        self.source, function = parse_target(target)
        self._folder = tempfile.TemporaryDirectory(prefix="lockedroom-audit-")
        try:
            wrapper = Path(self._folder.name) / "probe.py"
            wrapper.write_text(
                f"from {instrument.__name__} import probe\n"
                f"score = probe({str(self.source)!r}, {function!r}, {signature!r}, {elsewhere!r})\n",
                "utf-8",
            )
            self._scorer = IsolatedScorer(
                f"{wrapper}:score",
                timeout_s=timeout_s,
                memory_mb=memory_mb,
                import_timeout_s=import_timeout_s,
            )
            self._batch = self.calls = 0
            self._rows = 1
            try:
                self.spec = self._describe(function)
            except BaseException:
                self._scorer.close()
                raise
        except BaseException:
            self._folder.cleanup()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._scorer.close()
        self._folder.cleanup()

    def ask(self, questions: Sequence[Question], clock: Clock, patience: int = PATIENCE) -> list[Said | None]:
        """Answer in order. After `patience` calls that never came back, or at the end of the time, the rest is None."""
        said: list[Said | None] = []
        deaths = 0
        while len(said) < len(questions) and deaths < patience and clock.left() > 0:
            part = questions[len(said) : len(said) + self._rows]
            began = time.monotonic()
            results = self._call(part)
            kept = [one for one in map(_said, results) if one is not None]
            took = time.monotonic() - began
            died = any(isinstance(one.result, Failure) and one.result.code in _DEADLY for one in kept)
            deaths += died
            self._rows = 1 if died else self._next_batch(len(kept), took)
            said += kept
            self.calls += len(kept)
        return said + [None] * (len(questions) - len(said))

    def _next_batch(self, rows: int, took: float) -> int:
        fitting = int(BATCH_SECONDS * rows / took) if took > 0 else LARGEST_BATCH
        return max(1, min(2 * self._rows, fitting, LARGEST_BATCH))

    def _call(self, questions: Sequence[Question]) -> list[Score | Failure]:
        self._batch += 1
        examples, texts = [], []
        for question in questions:
            is_text, mode = isinstance(question.completion, str), question.mode
            value = None if is_text else question.completion
            told = [self._batch, mode if is_text else instrument.VALUE, value, question.example.metadata]
            example = question.example
            examples.append(
                Example(
                    id=example.id,
                    prompt=example.prompt,
                    expected_answer=example.expected_answer,
                    metadata={"audit": told},
                )
            )
            texts.append(question.completion if is_text else "")
        return self._scorer.score_batch(examples, texts)

    def _describe(self, function: str) -> ScorerSpec:
        nothing = Example(id="describe", prompt="", expected_answer=0)
        result = self._call([Question(nothing, "", instrument.DESCRIBE)])[0]
        if isinstance(result, Failure):
            raise BadInput(f"{self.source}: the scorer's process does not answer: {result.message}; fix the file")
        extra = result.details.extra or {}
        if result.details.code == instrument.UNUSABLE:
            raise BadInput(extra["message"])
        if extra.get("spec") is None:
            return ScorerSpec(name=f"{self.source.name}:{function}", version=0)
        return msgspec.convert(extra["spec"], ScorerSpec)


def opener(
    target: str, *, signature: str, timeout_s: float, memory_mb: int, import_timeout_s: float
) -> Callable[..., Isolated]:
    """Return what opens fresh processes of a scorer, under another locale, hash seed and time zone if one is named."""

    def fresh(*, elsewhere: str = "") -> Isolated:
        return Isolated(
            target, signature=signature, timeout_s=timeout_s, memory_mb=memory_mb, import_timeout_s=import_timeout_s,
            elsewhere=elsewhere,
        )  # fmt: skip

    return fresh


_DEADLY = (FailureCode.SCORER_TIMEOUT, FailureCode.SCORER_DIED, FailureCode.SCORER_MEMORY)


def is_deadly(said: Said) -> bool:
    """Say whether the call never came back: it hung, died or ran out of memory."""
    return isinstance(said.result, Failure) and said.result.code in _DEADLY


def _said(result: Score | Failure) -> Said | None:
    """Undo what instrument.py wraps around a result; None for a call that was skipped."""
    if isinstance(result, Failure):
        return Said(result)
    details, extra = result.details, result.details.extra
    if extra is None:
        return Said(result)
    if details.code == instrument.SKIPPED:
        return None
    if details.code == instrument.FAILED:
        return Said(Failure(FailureCode.SCORER_INVALID_RESULT, extra["message"]), tuple(extra["seen"]))
    if "audit_seen" not in extra:
        return Said(result)
    rest = {key: value for key, value in extra.items() if key != "audit_seen"} or None
    plain = Details(details.code, details.outcome, details.parsed, details.message, rest)
    return Said(Score(result.reward, plain), tuple(extra["audit_seen"]))
