"""The fake that ships: a policy whose completions are written down beforehand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from lockedroom.jsonl import encode_lines
from lockedroom.protocols import Prompt
from lockedroom.records import Completion, Failure, FailureCode, PolicySpec, Sampling

Script = Mapping[str, Sequence[str | Completion | Failure]] | Callable[[Prompt, int], str | Completion | Failure]


class ScriptedPolicy:
    """Answers from a mapping `example id -> completions`, or from a function `(prompt, draw) -> completion`.

    A draw that the script does not hold is a Failure(MISSING_COMPLETION), as it would be for a recorded file.
    """

    def __init__(self, script: Script, name: str = "scripted") -> None:
        self._script = script
        identity = {} if callable(script) else {"script_sha256": _sha256(script)}
        self.spec = PolicySpec(name=name, kind="scripted", identity=identity)

    def complete(
        self,
        prompts: Sequence[Prompt],
        draws: range,
        sampling: Sampling,  # noqa: ARG002  (the script decides)
    ) -> Iterator[Completion | Failure]:
        for prompt in prompts:
            for draw in draws:
                answer = self._answer(prompt, draw)
                yield Completion(answer) if isinstance(answer, str) else answer

    def _answer(self, prompt: Prompt, draw: int) -> str | Completion | Failure:
        if callable(self._script):
            return self._script(prompt, draw)
        answers = self._script.get(prompt.id, ())
        if draw < len(answers):
            return answers[draw]
        return Failure(FailureCode.MISSING_COMPLETION, f"the script holds no draw {draw} for this example")


def _sha256(script: Mapping[str, Sequence[str | Completion | Failure]]) -> str:
    return hashlib.sha256(encode_lines([[key, list(script[key])] for key in sorted(script)])).hexdigest()
