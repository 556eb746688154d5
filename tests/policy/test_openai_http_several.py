"""One policy behind several servers: requests are shared out, and the records are those of one server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lockedroom import EvaluateConfig, evaluate
from lockedroom.errors import BadInput
from lockedroom.policy.backend import Backend
from lockedroom.policy.openai_http import open_server
from lockedroom.records import Sampling
from lockedroom.testkit.openai_server import OpenAIServer, completing, faulty

COUNT = 60


def answered(prompt: str, seed: int, choice: int) -> str:
    return f"Final: {seed % 7 + choice}"


def measured(folder: Path, policy: str) -> bytes:
    """Return the records of a run with this policy."""
    folder.mkdir()
    rows = [{"id": f"e{i}", "prompt": f"What is {i} + 1?", "expected_answer": i + 1} for i in range(COUNT)]
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = EvaluateConfig(
        dataset=str(folder / "d.jsonl"), policy=policy, draws=2, sampling=Sampling(max_tokens=8, seed=1),
        backend=Backend(concurrency=8, retries=12),
    )  # fmt: skip
    evaluate(config, folder / "run")
    return (folder / "run/records.jsonl").read_bytes()


def test_several_servers_share_the_requests_and_give_the_records_of_one(tmp_path: Path) -> None:
    asked: dict[str, int] = {"a": 0, "b": 0}

    def counting(name: str) -> Any:
        def write(prompt: str, seed: int, choice: int) -> str:
            asked[name] += "What is" in prompt
            return answered(prompt, seed, choice)

        return completing(write)

    with OpenAIServer(completing(answered)) as server:
        one = measured(tmp_path / "one", server.name)
    with OpenAIServer(counting("a")) as a, OpenAIServer(counting("b")) as b:
        two = measured(tmp_path / "two", f"{a.name},{b.name}")

    assert one == two
    assert asked == {"a": COUNT, "b": COUNT}  # two draws for each of half the examples


def test_what_one_server_fails_to_answer_the_next_is_asked(tmp_path: Path) -> None:
    with OpenAIServer(completing(answered)) as server:
        one = measured(tmp_path / "one", server.name)
    with (
        OpenAIServer(faulty(completing(answered), busy=0.3, broken=0.3, dropped=0.3, seed=4)) as bad,
        OpenAIServer(completing(answered)) as good,
    ):
        assert measured(tmp_path / "two", f"{good.name},{bad.name}") == one


def test_servers_that_are_not_one_policy_are_refused() -> None:
    with (
        OpenAIServer(completing(answered)) as a,
        OpenAIServer(completing(answered, chat=False)) as b,
        pytest.raises(BadInput, match=r"not the same policy.*template"),
    ):
        open_server(f"{a.name},{b.name}", Backend())


def test_a_server_that_is_not_there_or_named_twice_is_one_message() -> None:
    with OpenAIServer(completing(answered)) as a:
        with pytest.raises(BadInput, match="is the server running"):
            open_server(f"{a.name},http://127.0.0.1:1/v1#m", Backend(), backoff_s=0.01)
        with pytest.raises(BadInput, match="twice"):
            open_server(f"{a.name},{a.name}", Backend())
