"""The real TRL: our exported reward function in GRPO training of a tiny GPT-2, and the run folder that its callback writes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from exported_cases import cases, expected, exported
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from lockedroom import EvaluateConfig, evaluate
from lockedroom.adapters.importing import import_log
from lockedroom.dataset.load import canonical_line
from lockedroom.jsonl import read_batches
from lockedroom.records import Example, Failure, Record, Score
from lockedroom.results.verify import verify

WORDS = ("<pad>", "<eos>", "Final", ":", " ", *"0123456789+-=?\n")
FLAKY = """
def score(example, completion):
    if len(completion) % 2:
        raise RuntimeError("no verdict")
    return {"reward": float("1" in completion), "details": {}}
"""


def _tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern="", behavior="isolated")
    from tokenizers import decoders

    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<pad>")


def _model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    ends = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(WORDS), n_positions=64, n_embd=32, n_layer=2, n_head=2, **ends))


def _rows(count: int) -> Dataset:
    return Dataset.from_list([{"id": f"e{i}", "prompt": f"{i}+1=?", "expected_answer": i + 1} for i in range(count)])


def _trainer(folder: Path, module: Any, **settings: Any) -> GRPOTrainer:
    options: dict[str, Any] = {
        "output_dir": str(folder / "out"),
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 8,
        "max_steps": 3,
        "logging_steps": 1,
        "save_strategy": "no",
        "log_completions": True,
        "disable_tqdm": True,
        **settings,
    }
    return GRPOTrainer(
        model=_model(),
        reward_funcs=module.reward_func,
        args=GRPOConfig(**options),
        train_dataset=_rows(6),
        processing_class=_tokenizer(),
        callbacks=[module.run_folder_callback(folder / "run")],
    )


def test_trl_gives_our_verdict_on_every_golden_and_hostile_text(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, exported(tmp_path, "trl"))
    asked = cases()
    inputs = [{"prompt": example.prompt, "expected_answer": example.expected_answer} for example, _ in asked]
    texts = [text for _, text in asked]

    found = trainer._calculate_rewards(inputs, [row["prompt"] for row in inputs], texts, [[] for _ in texts])

    assert found[:, 0].tolist() == expected(asked)


def test_a_real_training_leaves_a_run_folder_that_verifies(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, exported(tmp_path, "trl"))

    trainer.train()

    checked = verify(tmp_path / "run")
    manifest = checked.manifest
    assert (checked.attempts, manifest.draws, checked.rescored) == (3 * 8, 4, 3 * 8)
    assert manifest.room.sampling["temperature"] == 1.0
    assert manifest.room.sampling["max_tokens"] == 8
    assert manifest.policy.identity["trainer"].startswith("trl 1.")
    examples = [row for batch in read_batches(tmp_path / "run/examples.jsonl", Example) for row in batch.rows]
    assert {example.metadata["step"] for example in examples} == {0, 1, 2}
    assert {example.metadata["example"] for example in examples} <= {f"e{i}" for i in range(6)}
    rows = [row for batch in read_batches(tmp_path / "run/records.jsonl", Record) for row in batch.rows]
    assert all(row.completion and row.completion.token_ids for row in rows)


def test_trls_own_completion_log_gives_the_same_records(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, exported(tmp_path, "trl"))
    trainer.train()

    done = import_log(tmp_path / "out" / "completions", "trl", tmp_path / "in")
    evaluate(
        EvaluateConfig(dataset=str(tmp_path / "in/examples.jsonl"), completions=str(tmp_path / "in/completions.jsonl")),
        tmp_path / "again",
    )

    assert (done.attempts, done.without_score) == (24, 0)
    texts = []
    for name in ("run", "again"):
        rows = [row for batch in read_batches(tmp_path / name / "records.jsonl", Record) for row in batch.rows]
        texts.append(sorted((row.completion.text, row.result.reward) for row in rows))
    assert texts[0] == texts[1]


def _shares(completions: list[str], log_extra: Any, **_: Any) -> list[float | None]:
    log_extra("length", [len(text) for text in completions])
    log_extra("note", [None if i % 2 else "even" for i in range(len(completions))])
    return [None if i % 4 == 0 else 0.5 for i in range(len(completions))]


def _ours(**settings: Any) -> Any:
    return SimpleNamespace(run_folder_callback=lambda _: TrainerCallback(), **settings)


def test_of_several_reward_functions_and_what_they_logged_each_can_be_taken(tmp_path: Path) -> None:
    module = exported(tmp_path, "trl")
    _trainer(tmp_path, _ours(reward_func=[module.reward_func, _shares])).train()
    log = tmp_path / "out" / "completions"

    none = import_log(log, "trl", tmp_path / "none")
    ours = import_log(log, "trl", tmp_path / "ours", score="reward_func")
    theirs = import_log(log, "trl", tmp_path / "theirs", score="_shares")

    assert none.notes == [
        "columns of numbers left out: reward_func, _shares, length (--score NAME takes one as the log's score)"
    ]
    assert (none.without_score, ours.without_score, theirs.without_score) == (24, 0, 6)
    assert theirs.theirs == 0.5


def test_a_generation_that_trains_two_steps_is_logged_twice_and_that_is_told(tmp_path: Path) -> None:
    module = exported(tmp_path, "trl")
    _trainer(tmp_path, _ours(reward_func=module.reward_func), num_iterations=2).train()

    done = import_log(tmp_path / "out" / "completions", "trl", tmp_path / "in")

    assert done.attempts == 24
    assert done.notes == ["files that repeat the one before: 1 (TRL logs a generation at each step that trains on it)"]


def test_what_could_not_be_judged_trains_nothing_and_is_a_failure_in_the_run(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FLAKY)
    module = exported(tmp_path, "trl", str(tmp_path / "mine.py"))
    trainer = _trainer(tmp_path, module)

    trainer.train()

    rows = [row for batch in read_batches(tmp_path / "run/records.jsonl", Record) for row in batch.rows]
    kinds = [(len(row.completion.text) % 2, type(row.result)) for row in rows]
    assert set(kinds) <= {(1, Failure), (0, Score)}
    share = sum(isinstance(row.result, Failure) for row in rows) / len(rows)
    logged = [
        line["lockedroom/could_not_judge"] for line in trainer.state.log_history if "lockedroom/could_not_judge" in line
    ]
    assert sum(logged) / len(logged) == pytest.approx(share)
    module.SCORER.close()


def test_a_continued_training_keeps_what_was_judged_before(tmp_path: Path) -> None:
    module = exported(tmp_path, "trl")
    saving = {"save_strategy": "steps", "save_steps": 2}
    trainer = _trainer(tmp_path, module, **saving)

    class Stop(Exception):
        pass

    def stop(*_: Any, **__: Any) -> None:
        raise Stop

    whole = trainer.training_step

    def step(*args: Any, **kwargs: Any) -> Any:
        if trainer.state.global_step == 2:
            raise Stop
        return whole(*args, **kwargs)

    trainer.training_step = step  # a crash after the checkpoint
    with pytest.raises(Stop):
        trainer.train()
    again = exported(tmp_path / "again", "trl")
    _trainer(tmp_path, again, **saving).train(resume_from_checkpoint=True)

    assert verify(tmp_path / "run").attempts == 24


def test_the_recipe_trains_and_leaves_a_run(tmp_path: Path) -> None:
    import subprocess
    import sys

    from lockedroom.cli.main import main

    _model().save_pretrained(tmp_path / "model")
    _tokenizer().save_pretrained(tmp_path / "model")
    rows = [Example(id=f"e{i}", prompt=f"{i}+1=?", expected_answer=i + 1) for i in range(6)]
    (tmp_path / "train.jsonl").write_bytes(canonical_line(rows))
    assert main(["export", "scorer", "--to", "trl", "--out", str(tmp_path / "reward.py")]) == 0
    recipe = Path(__file__).resolve().parents[1] / "recipes" / "trl_grpo.py"
    places = ["--model", "model", "--dataset", "train.jsonl", "--reward", "reward.py", "--out", "run"]
    sizes = ["--steps", "2", "--generations", "4", "--max-tokens", "8", "--cpu"]

    done = subprocess.run(
        [sys.executable, str(recipe), *places, *sizes], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert verify(tmp_path / "run").attempts == 16
