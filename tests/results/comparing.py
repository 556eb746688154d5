"""Small runs to compare: every example expects 7, so that `RIGHT` passes final-int and `WRONG` does not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.loops.evaluate import evaluate
from lockedroom.loops.evaluating.configuration import EvaluateConfig
from lockedroom.results.evaluation.inspection import read_summary
from lockedroom.results.evaluation.rendering import render_summary
from lockedroom.safeguards import manifest as manifests

RIGHT, WRONG, SHAPELESS = "Final: 7", "Final: 8", "seven"
DECLARED = (
    "prompts.template=the prompt alone",
    "sampling.temperature=0.8",
    "sampling.top_k=0",
    "sampling.top_p=1.0",
    "sampling.max_tokens=16",
    "sampling.stop=[]",
    "sampling.seed_scheme=engine",
)


def make_run(
    folder: Path,
    name: str,
    completions: Sequence[str | Sequence[str] | None],
    *,
    declare: Sequence[str] = DECLARED,
    **config: Any,
) -> Path:
    """Evaluate one example per entry: a completion, several draws, or None for a missing one."""
    dataset = folder / "seven.jsonl"
    if "dataset" not in config:
        rows = [{"id": f"ex-{i:04d}", "prompt": "3+4?", "expected_answer": 7} for i in range(len(completions))]
        dataset.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [
        {"id": f"ex-{i:04d}", **({"completion": drawn} if isinstance(drawn, str) else {"samples": list(drawn)})}
        for i, drawn in enumerate(completions)
        if drawn is not None
    ]
    path = folder / f"{name}.completions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = {
        "dataset": str(dataset),
        "completions": str(path),
        "declare": (*declare, f"policy.model={name}"),
        **config,
    }
    return evaluate(EvaluateConfig(**settings), folder / name).path


def table(both: int, a_only: int, b_only: int, neither: int) -> tuple[list[str], list[str]]:
    """The completions of A and B for so many examples of each kind."""
    a = [RIGHT] * both + [RIGHT] * a_only + [WRONG] * b_only + [WRONG] * neither
    b = [RIGHT] * both + [WRONG] * a_only + [RIGHT] * b_only + [WRONG] * neither
    return a, b


def reseal(run: Path, **changes: Any) -> Path:
    """Change the manifest as another tool would have written it: its text in summary.md, hashes and all."""
    manifest = msgspec.structs.replace(manifests.read_manifest(run), **changes)
    (run / "summary.md").write_text(render_summary(read_summary(run), manifest))
    files = {**manifest.files, "summary.md": manifests.measure_file(run / "summary.md")}
    manifest = msgspec.structs.replace(manifest, files=files)
    (run / manifests.SUMS_NAME).write_bytes(manifests.checksum_lines(manifest))
    (run / manifests.NAME).write_bytes(manifests.encode_manifest(manifest))
    return run


def same_policy(run: Path, other: Path, **changes: Any) -> Path:
    """Make `run` say that its policy and completions are those of `other`."""
    two = manifests.read_manifest(other)
    return reseal(run, **{"policy": two.policy, "inputs": two.inputs, **changes})
