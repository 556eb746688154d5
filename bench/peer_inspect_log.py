"""Make the finished Inspect AI log that `inspect score` then scores again; a solver sets the recorded outputs.

Run by the environment of the bench: `bench/.venv-peers/bin/python bench/peer_inspect_log.py DATASET COMPLETIONS LOGS`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

# these live in the bench's own environment
from inspect_ai import Task, eval  # type: ignore[import-not-found]  # noqa: A004  (their name)
from inspect_ai.dataset import MemoryDataset, Sample  # type: ignore[import-not-found]
from inspect_ai.model import ModelOutput  # type: ignore[import-not-found]
from inspect_ai.scorer import match  # type: ignore[import-not-found]
from inspect_ai.solver import solver  # type: ignore[import-not-found]


def replay() -> Callable[[Any, Any], Awaitable[Any]]:
    async def solve(state: Any, generate: Any) -> Any:  # noqa: ARG001  (the signature of a solver)
        state.output = ModelOutput.from_content("recorded", state.metadata["completion"])
        return state

    return solve


def main(dataset: str, completions: str, logs: str) -> None:
    samples = []
    with open(dataset, encoding="utf-8") as examples, open(completions, encoding="utf-8") as drawn:
        for line, row in zip(examples, drawn, strict=True):
            example = json.loads(line)
            samples.append(
                Sample(
                    input=example["prompt"],
                    target=str(example["expected_answer"]),
                    id=example["id"],
                    metadata={"completion": json.loads(row)["completion"]},
                )
            )
    task = Task(dataset=MemoryDataset(samples), solver=solver(replay)(), scorer=match(), name="recorded")
    log = eval(task, model="mockllm/model", log_dir=logs, display="none")[0]
    assert log.status == "success", log.error


if __name__ == "__main__":
    main(*sys.argv[1:])
