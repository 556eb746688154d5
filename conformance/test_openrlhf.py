"""OpenRLHF's own loader and caller of reward functions, around our exported file.

Its package asks for flash-attn, which cannot be installed without CUDA; so it is installed without its dependencies,
and `openrlhf.utils` is entered by file, past its `__init__`, which imports DeepSpeed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

from exported_cases import cases, expected

from lockedroom.adapters.export_scorer import export_scorer

CRASHING = """
def score(example, completion):
    raise RuntimeError("no verdict")
"""


def _executor(reward_file: Path) -> Any:
    """Load `SingleTurnAgentExecutor` from the installed package, and have it load our file."""
    found = importlib.util.find_spec("openrlhf")
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent / "utils"
    package = types.ModuleType("openrlhf.utils")
    package.__path__ = [str(folder)]  # its real __init__ imports DeepSpeed
    sys.modules["openrlhf.utils"] = package
    from openrlhf.utils.agent import SingleTurnAgentExecutor

    return SingleTurnAgentExecutor(str(reward_file))


def test_openrlhf_gives_our_verdict_on_every_golden_and_hostile_text(tmp_path: Path) -> None:
    export_scorer("final-int", "openrlhf", tmp_path / "reward.py", end_tokens=["<eos>"])
    executor = _executor(tmp_path / "reward.py")
    asked = cases()
    prompts = [example.prompt for example, _ in asked]
    queries = [f"{example.prompt}{text}<eos>" for example, text in asked]
    labels = [str(example.expected_answer) for example, _ in asked]

    found = asyncio.run(executor._fetch_rewards_via_func(queries, prompts, labels))

    assert [one["rewards"].item() for one in found] == expected(asked)
    assert all(one["scores"].shape == (1,) and set(one["extra_logs"]) == {"correct", "malformed"} for one in found)


class _Tokenizer:
    """Code points as tokens, with one end token."""

    def __call__(self, text: str, **_: Any) -> dict[str, Any]:
        import torch

        return {"input_ids": torch.tensor([[ord(character) for character in text]])}

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        assert not skip_special_tokens
        return "".join("<eos>" if i == 0 else chr(i) for i in ids)


class _Engine:
    def __init__(self, text: str) -> None:
        self.text = text

    async def generate(self, *_: Any, **__: Any) -> Any:
        said = types.SimpleNamespace(token_ids=[*map(ord, self.text), 0], finish_reason="stop", logprobs=None)
        return types.SimpleNamespace(outputs=[said])


def _execute(executor: Any, text: str) -> Any:
    settings = types.SimpleNamespace(max_tokens=16, logprobs=None)
    return asyncio.run(executor.execute("2+2?", "4", settings, 64, _Tokenizer(), _Engine(text)))


def test_a_whole_turn_pays_what_we_pay(tmp_path: Path) -> None:
    export_scorer("final-int", "openrlhf", tmp_path / "reward.py", end_tokens=["<eos>"])
    executor = _executor(tmp_path / "reward.py")

    assert _execute(executor, "Final: 4")["reward"].item() == 1.0
    assert _execute(executor, "Final: 5")["reward"].item() == 0.0
    assert _execute(executor, "Final: 4 ")["reward"].item() == 0.0


def test_what_cannot_be_judged_has_no_reward(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CRASHING)
    export_scorer(str(tmp_path / "mine.py"), "openrlhf", tmp_path / "reward.py")

    output = _execute(_executor(tmp_path / "reward.py"), "Final: 4")

    assert output["reward"] is None
    assert output["scores"] is None
