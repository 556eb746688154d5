"""One loop over recorded completions with a person's scorer, in process or isolated.

`python bench/isolation_loop.py in-process|isolated DATASET COMPLETIONS`: reads, judges with `attempt` and encodes the
records, in the same chunks both ways; only where the person's function runs differs.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import msgspec
import person

from lockedroom.dataset.load import read_examples
from lockedroom.jsonl import encode_lines
from lockedroom.loops.attempt import attempt
from lockedroom.policy.declared import read_declared
from lockedroom.policy.recorded import RecordedPolicy
from lockedroom.protocols import Scorer
from lockedroom.records import Example, Sampling, ScorerSpec
from lockedroom.scorer.custom import IsolatedScorer


class InProcess(msgspec.Struct, frozen=True):
    """The person's function as a plain scorer, as it would run without isolation."""

    spec: ScorerSpec = ScorerSpec("person.py:score", 0)

    def accepts(self, expected_answer: Any) -> bool:  # noqa: ARG002  (takes every answer)
        return True

    def score(self, example: Example, completion: str) -> Any:
        return person.score(example, completion)


def main(mode: str, dataset: str, completions: str) -> None:
    policy = RecordedPolicy(Path(completions), read_declared(Path(completions), ()))
    with contextlib.ExitStack() as stack:
        scorer: Scorer = InProcess()
        if mode == "isolated":
            scorer = stack.enter_context(IsolatedScorer(f"{person.__file__}:score"))
        written = 0
        for examples in read_examples(Path(dataset)):
            written += len(encode_lines(attempt(policy, scorer, examples, range(1), Sampling())))
    print(written)


if __name__ == "__main__":
    main(*sys.argv[1:])
