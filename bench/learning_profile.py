"""Where a learning step's time goes: `python bench/learning_profile.py STEPS`, on one thread. Prints JSON.

Seconds of drawing, judging, the reference and the update; of the update's and the reference's passes, the share inside
matrix products and fused attention; and their speed against this machine's measured peak of a large float32 product.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from lockedroom.dataset.load import read_examples
from lockedroom.learning.estimator import PRESETS
from lockedroom.loops.attempt import judge
from lockedroom.loops.learning.update import Learner, LearnerSettings
from lockedroom.policy.tiny import DATA_FOLDER, load_tiny
from lockedroom.records import Sampling
from lockedroom.scorer.builtin import BUILTIN

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::_scaled_dot_product")
PEAK_SIZE, PEAK_ROUNDS = 1024, 20


def main(steps: int) -> None:
    torch.set_num_threads(1)
    train = [one for batch in read_examples(DATA_FOLDER / "train.jsonl") for one in batch]
    policy = load_tiny("tiny", threads=1)
    scorer = BUILTIN["final-int"]()
    learner = Learner(
        policy, policy.frozen_copy(), lambda examples, drawn: judge(scorer, examples, drawn), PRESETS["rloo"],
        settings=LearnerSettings(), sampling=Sampling(max_tokens=24),
    )  # fmt: skip
    for step in range(5):
        learner.step(train[:64], step)
    draws = [learner.draw(train[64 * i : 64 * i + 64], i) for i in range(1, steps + 1)]
    with FlopCounterMode(display=False) as counter:
        learner.update(draws[0], 0)
    with profile(activities=[ProfilerActivity.CPU]) as traced:
        began = time.process_time()
        timings = [learner.update(draw, i).timing for i, draw in enumerate(draws)]
        seconds = time.process_time() - began
    events = traced.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    products = sum(event.self_cpu_time_total for event in events if event.key.startswith(PRODUCTS))
    share, gflops = products / total, counter.get_total_flops() * steps / seconds / 1e9
    spent = {
        "draw": sum(draw.seconds[0] for draw in draws),
        "judge": sum(draw.seconds[1] for draw in draws),
        "reference": sum(one.reference for one in timings),
        "update": sum(one.update for one in timings),
    }
    print(json.dumps({
        "seconds_a_step": {name: value / steps for name, value in spent.items()},
        "share_in_products": share,
        "gflops": gflops,  # of CPU time, like the peak: the trace's own times are wall times, which others stretch
        "gflops_in_products": gflops / share,
        "gflops_peak": _peak(),
    }))  # fmt: skip


def _peak() -> float:
    a, b = (torch.randn(PEAK_SIZE, PEAK_SIZE) for _ in range(2))
    best = 0.0
    for _ in range(PEAK_ROUNDS):
        began = time.process_time()
        torch.mm(a, b)
        best = max(best, 2 * PEAK_SIZE**3 / (time.process_time() - began) / 1e9)
    return best


if __name__ == "__main__":
    main(int(sys.argv[1]))
