"""Hugging Face sampling: tokens a second against `model.generate` on the same model and batch.

    python bench/run.py huggingface

The peer runs in a process of its own (`peer_hf_generate.py`), where both take turns on one thread.
"""

from __future__ import annotations

import json
import statistics
import sys
from typing import Any

from measure import DATA, HERE, Figure, run

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def figures(*, quick: bool) -> list[Figure]:
    out = DATA / "hf-generate.json"
    run((sys.executable, str(HERE / "peer_hf_generate.py"), "2" if quick else "7"), stdout=out, environment=ONE_THREAD)
    return [_tokens(workload) for workload in json.loads(out.read_bytes())]


def _tokens(workload: dict[str, Any]) -> Figure:
    speeds = {name: [tokens / s for tokens, s in rounds] for name, rounds in workload["rounds"].items()}
    ours, theirs = (statistics.median(speeds[name]) for name in ("ours", "generate"))
    ratio = statistics.median(a / b for a, b in zip(speeds["ours"], speeds["generate"], strict=True))
    return Figure(
        "huggingface",
        f"{workload['prompts']} prompts × {workload['draws']}, batch {workload['batch']}, {workload['max_tokens']} tokens "
        f"each, width {workload['width']}, {workload['vocabulary']:,} tokens to choose from: against generate (transformers {workload['transformers']})",
        f"{ours:,.0f} tokens/CPU-s",
        f"{theirs:,.0f} tokens/CPU-s",
        f"{ratio:.2f}×",
        "≥ 1.00×",
        ratio >= 1,
    )
