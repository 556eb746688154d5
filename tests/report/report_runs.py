"""Runs to report: small, and as hostile as a completion can be."""

from __future__ import annotations

import json
from pathlib import Path

from lockedroom.loops.configuration import EvaluateConfig
from lockedroom.loops.evaluate import evaluate

HOSTILE = (
    "<script>window.owned = 1</script>",
    "<img src=x onerror='window.owned = 2'>",
    "</script><script>window.owned = 3</script>",
    "<!--<script>",
    "javascript:window.owned=4",
    "<style>body{display:none}</style>",
    "</style><svg/onload=window.owned=5>",
    '" onmouseover="window.owned=6',
    "{{ 7 * 7 }}{% raw %}",
    "\u202e\u200b\x00\x1b[31m\u2028",
    "\ud800",
    "Final: 1",
)


def write_run(folder: Path, name: str, completions: list[str], *, expected: int = 1) -> Path:
    """Evaluate these completions, one example each, and return the run."""
    dataset, recorded = folder / "examples.jsonl", folder / f"{name}.jsonl"
    rows = [
        {"id": f"e{i}<b>", "prompt": f"<i>prompt</i> {i}", "expected_answer": expected} for i in range(len(completions))
    ]
    dataset.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recorded.write_text(
        "".join(
            json.dumps({"id": row["id"], "completion": text}) + "\n"
            for row, text in zip(rows, completions, strict=True)
        )
    )
    declared = ("sampling.temperature=0", "sampling.top_k=0", "sampling.top_p=1", "sampling.max_tokens=9",
                "sampling.stop=[]", 'sampling.seed_scheme="none"', 'prompts.template="{prompt}"', f'policy.model="{name}"')  # fmt: skip
    run = folder / name
    evaluate(EvaluateConfig(dataset=str(dataset), completions=str(recorded), declare=declared), run)
    return run
