"""A model in this process and one behind a server are drawn from in one room: the engine is the policy's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from small_models import save_small

from lockedroom.errors import NotComparable
from lockedroom.loops.evaluate import evaluate
from lockedroom.loops.evaluating.configuration import EvaluateConfig
from lockedroom.records import Sampling
from lockedroom.results.compare import Certificate, CompareOptions, compare
from lockedroom.safeguards.manifest import read_manifest
from lockedroom.stats.verdict import Verdict
from lockedroom.testkit.openai_server import Answering, OpenAIServer, Reply, Request, completing
from lockedroom.testkit.small_run import write_additions

SAMPLING = Sampling(temperature=0.8, max_tokens=6)


def right(prompt: str, seed: int, choice: int) -> str:
    return f"Final: {int(prompt.split()[2]) + 1}"


def taking_no(name: str) -> Answering:
    """A server that knows no parameter of this name."""
    answer = completing(right)

    def answer_or_refuse(request: Request) -> Reply:
        if name in request.body:
            return Reply({"error": {"message": f"unknown parameter {name}"}}, status=400)
        return answer(request)

    return answer_or_refuse


def run(folder: Path, name: str, policy: str, **more: Any) -> Path:
    dataset = str(write_additions(folder, 12))
    config = EvaluateConfig(**{"dataset": dataset, "policy": policy, "draws": 2, "sampling": SAMPLING, **more})
    return evaluate(config, folder / name).path


def behind(folder: Path, name: str, answer: Answering) -> Path:
    with OpenAIServer(answer) as server:
        return run(folder, name, server.name)


def against(a: Path, b: Path, *, assume: Sequence[str] = ()) -> Certificate:
    return compare([a, b], CompareOptions(assume_equal=tuple(assume)))


@pytest.fixture
def small(tmp_path: Path) -> str:
    return f"hf:{save_small('llama', tmp_path / 'small')}"


def test_a_local_model_and_one_behind_a_server_get_a_verdict(small: str, tmp_path: Path) -> None:
    found = against(run(tmp_path, "local", small), behind(tmp_path, "served", completing(right)))
    (pair,) = found.against
    assert pair.turned.knobs == ("policy",)
    assert pair.verdict is Verdict.BETTER
    assert pair.notes[0].startswith("A was drawn by a policy of kind huggingface, this by one of kind server")


def test_how_random_numbers_are_derived_stands_in_the_policy_and_not_in_the_room(small: str, tmp_path: Path) -> None:
    local, served = (
        read_manifest(path) for path in (run(tmp_path, "local", small), behind(tmp_path, "served", completing(right)))
    )
    assert local.room.sampling == served.room.sampling
    assert local.room.sampling["seed_scheme"] == "independent"
    assert local.policy.identity["seeds"] != served.policy.identity["seeds"]


def test_other_settings_of_the_draw_still_part_two_engines(small: str, tmp_path: Path) -> None:
    local = run(tmp_path, "local", small, sampling=Sampling(temperature=0.7, max_tokens=6))
    with pytest.raises(
        NotComparable, match=r"1 field is not known to be equal\n  - sampling\.temperature: 0.7 in A, 0.8"
    ):
        against(local, behind(tmp_path, "served", completing(right)))


def test_what_a_server_does_not_take_is_undeclared_and_equals_nothing(small: str, tmp_path: Path) -> None:
    """It may cut at 40 tokens by itself, which no run of ours would know."""
    local, served = run(tmp_path, "local", small), behind(tmp_path, "served", taking_no("top_k"))
    with pytest.raises(NotComparable, match=r"sampling\.top_k: 0 in A, undeclared in B"):
        against(local, served)
    with pytest.raises(NotComparable, match=r"sampling\.top_k: undeclared in A, undeclared in B"):
        against(served, behind(tmp_path, "again", taking_no("top_k")))
    assert against(local, served, assume=["sampling.top_k"]).against[0].verdict is Verdict.BETTER


def test_a_script_is_compared_with_a_model(small: str, tmp_path: Path) -> None:
    """The best constant answer is a policy like any other."""
    (pair,) = against(run(tmp_path, "local", small), run(tmp_path, "constant", "scripted:Final: 3")).against
    assert pair.turned.knobs == ("policy",)
