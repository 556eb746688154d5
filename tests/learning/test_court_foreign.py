"""A person's own functions: right ones pass, wrong ones are found, hostile ones cost one message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lockedroom.errors import BadInput
from lockedroom.learning.court import all_batches
from lockedroom.learning.court_worlds import bandit_world, text_world
from lockedroom.loops.microscope.court_foreign import Named, judge_foreign
from lockedroom.results.microscope.court import Judged

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples" / "court_functions.py"
BATCHES = (all_batches(bandit_world(), 2), all_batches(text_world(), 2))
CLIP = {"cliprange": 0.2}


def _judged(path: Path, function: str, shape: str, beta: float = 0.0, **keywords: Any) -> Judged:
    return judge_foreign(Named(f"{path}:{function}", shape, keywords), BATCHES, beta=beta, cost=False)


@pytest.mark.parametrize(
    ("function", "shape", "keywords"),
    [("rloo_advantage", "verl-advantage", {}), ("clipped_loss", "verl-loss", CLIP), ("reinforce_loss", "loss", {})],
)
def test_a_right_function_is_unbiased(function: str, shape: str, keywords: dict[str, float]) -> None:
    found = _judged(EXAMPLES, function, shape, **keywords)
    assert (found.verdict, found.said) == ("UNBIASED", "the expected gradient is ∇J")


@pytest.mark.parametrize(
    ("function", "shape", "keywords", "beta", "verdict", "said"),
    [
        ("grpo_advantage", "verl-advantage", {}, 0, "BROKEN", "one completion a prompt"),
        ("in_order_advantage", "verl-advantage", {}, 0, "BROKEN", "does not go by `index`"),
        ("token_mean_loss", "verl-loss", CLIP, 0, "BIASED", "micro-batches"),
        ("inverted_clip_loss", "verl-loss", CLIP, 0, "BROKEN", "the clip is inverted"),
        ("grpo_loss", "trl-loss", {}, 0.04, "BIASED", "in direction"),
        ("padded_width_loss", "trl-loss", {}, 0, "BIASED", "padded width"),
        ("penalised_loss", "loss", {}, 0.1, "BROKEN", "the KL term has expected gradient zero"),
        ("climbs_down", "loss", {}, 0, "BROKEN", "points away"),
        ("unmasked_loss", "loss", {}, 0, "BROKEN", "outside the mask"),
        ("group_mean_advantages", "advantages", {}, 0, "BIASED", "0.5 × ∇J"),
    ],
)
def test_a_function_that_is_wrong_is_found_and_told_why(  # noqa: PLR0917  # one row of the table above
    function: str, shape: str, keywords: dict[str, float], beta: float, verdict: str, said: str
) -> None:
    found = _judged(EXAMPLES, function, shape, beta, **keywords)
    assert found.verdict == verdict
    assert said in found.said


def test_a_loss_with_kl_is_biased_for_an_objective_without_it() -> None:
    assert _judged(EXAMPLES, "grpo_loss", "trl-loss", 0.0).verdict == "BIASED"


LOSS = "def f(logprobs, old, ref, advantages, mask):\n    import torch, sys, random\n    "
RIGHT = "-((logprobs * mask).sum(-1) * advantages).mean()"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise KeyError('x')", "raised KeyError"),
        ("sys.exit(0)", "raised SystemExit"),
        ("return None", "returned nothing (None)"),
        ("return 0.5", "returned a float"),
        ("return logprobs", "of shape (4, 1)"),
        ("return logprobs.sum() * float('nan')", "with NaN or infinity"),
        ("return logprobs.detach().sum()", "does not depend on the log-probabilities"),
        ("return torch.zeros((), requires_grad=True) + 1", "does not depend on the log-probabilities"),
        ("return (mask.sum())", "of torch.int64"),
        ("return logprobs[:, 5].sum()", "raised IndexError"),
        ("logprobs.zero_()", "raised RuntimeError"),
        ("raise GeneratorExit", "raised GeneratorExit"),
        ("raise KeyboardInterrupt", "raised KeyboardInterrupt"),
        ("import os; os._exit(0)", "it ended the process with exit code 0"),
        ("import os; os.kill(os.getpid(), 9)", "it ended the process with signal 9"),
        ("return (" + RIGHT + ").to_sparse()", "of layout torch.sparse_coo"),
        ("return (" + RIGHT + ").to('meta')", "on meta; expected a dense one on cpu"),
        (
            "return -((logprobs[:, :-1] * mask[:, :-1]).sum(-1) * advantages).mean()",
            "its last token, the end, is left out",
        ),
        ("x = " + RIGHT + "; x.backward(); return x", "returned a loss that cannot be differentiated"),
        ("return " + RIGHT + " * (1 + torch.rand(()))", "given the same batch twice"),
        ("return " + RIGHT + " + 0.01 * logprobs.mean()", "with all advantages 0"),
        ("return torch.exp(1000 * logprobs.abs()).sum()", "with NaN or infinity"),
    ],
)
def test_whatever_a_function_does_costs_one_message(tmp_path: Path, body: str, said: str) -> None:
    (tmp_path / "own.py").write_text(LOSS + body + "\n", "utf-8")
    found = _judged(tmp_path / "own.py", "f", "loss")
    assert found.verdict in ("BROKEN", "BIASED")
    assert said in found.said


@pytest.mark.parametrize("body", ["while True: pass", "import time; time.sleep(1000)"])
def test_a_function_that_hangs_is_stopped(tmp_path: Path, body: str) -> None:
    (tmp_path / "own.py").write_text(f"def f(rewards):\n    {body}\n", "utf-8")
    found = judge_foreign(Named(f"{tmp_path / 'own.py'}:f", "advantages", seconds=0.3), BATCHES)
    assert (found.verdict, "did not return within 0.3 s" in found.said) == ("BROKEN", True)


@pytest.mark.parametrize("line", ["torch.set_grad_enabled(False)", "torch.set_default_dtype(torch.float16)"])
def test_what_a_function_switches_off_stays_its_own_affair(tmp_path: Path, line: str) -> None:
    source = f"import torch\ndef f(rewards):\n    {line}\n    return rewards + 0.5\n"
    (tmp_path / "own.py").write_text(source, "utf-8")
    assert _judged(tmp_path / "own.py", "f", "advantages").verdict == "UNBIASED"
    assert torch.is_grad_enabled()


def test_a_fault_of_the_court_itself_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.py").write_text("def f(rewards):\n    return rewards\n", "utf-8")
    monkeypatch.setattr("lockedroom.loops.microscope.court_foreign.faults", lambda _: 1 / 0)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        _judged(tmp_path / "own.py", "f", "advantages")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return rewards[0]", "of shape (2,)"),
        ("return rewards * float('inf')", "NaN or infinity"),
        ("rewards -= 5; return rewards - rewards.mean(-1, keepdim=True)", "0.5 × ∇J"),
        ("return (rewards - rewards.mean(-1, keepdim=True)) / rewards.std(-1, keepdim=True)", "NaN"),
        ("return (rewards - rewards.mean(-1, keepdim=True)) / (rewards.std(-1, unbiased=False, keepdim=True) + 1e-30)",
         "given all rewards 0.1, its largest advantage is 1.39e+13"),
        ("away = rewards - rewards.mean(-1, keepdim=True); return away / away.abs().amax(-1, keepdim=True).clamp(min=1e-30)",
         "rounding is taken for signal"),
    ],
)  # fmt: skip
def test_advantages_that_are_amiss_are_told_apart(tmp_path: Path, body: str, said: str) -> None:
    (tmp_path / "own.py").write_text(f"def f(rewards):\n    {body}\n", "utf-8")
    assert said in _judged(tmp_path / "own.py", "f", "advantages").said


def test_a_function_in_single_precision_may_still_be_unbiased(tmp_path: Path) -> None:
    body = "return -((logprobs.float() * mask).sum(-1) * advantages.float()).mean()"
    (tmp_path / "own.py").write_text(LOSS + body, "utf-8")
    assert _judged(tmp_path / "own.py", "f", "loss").verdict == "UNBIASED"


def test_a_constant_shift_of_rewards_is_unbiased_and_noisier(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def f(rewards):\n    return rewards + 5\n", "utf-8")
    found = _judged(tmp_path / "own.py", "f", "advantages")
    assert found.verdict == "UNBIASED"
    assert found.findings[1].noise is not None
    assert found.findings[1].noise > 50


@pytest.mark.parametrize(
    ("source", "function", "shape", "said"),
    [
        ("def f(:", "f", "loss", "own.py:1: importing it raised SyntaxError"),
        ("1 / 0", "f", "loss", "raised ZeroDivisionError"),
        ("raise SystemExit(0)", "f", "loss", "raised SystemExit"),
        ("f = 3", "f", "loss", "no function 'f'"),
        ("", "f", "loss", "no function 'f'"),
        ("def f(a): return a", "f", "loss", "cannot be called as --shape loss"),
        ("def f(a, b): return a", "f", "verl-advantage", "token_level_rewards="),
        ("def f(a): return a", "f", "mine", "known are advantages"),
        ("def f(a): return a", "f()", "loss", "path/to/file.py:function"),
        ("import os; os.kill(os.getpid(), 2)\ndef f(a): return a", "f", "loss", "cannot be called"),
        ("raise KeyboardInterrupt", "f", "loss", "raised KeyboardInterrupt"),
    ],
)
def test_a_function_that_cannot_be_loaded_is_bad_input(
    tmp_path: Path, source: str, function: str, shape: str, said: str
) -> None:
    (tmp_path / "own.py").write_text(source, "utf-8")
    with pytest.raises(BadInput, match=r"own\.py|shape") as caught:
        judge_foreign(Named(f"{tmp_path / 'own.py'}:{function}", shape), BATCHES)
    assert said in str(caught.value)


def test_dataclasses_and_prints_in_the_file_do_no_harm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nprint('hello')\n"
        "@dataclass\nclass C:\n    x: int = 1\n"
        "def f(rewards):\n    print('again')\n    return rewards * C().x\n",
        "utf-8",
    )
    assert _judged(tmp_path / "own.py", "f", "advantages").findings[0].verdict == "UNBIASED"
    assert capsys.readouterr().out == ""


def test_advantages_without_returns_are_not_what_verl_returns(tmp_path: Path) -> None:
    source = "def f(token_level_rewards, response_mask, index):\n    return token_level_rewards\n"
    (tmp_path / "own.py").write_text(source, "utf-8")
    found = _judged(tmp_path / "own.py", "f", "verl-advantage")
    assert (found.verdict, "expected a tuple (advantages, returns)" in found.said) == ("BROKEN", True)


def test_a_question_that_makes_it_raise_is_named(tmp_path: Path) -> None:
    body = f"assert bool((old == logprobs).all())\n    return {RIGHT}"
    (tmp_path / "own.py").write_text(LOSS + body, "utf-8")
    found = _judged(tmp_path / "own.py", "f", "loss")
    assert found.verdict == "BROKEN"
    assert "Given importance ratios of 1.5 and 0.5, it raised AssertionError" in found.said
