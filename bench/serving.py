"""Server policies: throughput beside a bare loop of httpx, and a long run against a server that keeps failing.

    python bench/serving.py [throughput|faults]

The server is the testkit's, in a process of its own. Throughput: 32 requests in flight, each answered after LATENCY_S;
the server's own limit is then 32 / LATENCY_S requests a second. Ratios come from rounds that take turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import httpx

from lockedroom.jsonl import read_batches
from lockedroom.loops.configuration import EvaluateConfig
from lockedroom.loops.evaluate import evaluate
from lockedroom.policy.backend import Backend
from lockedroom.records import Failure, Record, Sampling
from lockedroom.results.verify import verify
from lockedroom.testkit.openai_server import MODEL, Answering, OpenAIServer, completing, faulty
from lockedroom.testkit.small_run import write_additions

IN_FLIGHT = 32
LATENCY_S = 1.0
REQUESTS = 1600
ROUNDS = 3
FAULTY_REQUESTS = 10_000
SAMPLING = Sampling(max_tokens=16)


def write(prompt: str, _seed: int, _choice: int) -> str:
    return f"Final: {int(prompt.split()[2]) + 1}"


def steady() -> Answering:
    return completing(write, latency_s=LATENCY_S)


def failing() -> Answering:
    return faulty(completing(write, latency_s=0.02), slow=0.01, slow_s=2.0)


def _serve(make: Callable[[], Answering], wire: Connection) -> None:
    with OpenAIServer(make()) as server:
        wire.send(server.url)
        wire.recv()
        asked = Counter(request.prompt for request in server.completions())
        wire.send((len(server.requests), server.answered, len(asked)))


@contextlib.contextmanager
def serving(make: Callable[[], Answering]) -> Iterator[tuple[str, Connection]]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(make, there))
    process.start()
    try:
        yield here.recv(), here
    finally:
        here.send("stop")
        process.join()


def bare(url: str, count: int) -> None:
    """The least that a client can do: a pool, a semaphore, and one request a prompt."""

    async def run() -> None:
        slots = asyncio.Semaphore(IN_FLIGHT)
        limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:

            async def one(i: int) -> None:
                body = {"model": MODEL, "prompt": f"What is {i} + 1?", "seed": i, "max_tokens": 16, "logprobs": 0}
                async with slots:
                    reply = await client.post(f"{url}/completions", json=body)
                assert reply.json()["choices"][0]["text"]

            await asyncio.gather(*(one(i) for i in range(count)))

    asyncio.run(run())


def measured(url: str, dataset: Path, out: Path) -> None:
    evaluate(
        EvaluateConfig(
            dataset=str(dataset), policy=f"{url}#{MODEL}", sampling=SAMPLING, backend=Backend(concurrency=IN_FLIGHT)
        ),
        out,
    )


def throughput() -> None:
    limit = IN_FLIGHT / LATENCY_S
    rates: dict[str, list[float]] = {"bare httpx loop": [], "lockedroom evaluate": []}
    costs: dict[str, list[float]] = {name: [] for name in rates}
    with tempfile.TemporaryDirectory() as folder, serving(steady) as (url, _):
        dataset = write_additions(Path(folder), REQUESTS)
        measured(url, write_additions(Path(folder), IN_FLIGHT, "warm.jsonl"), Path(folder) / "warm")
        for turn in range(ROUNDS):
            out = Path(folder) / f"run{turn}"
            for name, found in rates.items():
                began, cpu = time.monotonic(), time.process_time()
                if name == "bare httpx loop":
                    bare(url, REQUESTS)
                else:
                    measured(url, dataset, out)
                found.append(REQUESTS / (time.monotonic() - began))
                costs[name].append((time.process_time() - cpu) / REQUESTS * 1000)
    print(
        f"{IN_FLIGHT} in flight, {LATENCY_S} s each, {REQUESTS} requests: the server's own limit is {limit:.0f} a second"
    )
    for name, found in rates.items():
        rate = statistics.median(found)
        print(
            f"{name:20} {rate:6.1f} a second, {rate / limit:.1%} of the limit, {statistics.median(costs[name]):.2f} CPU-ms each"
        )
    ratios = [ours / theirs for theirs, ours in zip(*rates.values(), strict=True)]
    print(
        f"lockedroom / bare: {statistics.median(ratios):.3f} (rounds: {', '.join(f'{ratio:.3f}' for ratio in ratios)})"
    )


def faults() -> None:
    with tempfile.TemporaryDirectory() as folder, serving(failing) as (url, wire):
        dataset, out = write_additions(Path(folder), FAULTY_REQUESTS), Path(folder) / "run"
        began, cpu = time.monotonic(), time.process_time()
        measured(url, dataset, out)
        print(f"{time.monotonic() - began:.0f} s, {time.process_time() - cpu:.0f} CPU-s")
        verify(out)
        rows = [row for batch in read_batches(out / "records.jsonl", Record) for row in batch.rows]
        failures = sum(isinstance(row.result, Failure) for row in rows)
        print(f"{len(rows)} records, {len({row.id for row in rows})} ids, {failures} failures, the rest drawn")
        print((out / "usage.json").read_text())
        wire.send("stop")
        print("server: {} requests, {} answers sent, {} prompts asked".format(*wire.recv()))
    print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else "all"
    if chosen in ("throughput", "all"):
        throughput()
    if chosen in ("faults", "all"):
        faults()
