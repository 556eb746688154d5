"""Runs behind a server: their accounts, and `kill -9` at any moment without paying twice for what had come back."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from lockedroom.errors import BadInput
from lockedroom.jsonl import read_batches
from lockedroom.loops.evaluate import evaluate
from lockedroom.loops.evaluating.configuration import EvaluateConfig
from lockedroom.loops.evaluating.receipts import Usage
from lockedroom.policy.backend import Backend
from lockedroom.records import Failure, Record, Sampling
from lockedroom.results.verify import verify
from lockedroom.testkit.openai_server import Answering, OpenAIServer, Reply, Request, completing, faulty
from lockedroom.testkit.small_run import lockedroom, write_additions

COUNT, IN_FLIGHT = 100, 8


def answered(prompt: str, seed: int, choice: int) -> str:
    """Right three times in four, and another text for another seed or choice."""
    return f"Final: {int(prompt.split()[2]) + 1}" if (seed + choice) % 4 else f"it is {seed} {choice}"


def measured(folder: Path, server: OpenAIServer, *, resume: bool = False, draws: int = 1, **backend: float) -> None:
    config = EvaluateConfig(
        dataset=str(write_additions(folder, COUNT)),
        policy=server.name,
        draws=draws,
        sampling=Sampling(max_tokens=20),
        backend=msgspec.convert({"concurrency": IN_FLIGHT, **backend}, Backend),
    )
    evaluate(config, folder / "run", resume=resume)


def usage(folder: Path) -> Usage:
    return msgspec.json.decode((folder / "run" / "usage.json").read_bytes(), type=Usage)


def rows(folder: Path) -> list[Record]:
    return [row for batch in read_batches(folder / "run" / "records.jsonl", Record) for row in batch.rows]


def test_a_run_ends_with_its_accounts_and_verifies(tmp_path: Path) -> None:
    with OpenAIServer(completing(answered)) as server:
        measured(tmp_path, server, draws=3)
    verify(tmp_path / "run")
    found = usage(tmp_path)
    assert (found.requests, found.attempts, found.completions) == (COUNT, COUNT, 3 * COUNT)
    assert (found.prompt_tokens, found.without_logprobs, found.faults) == (5 * COUNT, 0, {})
    assert found.system_fingerprints == {"fp-test": COUNT}
    assert found.latency_s is not None
    assert 0 < found.latency_s.p50 <= found.latency_s.p99 <= found.latency_s.max * 1.02
    assert not (tmp_path / "run" / "receipts.jsonl").exists()


def test_the_accounts_count_what_went_wrong_and_every_example_is_there_once(tmp_path: Path) -> None:
    with OpenAIServer(faulty(completing(answered), busy=0.1, broken=0.05, dropped=0.05, seed=4)) as server:
        measured(tmp_path, server, retries=1)
    verify(tmp_path / "run")
    records, found = rows(tmp_path), usage(tmp_path)
    assert [record.id for record in records] == [f"e{i}" for i in range(COUNT)]
    failed = sum(isinstance(record.result, Failure) for record in records)
    assert failed == found.failed_requests
    assert found.completions == COUNT - failed
    assert set(found.faults) == {"429", "500", "dropped"}
    assert found.attempts == found.completions + sum(found.faults.values())


class _Killed:
    """A run behind a server that is killed after so many answers, and what it had asked and written by then."""

    def __init__(self, folder: Path, server: OpenAIServer, answers: int, draws: int) -> None:
        write_additions(folder, COUNT)
        (folder / "server.toml").write_text(f"[backend]\nconcurrency = {IN_FLIGHT}\n")
        self.folder, self.server = folder, server
        self.command = ["evaluate", "--dataset", "sums.jsonl", "--policy", server.name, "--max-tokens", "20",
                        "--draws", str(draws), "--config", "server.toml", "--out", "run"]  # fmt: skip
        process = subprocess.Popen([sys.executable, "-m", "lockedroom", *self.command], cwd=folder)
        deadline = time.monotonic() + 60
        while server.answered < answers and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.kill()
        process.wait()
        assert server.answered >= answers
        time.sleep(0.1)  # what is still on its way to the server arrives
        self.asked = [request.prompt for request in server.completions()]

    def resume(self) -> list[str]:
        """The prompts asked after the kill."""
        done = lockedroom(*self.command, "--resume", cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return [request.prompt for request in self.server.completions()[len(self.asked) :]]


def _filtering(writing: Answering) -> Answering:
    """A server that holds back one choice in seven or so: paid for, and no completion."""

    def answer(request: Request) -> Reply:
        reply = writing(request)
        for choice in reply.body.get("choices", ()) if request.body.get("max_tokens") == 20 else ():
            if (request.body["seed"] + choice["index"]) % 7 == 0:
                choice["finish_reason"] = "content_filter"
        return reply

    return answer


def test_an_answer_that_is_no_completion_is_answered_all_the_same(tmp_path: Path) -> None:
    with OpenAIServer(_filtering(completing(answered, most_choices=1))) as server:
        measured(tmp_path, server, draws=1)
    found = usage(tmp_path)
    assert (found.requests, found.failed_requests) == (COUNT, 0)
    assert found.completions < COUNT
    assert found.prompt_tokens == 5 * COUNT


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("most_choices", [1, 2, 4])
def test_after_a_kill_only_what_was_in_flight_is_asked_again(tmp_path: Path, share: float, most_choices: int) -> None:
    chance = random.Random(1)
    writing = _filtering(completing(answered, most_choices=most_choices))

    def uneven(request: Request) -> Reply:
        return msgspec.structs.replace(writing(request), delay_s=chance.choice((0.0, 0.005, 0.05)))

    total = COUNT * {1: 4, 2: 3, 4: 1}[most_choices]
    with OpenAIServer(uneven) as server:
        run = _Killed(tmp_path, server, answers=int(share * total) + 5, draws=4)
        again = run.resume()
        in_all = Counter([*run.asked, *again])
    assert sum(in_all.values()) <= total + IN_FLIGHT
    assert len(in_all) == COUNT
    verify(tmp_path / "run")
    whole = tmp_path / "whole"
    whole.mkdir()
    with OpenAIServer(writing) as server:
        measured(whole, server, draws=4)
    assert (tmp_path / "run" / "records.jsonl").read_bytes() == (whole / "run" / "records.jsonl").read_bytes()
    accounts = [
        (found.requests, found.completions, found.completion_tokens) for found in (usage(tmp_path), usage(whole))
    ]
    assert accounts[0] == accounts[1]


def _first_is_slow(seconds: float) -> Answering:
    writing = completing(answered)

    def answer(request: Request) -> Reply:
        slow = request.body.get("max_tokens") == 20 and request.prompt == "What is 0 + 1?"
        return msgspec.structs.replace(writing(request), delay_s=seconds if slow else 0.0)

    return answer


def test_answers_that_wait_for_a_slower_one_survive_a_kill(tmp_path: Path) -> None:
    with OpenAIServer(_first_is_slow(4.0)) as server:
        run = _Killed(tmp_path, server, answers=COUNT - 5, draws=1)
        assert (tmp_path / "run" / "records.jsonl").read_bytes() == b""
        receipts = (tmp_path / "run" / "receipts.jsonl").read_bytes()
        (tmp_path / "run" / "receipts.jsonl").write_bytes(receipts + b'{"receipt":{"example":3')  # torn by the kill
        again = run.resume()
    asked = Counter([*run.asked, *again])
    assert sum(asked.values()) <= COUNT + IN_FLIGHT
    assert len(asked) == COUNT
    assert usage(tmp_path).completions == COUNT
    assert [record.id for record in rows(tmp_path)] == [f"e{i}" for i in range(COUNT)]


def test_a_run_is_not_continued_with_another_model_behind_the_same_address(tmp_path: Path) -> None:
    writing = completing(answered)
    good = [20]

    def answer(request: Request) -> Reply:
        if good[0] == 0 and request.body:
            return Reply({}, status=401)
        good[0] -= 1
        return writing(request)

    with OpenAIServer(answer) as server:
        with pytest.raises(BadInput, match="refused"):
            measured(tmp_path, server)
        good[0] = 1000
        writing = completing(answered, logprobs=False)
        with pytest.raises(BadInput, match="the server is another than when this run began"):
            measured(tmp_path, server, resume=True)
    assert (tmp_path / "run" / "receipts.jsonl").exists()


def test_a_full_resume_asks_for_the_rest_alone_and_accounts_for_all(tmp_path: Path) -> None:
    writing = completing(answered)
    good = [60]

    def answer(request: Request) -> Reply:
        if good[0] == 0:
            return Reply({}, status=401)
        good[0] -= 1
        return writing(request)

    with OpenAIServer(answer) as server:
        with pytest.raises(BadInput, match="refused"):
            measured(tmp_path, server)
        good[0] = 10_000
        measured(tmp_path, server, resume=True)
    found = usage(tmp_path)
    assert found.completions == COUNT
    assert len({record.id for record in rows(tmp_path)}) == COUNT
