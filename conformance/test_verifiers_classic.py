"""The classic verifiers (0.1): our reward in a rubric, and the results that it saves, in."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import verifiers as vf
from exported_cases import cases, expected, exported
from verifiers.types import RolloutTiming, State
from verifiers.utils.save_utils import save_outputs, states_to_outputs

from lockedroom.adapters.importing import import_log
from lockedroom.jsonl import read_batches
from lockedroom.records import Record

CRASHING = """
def score(example, completion):
    if "crash" in completion:
        raise RuntimeError("no verdict")
    return {"reward": float(completion == str(example.expected_answer)), "details": {}}
"""


def _states(module: Any, rows: list[tuple[str, Any, str]]) -> list[State]:
    rubric = vf.Rubric(funcs=[module.verified])
    states = []
    for i, (prompt, answer, text) in enumerate(rows):
        state = State(input={"prompt": [{"role": "user", "content": prompt}], "answer": answer, "example_id": i})
        state["completion"] = [{"role": "assistant", "content": text}]
        state["timing"] = RolloutTiming()
        state["trajectory"] = []
        states.append(state)

    async def score() -> None:
        for state in states:
            await rubric.score_rollout(state)

    asyncio.run(score())
    return states


def test_a_classic_rubric_gives_our_verdict_and_its_results_come_in_with_it(tmp_path: Path) -> None:
    asked = cases()
    rows = [(example.prompt, str(example.expected_answer), text) for example, text in asked]

    states = _states(exported(tmp_path, "verifiers"), rows)
    save_outputs(states_to_outputs(states), tmp_path / "run")
    done = import_log(tmp_path / "run", "verifiers", tmp_path / "in")

    assert [state["reward"] for state in states] == expected(asked)
    kept = [row for batch in read_batches(tmp_path / "in/completions.jsonl", Record) for row in batch.rows]
    assert [row.completion.text for row in kept] == [text for _, text in asked]
    assert [row.result.reward for row in kept] == expected(asked)
    assert done.without_score == 0


def test_what_cannot_be_judged_is_nan_there_and_a_failure_here(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CRASHING)
    module = exported(tmp_path, "verifiers", str(tmp_path / "mine.py"))

    states = _states(module, [("?", 4, "4"), ("?", 5, "crash"), ("?", 6, "5")])
    save_outputs(states_to_outputs(states), tmp_path / "run")
    done = import_log(tmp_path / "run", "verifiers", tmp_path / "in")

    assert states[0]["reward"] == 1.0
    assert math.isnan(states[1]["reward"])
    assert (done.attempts, done.without_score, done.theirs) == (3, 1, 0.5)
    module.SCORER.close()
