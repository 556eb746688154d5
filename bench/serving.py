"""Server policies: throughput beside bare loops of sockets and of httpx, and a long run against a server that keeps failing.

    python bench/serving.py [throughput|faults] [--latency SECONDS] [--requests N]

The server is the testkit's, in a process of its own. Throughput: 32 requests in flight, each answered after the latency;
the server's own limit is then 32 / latency requests a second, and what sockets alone reach is the limit of both processes
on this machine at this hour. Rates count from start to end of a run. Ratios come from rounds that take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import itertools
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import httpx
import msgspec

from lockedroom.jsonl import read_batches
from lockedroom.loops.evaluate import evaluate
from lockedroom.loops.evaluating.configuration import EvaluateConfig
from lockedroom.policy.backend import Backend
from lockedroom.policy.openai_http import open_server
from lockedroom.records import Failure, Record, Sampling
from lockedroom.results.verify import verify
from lockedroom.testkit.openai_server import MODEL, Answering, OpenAIServer, completing, faulty
from lockedroom.testkit.small_run import additions, write_additions

IN_FLIGHT = 32
ROUNDS = 3
FAULTY_REQUESTS = 10_000
SAMPLING = Sampling(max_tokens=16)
SOCKETS, HTTPX = "sockets alone", "bare httpx loop"
# The policy once it is open, and a whole run: opening (one request), records, summary, manifest.
POLICY, RUN = "policy.complete", "lockedroom evaluate"


def write(prompt: str, _seed: int, _choice: int) -> str:
    return f"Final: {int(prompt.split()[2]) + 1}"


def steady(latency_s: float) -> Answering:
    return completing(write, latency_s=latency_s)


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


def body_of(i: int) -> dict[str, object]:
    return {"model": MODEL, "prompt": f"What is {i} + 1?", "seed": i, "max_tokens": 16, "logprobs": 0}


def sockets(url: str, count: int) -> None:
    """The least that any client can do: 32 sockets, a request written, an answer of known length read."""
    port = int(url.split(":")[2].split("/", maxsplit=1)[0])
    numbers = iter(range(count))

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for i in numbers:
            content = msgspec.json.encode(body_of(i))
            head = f"POST /v1/completions HTTP/1.1\r\nHost: here\r\nContent-Length: {len(content)}\r\n\r\n"
            writer.write(head.encode() + content)
            given = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(given.partition("content-length:")[2].partition("\r")[0])
            assert msgspec.json.decode(await reader.readexactly(length))["choices"][0]["text"]
        writer.close()

    async def run() -> None:
        await asyncio.gather(*(one() for _ in range(IN_FLIGHT)))

    asyncio.run(run())


def bare(url: str, count: int) -> None:
    """What one writes with httpx: a pool, a semaphore, and one request a prompt."""

    async def run() -> None:
        slots = asyncio.Semaphore(IN_FLIGHT)
        limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:

            async def one(i: int) -> None:
                async with slots:
                    reply = await client.post(f"{url}/completions", json=body_of(i))
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


def throughput(latency_s: float, requests: int) -> None:
    limit = IN_FLIGHT / latency_s
    rates: dict[str, list[float]] = {name: [] for name in (SOCKETS, HTTPX, POLICY, RUN)}
    costs: dict[str, list[float]] = {name: [] for name in rates}
    with tempfile.TemporaryDirectory() as folder, serving(functools.partial(steady, latency_s)) as (url, _):
        dataset = write_additions(Path(folder), requests)
        measured(url, write_additions(Path(folder), IN_FLIGHT, "warm.jsonl"), Path(folder) / "warm")
        for turn in range(ROUNDS):
            out = Path(folder) / f"run{turn}"
            for name, found in rates.items():
                policy = open_server(f"{url}#{MODEL}", Backend(concurrency=IN_FLIGHT))
                began, cpu = time.monotonic(), time.process_time()
                if name == SOCKETS:
                    sockets(url, requests)
                elif name == HTTPX:
                    bare(url, requests)
                elif name == POLICY:
                    assert len(list(policy.complete(additions(requests), range(1), SAMPLING))) == requests
                else:
                    measured(url, dataset, out)
                found.append(requests / (time.monotonic() - began))
                costs[name].append((time.process_time() - cpu) / requests * 1000)
    print(
        f"{IN_FLIGHT} in flight, {latency_s:g} s each, {requests} requests: the server's own limit is {limit:.0f} a second"
    )
    for name, found in rates.items():
        rate, cost = statistics.median(found), statistics.median(costs[name])
        print(f"{name:20} {rate:6.1f} a second, {rate / limit:.1%} of the limit, {cost:.2f} CPU-ms each")
    for ours, theirs in itertools.product((POLICY, RUN), (SOCKETS, HTTPX)):
        ratios = [mine / its for mine, its in zip(rates[ours], rates[theirs], strict=True)]
        rounds = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"{ours} / {theirs}: {statistics.median(ratios):.3f} (rounds: {rounds})")


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
    parser = argparse.ArgumentParser()
    parser.add_argument("part", nargs="?", choices=("throughput", "faults", "all"), default="all")
    parser.add_argument("--latency", type=float, default=1.0)
    parser.add_argument("--requests", type=int, default=1600)
    chosen = parser.parse_args()
    if chosen.part != "faults":
        throughput(chosen.latency, chosen.requests)
    if chosen.part != "throughput":
        faults()
