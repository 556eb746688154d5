"""One process against two Ray nodes of one CPU each on this machine, in turn: the same bytes, and what Ray costs.

    pip install 'lockedroom[ray]' && python bench/ray_scale.py [--records 1000000] [--rounds 1] [--scorer FILE.py:function]

Not part of `bench/run.py`, since ray is not part of the set-up. Times are wall seconds of the run alone: a cluster of many
runs is started once. The two nodes share this machine's cores with the process that reads and writes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import time
from pathlib import Path

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import data
import ray  # type: ignore[import-not-found,unused-ignore]  # not in the main environment
from measure import DATA
from ray.cluster_utils import Cluster  # type: ignore[import-not-found,unused-ignore]

from lockedroom import EvaluateConfig, evaluate
from lockedroom.adapters.ray import open_engine
from lockedroom.loops.opening.engine import Engine

SAME = ("records.jsonl", "examples.jsonl", "summary.json", "config.toml")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--scorer", default="final-int")
    asked = parser.parse_args()
    dataset, completions = data.recorded(asked.records)
    config = EvaluateConfig(dataset=str(dataset), completions=str(completions), scorer=asked.scorer)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    with open_engine(f"ray:{cluster.address}") as engine:
        print(f"{len(ray.nodes())} nodes, {engine.workers} CPUs, ray {ray.__version__}, {os.cpu_count()} cores")
        ratios = [_round(config, engine) for _ in range(asked.rounds)]
    cluster.shutdown()
    print(f"median ratio of wall times, Ray to one process: {statistics.median(ratios):.2f}")


def _round(config: EvaluateConfig, engine: Engine) -> float:
    """Return the wall time on Ray as a multiple of that in one process."""
    one, two = DATA / "ray-one", DATA / "ray-two"
    (wall_one, cpu_one), (wall_two, cpu_two) = _timed(config, one, None), _timed(config, two, engine)
    for name in SAME:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    records = (one / "records.jsonl").read_bytes().count(b"\n")
    print(f"{records:,} records; {', '.join(SAME)} identical")
    print(f"  one process: {wall_one:.2f} s, {cpu_one:.2f} CPU-s")
    print(f"  Ray: {wall_two:.2f} s, of which the process that reads and writes: {cpu_two:.2f} CPU-s")
    for folder in (one, two):
        shutil.rmtree(folder)
    return wall_two / wall_one


def _timed(config: EvaluateConfig, out: Path, engine: Engine | None) -> tuple[float, float]:
    """Return the wall and CPU seconds of this process."""
    shutil.rmtree(out, ignore_errors=True)
    began, cpu = time.monotonic(), time.process_time()
    evaluate(config, out, engine=engine)
    return time.monotonic() - began, time.process_time() - cpu


if __name__ == "__main__":
    main()
