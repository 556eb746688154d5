"""The real verl: its loader of custom reward functions, its reward manager, and the rollouts that its trainer dumps."""

# ruff: noqa: ARG002  (the shape of a tokenizer)
from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported_cases import cases, expected, exported
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl import DataProto
from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager
from verl.trainer.ppo.ray_trainer import RayPPOTrainer
from verl.trainer.ppo.reward import get_custom_reward_fn

from lockedroom import EvaluateConfig, evaluate
from lockedroom.adapters.export_scorer import export_scorer
from lockedroom.adapters.exported import CouldNotJudge
from lockedroom.adapters.importing import import_log

CRASHING = """
def score(example, completion):
    raise RuntimeError("no verdict")
"""


class Characters:
    """A tokenizer of code points, so that every text goes through verl's own decoding unchanged."""

    def decode(self, ids: Any, skip_special_tokens: bool = True) -> str:
        return "".join(map(chr, ids.tolist()))


def _reward_function(path: Path) -> Any:
    custom = {"path": str(path), "name": "compute_score"}
    return get_custom_reward_fn(OmegaConf.create({"reward": {"custom_reward_function": custom}}))


def _item(text: str, answer: Any) -> DataProto:
    ids = torch.tensor([[ord(character) for character in text] or [0]])
    mask = torch.ones_like(ids) if text else torch.zeros_like(ids)
    batch = TensorDict({"responses": ids, "attention_mask": mask}, batch_size=1)
    others = {"data_source": ["math"], "reward_model": [{"ground_truth": answer}], "extra_info": [{"index": 0}]}
    return DataProto(batch=batch, non_tensor_batch={k: np.array(v, dtype=object) for k, v in others.items()})


def _run(function: Any, pairs: list[tuple[str, Any]]) -> list[dict[str, Any]]:
    async def ask() -> list[dict[str, Any]]:
        NaiveRewardManager._class_initialized = True  # no model config is needed for this manager
        manager = NaiveRewardManager(OmegaConf.create({}), Characters(), function)
        manager.loop = asyncio.get_running_loop()
        # verl asks for many at once, from several threads.
        return list(await asyncio.gather(*[manager.run_single(_item(text, answer)) for text, answer in pairs]))

    return asyncio.run(ask())


def test_verl_gives_our_verdict_on_every_golden_and_hostile_text(tmp_path: Path) -> None:
    export_scorer("final-int", "verl", tmp_path / "reward.py")
    asked = cases()

    found = _run(_reward_function(tmp_path / "reward.py"), [(text, example.expected_answer) for example, text in asked])

    assert [one["reward_score"] for one in found] == expected(asked)
    assert {tuple(one["reward_extra_info"]) for one in found} == {("score", "acc", "code")}


def test_what_cannot_be_judged_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CRASHING)
    export_scorer(str(tmp_path / "mine.py"), "verl", tmp_path / "reward.py")

    with pytest.raises(Exception, match="could not judge") as raised:
        _run(_reward_function(tmp_path / "reward.py"), [("Final: 4", 4)])
    assert type(raised.value).__name__ == CouldNotJudge.__name__


def test_dumped_rollouts_come_in_as_a_run(tmp_path: Path) -> None:
    module = exported(tmp_path, "verl")
    asked = [("1+1?", "Final: 2", 2), ("1+1?", "Final: 3", 2), ("2+2?", "Final: 4", 4), ("2+2?", "4", 4)]
    for step in (1, 2):
        found = [module.compute_score("math", text, answer) for _, text, answer in asked]
        extra = {key: [one[key] for one in found] for key in found[0]}
        RayPPOTrainer._write_generations(
            [prompt for prompt, _, _ in asked],
            [text for _, text, _ in asked],
            [answer for _, _, answer in asked],
            extra.pop("score"),
            extra,
            str(tmp_path / "rollouts"),
            step,
        )

    done = import_log(tmp_path / "rollouts", "verl", tmp_path / "in")
    run = evaluate(
        EvaluateConfig(dataset=str(tmp_path / "in/examples.jsonl"), completions=str(tmp_path / "in/completions.jsonl")),
        tmp_path / "run",
    )

    assert (done.examples, done.attempts, done.theirs) == (4, 8, 0.5)
    assert (run.summary.draws, run.summary.mean_reward.value) == (2, 0.5)
