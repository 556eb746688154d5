"""Guided search on Hugging Face models too small to know anything: the language holds, and the policy's numbers are its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from small_models import FAMILIES, save_small

from lockedroom.cli.main import main
from lockedroom.policy.backend import Backend
from lockedroom.policy.huggingface import load_huggingface
from lockedroom.policy.huggingface.policy import HuggingFacePolicy
from lockedroom.policy.tiny.guided import Language, beam_search, sample_viable
from lockedroom.records import Example, FinishReason, Sampling
from lockedroom.scorer.final_int import viable
from lockedroom.testkit.small_run import write_rows

ASKED = [Example(id=f"e{a}", prompt=f"Compute {a}+1. Output exactly one line: Final: <int>", expected_answer=a + 1)
         for a in range(3)]  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HuggingFacePolicy:
    folder = save_small(request.param, tmp_path_factory.mktemp(request.param) / "model")
    return load_huggingface(str(folder), Backend(batch=4))


def language(
    policy: HuggingFacePolicy, viable: Callable[[str], bool], complete: Callable[[str], bool] = lambda _: True
) -> Language:
    steps = policy.steps()
    return Language(steps.pieces, lambda texts: list(map(viable, texts)), complete, steps.ends)


def test_draws_keep_to_the_form_that_is_paid(policy: HuggingFacePolicy) -> None:
    spoken = language(policy, viable, lambda text: text[:7] == "Final: " and text[-1].isdigit())
    found = sample_viable(policy, ASKED, range(3), Sampling(max_tokens=40), spoken)
    assert {one.finish_reason for one in found} <= {FinishReason.STOP, FinishReason.LENGTH}
    assert all(viable(one.text) for one in found)
    assert all(policy.decode(one.token_ids) == one.text for one in found)


def test_logprobs_are_those_that_the_policy_gives_the_tokens_itself(policy: HuggingFacePolicy) -> None:
    spoken = language(policy, lambda text: set(text) <= set("abc 1"))
    found = sample_viable(policy, ASKED, range(2), Sampling(max_tokens=5), spoken)
    prompts = [policy.prompt_ids(asked.prompt) for asked in ASKED for _ in range(2)]
    again = policy.logprobs(prompts, [one.token_ids for one in found])
    for one, logprobs in zip(found, again, strict=True):
        assert one.policy_logprobs == pytest.approx(logprobs, abs=5e-5)
        assert one.logprob >= math.fsum(one.policy_logprobs) - 1e-9  # cut to fewer tokens, each is more probable


def test_a_beam_of_one_is_greedy_decoding(policy: HuggingFacePolicy) -> None:
    found = beam_search(policy, ASKED, 1, Sampling(max_tokens=6), None)
    greedy = list(policy.complete(ASKED, range(1), Sampling(max_tokens=6, temperature=0)))
    assert [(one.text, one.token_ids) for one in found] == [(one.text, one.token_ids) for one in greedy]


def test_a_wider_beam_finds_no_less_probable_text(policy: HuggingFacePolicy) -> None:
    spoken = language(policy, lambda text: set(text) <= {"a", "b"} and len(text) <= 3, lambda text: len(text) == 3)
    narrow, wide = (beam_search(policy, ASKED, width, Sampling(), spoken) for width in (1, 64))
    for one, other in zip(narrow, wide, strict=True):
        assert other.logprob >= one.logprob - 1e-9
        assert len(other.text) == 3


@pytest.mark.parametrize("selector", ["viable-sampling", "viable-beam"])
def test_search_from_the_command_line_on_a_model_from_a_folder(tmp_path: Path, selector: str) -> None:
    save_small("llama", tmp_path / "small")
    dataset = write_rows(tmp_path / "d.jsonl", [{"id": a.id, "prompt": a.prompt, "expected_answer": a.expected_answer} for a in ASKED])  # fmt: skip
    out = tmp_path / "run"
    arguments = [
        "--dataset",
        str(dataset),
        "--policy",
        f"hf:{tmp_path / 'small'}",
        "--max-tokens",
        "30",
        "--out",
        str(out),
    ]
    assert main(["select", "--selector", selector, *arguments]) == 0
    assert main(["verify", str(out)]) == 0
