"""What an exported scorer file calls: the scorer, checked to be the one that was exported, behind one lock.

A trainer may call from several threads and fork its processes; a person's scorer runs in a process of its own. So the
scorer is opened once a process, on first use, and one call is served at a time.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from typing import Any

import msgspec

from lockedroom.errors import BadInput
from lockedroom.jsonl import encode_lines
from lockedroom.loops.attempt import judge
from lockedroom.loops.opening.named import UNAVAILABLE, identify, open_scorer
from lockedroom.protocols import BatchScorer, Scorer
from lockedroom.records import Completion, Example, Failure, FailureCode, Score
from lockedroom.safeguards.room import ScorerIdentity
from lockedroom.visible import visible
from lockedroom.wording import counted

NO_TEXT = Failure(FailureCode.MISSING_COMPLETION, "the completion holds no text of an assistant")


class CouldNotJudge(RuntimeError):
    """Raised where a target cannot say "not judged" in any other way: a run that stops beats a wrong reward."""


class Identity(msgspec.Struct, frozen=True):
    """A scorer by the name it is opened with, and what it was when it was exported."""

    target: str
    scorer: ScorerIdentity


class ExportedScorer:
    """The scorer of one exported file. Raises BadInput when it is not the one that was exported."""

    def __init__(self, identity: Identity, *, timeout_s: float = 5.0, memory_mb: int = 512) -> None:
        self.identity = identity
        self._timeout_s, self._memory_mb = timeout_s, memory_mb
        with self._opening() as scorer:
            refuse_changed(identity, identify(scorer))
        self._scorer: Scorer | None = None
        self._held = contextlib.ExitStack()
        self._owner = 0
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._forget)

    def judge(
        self,
        completions: Sequence[Any],
        answers: Sequence[Any],
        prompts: Sequence[Any] | None = None,
        ids: Sequence[str] | None = None,
    ) -> list[Score | Failure]:
        """Return one Score or Failure per completion, in order.

        A completion is a text, or a list of chat messages, of which the text of the last assistant message is judged. An answer that
        the scorer cannot judge is a Failure.
        """
        if len(completions) != len(answers):
            raise BadInput(
                f"{counted(len(completions), 'completion')} came with {counted(len(answers), 'expected answer')}; give one for each"
            )
        examples = [
            Example(
                id=str(i) if ids is None else ids[i],
                prompt="" if prompts is None else prompt_text(plain(prompts[i])),
                expected_answer=plain(answer),
            )
            for i, answer in enumerate(answers)
        ]
        texts = [completion_text(plain(completion)) for completion in completions]
        with self._lock:
            scorer = self._opened()
            refused = _refused(scorer, [example.expected_answer for example in examples])
            asked = [refused.get(i) or (NO_TEXT if text is None else Completion(text)) for i, text in enumerate(texts)]
            return judge(scorer, examples, asked)

    def close(self) -> None:
        """Stop a person's scorer; the next call starts it again."""
        with self._lock:
            self._held.close()
            self._scorer = None

    def _opening(self) -> contextlib.AbstractContextManager[Scorer]:
        return open_scorer(self.identity.target, timeout_s=self._timeout_s, memory_mb=self._memory_mb)

    def _opened(self) -> Scorer:
        if self._scorer is None:
            self._scorer = self._held.enter_context(self._opening())
            refuse_changed(self.identity, identify(self._scorer))
        return self._scorer

    def _forget(self) -> None:
        """In a forked child: the parent keeps its scorer's process, the child starts its own."""
        self._scorer, self._held, self._lock = None, contextlib.ExitStack(), threading.Lock()


def refuse_changed(exported: Identity, found: ScorerIdentity) -> None:
    """Raise BadInput, naming what differs, when a scorer is not the one that was exported."""
    was, now = msgspec.structs.asdict(exported.scorer), msgspec.structs.asdict(found)
    if UNAVAILABLE in (was["fingerprint"], now["fingerprint"]):  # too slow for the battery here or there
        was.pop("fingerprint")
    differing = [f"{name}: exported {was[name]!r}, found {now[name]!r}" for name in was if was[name] != now[name]]
    if differing:
        raise BadInput(
            f"scorer {exported.target}: not the scorer that was exported ({'; '.join(differing)}); "
            "export it again, and do not compare rewards from before with rewards from now"
        )


def completion_text(completion: Any) -> str | None:
    """Return a completion as one text, as it was written: nothing is stripped. None when there is none."""
    if isinstance(completion, str):
        return completion
    if not isinstance(completion, Sequence):
        return None
    said = [message for message in completion if _role(message) == "assistant"]
    return _content(said[-1]) if said else None


def last_reply(said: Sequence[str | None], root_reply: str | None) -> str | None:
    """Return what the model said last in a verifiers trace; where branches hang on it, what its root agent said.

    verifiers strips `root_reply`, so the text that it was stripped from is preferred.
    """
    if root_reply is None:
        return said[-1] if said else None
    whole = [text for text in said if text is not None and text.strip() == root_reply]
    return whole[-1] if whole else root_reply


def prompt_text(prompt: Any) -> str:
    """Return a prompt as one text: of chat messages, that of the last user message."""
    if isinstance(prompt, str):
        return prompt
    asked = [message for message in prompt or () if _role(message) == "user"]
    return (_content(asked[-1]) or "") if asked else ""


def plain(value: Any) -> Any:
    """Return a value as plain Python: trainers hand out scalars, arrays and tensors, all of which have `tolist`."""
    return value.tolist() if callable(getattr(value, "tolist", None)) else value


def answer_text(answer: Any) -> str:
    """Return an answer as text, for a log whose columns have one type: text as it is, anything else as JSON."""
    return answer if isinstance(answer, str) else encode_lines([answer]).decode().rstrip("\n")


def reason(failure: Failure) -> str:
    """Say in one printable line why a completion could not be judged."""
    return visible(f"lockedroom could not judge this completion: {failure.code.value}: {failure.message}", 400)


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


def _content(message: dict[str, Any]) -> str | None:
    """Return the text of a message; of a list of parts, the texts joined."""
    content = message.get("content")
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        parts = [part.get("text") for part in content]
        return "".join(parts) if parts and all(isinstance(part, str) for part in parts) else None
    return content if isinstance(content, str) else None


def _refused(scorer: Scorer, answers: Sequence[Any]) -> dict[int, Failure]:
    """Return a Failure for every position whose answer the scorer cannot judge: such a row has no verdict."""
    if isinstance(scorer, BatchScorer):
        found, start = [], 0
        while (index := scorer.first_refused(answers[start:])) is not None:
            found.append(start + index)
            start += index + 1
    else:
        found = [i for i, answer in enumerate(answers) if not scorer.accepts(answer)]
    what = f"{scorer.spec.name} cannot judge the expected answer"
    return {
        i: Failure(FailureCode.SCORER_INVALID_RESULT, f"{what} {visible(repr(answers[i])[:200], 60)}") for i in found
    }
