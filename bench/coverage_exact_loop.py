"""Repeats of Loop A on the embedded model with seeds 0, 1, 2 …, each sampled interval held against the exact pass rate.

`python bench/coverage_exact_loop.py EXAMPLES DRAWS REPEATS CONFIDENCE FOLDER`. The exact probabilities do not depend on
the seed, so they are taken from the first run. Prints how many intervals cover, and the binomial interval of that count.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import msgspec

from lockedroom.loops.evaluate import evaluate
from lockedroom.loops.evaluating.configuration import EvaluateConfig
from lockedroom.policy.tiny import DATA_FOLDER
from lockedroom.records import Sampling
from lockedroom.results.evaluation.exact import EXACT_JSONL, ExactExample, sampled_beside, sum_up
from lockedroom.stats.intervals import clopper_pearson


def main(examples: int, draws: int, repeats: int, confidence: float, folder: Path) -> None:
    rows: list[ExactExample] = []
    estimates: list[float] = []
    covered = 0
    for seed in range(repeats):
        shutil.rmtree(folder, ignore_errors=True)
        config = EvaluateConfig(
            dataset=str(DATA_FOLDER / "dev.jsonl"),
            policy="tiny",
            draws=draws,
            limit=examples,
            confidence=confidence,
            exact=seed == 0,
            sampling=Sampling(seed=seed),
        )
        done = evaluate(config, folder)
        if seed == 0:
            lines = (folder / EXACT_JSONL).read_bytes().splitlines()
            rows = [msgspec.json.decode(line, type=ExactExample) for line in lines]
            assert len(rows) == examples
        beside = sum_up(rows, sampled_beside(done.summary), draws, confidence).sampled
        assert beside is not None, "some attempts could not be judged"
        estimates.append(beside.value)
        covered += beside.covers
    shutil.rmtree(folder)
    assert len(set(estimates)) > repeats // 4, "the seed changes nothing"
    binomial = clopper_pearson(covered, repeats)
    print(json.dumps({"covered": covered, "low": binomial.low, "high": binomial.high, "estimates": estimates}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), Path(sys.argv[5]))
