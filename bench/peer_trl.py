"""Learning with `Learner.step` and with TRL's GRPO and RLOO trainers, in turn, in one process on one thread.

Run by the environment of the bench: `bench/.venv-trl/bin/python bench/peer_trl.py ROUNDS STEPS`. The same weights (the
logits are asserted to be the same bits), the same training prompts, 64 × 8 completions a step of at most MAX_TOKENS
tokens, temperature 1, AdamW at the same learning rate decayed to 0, the same scorer. What TRL does by default and need
not do here is switched off for it: bf16, gradient checkpointing, logging and saving. Prints JSON: CPU seconds of every step
after the first, and exact dev pass@1 of what each had learned from the same number of completions.
"""

from __future__ import annotations

import gc
import json
import math
import sys
import tempfile
import time
from typing import Any

import datasets  # type: ignore[import-not-found]  # these live in the bench's own environment
import tokenizers
import torch
import transformers
import trl  # type: ignore[import-not-found]
from peer_generate import NAMES, compare_logits, transplant

from lockedroom.dataset.load import read_examples
from lockedroom.learning.estimator import PRESETS
from lockedroom.loops.attempt import judge
from lockedroom.loops.evaluating.exact import measure_exactly, require_exact
from lockedroom.loops.learning.update import Learner, LearnerSettings
from lockedroom.policy.tiny import DATA_FOLDER, load_tiny
from lockedroom.policy.tiny.policy import TinyPolicy
from lockedroom.policy.tiny.tokenizer import END
from lockedroom.records import Completion, Example, Sampling
from lockedroom.scorer.builtin import BUILTIN

MAX_TOKENS, PROMPTS, GROUP, RATE, BETA = 24, 64, 8, 1e-3, 0.02
DEV = 200
FIRST = 0xE000  # token i is the character FIRST + i for TRL's tokenizer, so that it sees the very ids that we see

SCORER = BUILTIN["final-int"]()


def main(rounds: int, steps: int) -> None:
    torch.set_num_threads(1)
    train, dev = (_read(name) for name in ("train.jsonl", "dev.jsonl"))
    policy = load_tiny("tiny", threads=1)
    differences = compare_logits(policy, transplant(policy), [policy.prompt_ids(one.prompt) for one in train])
    contenders = {"ours": _ours, "GRPO": _trl("GRPO"), "RLOO": _trl("RLOO")}
    results: dict[str, Any] = {name: {"seconds": [], "pass_at_1": []} for name in contenders}
    for round_ in range(rounds):
        for name, contender in contenders.items():
            gc.collect()
            learned, seconds = contender(train, steps, round_)
            results[name]["seconds"].append(seconds)
            results[name]["pass_at_1"].append(_pass_at_1(learned, dev))
            print(f"  round {round_ + 1}/{rounds} {name}: {sum(seconds):.1f} CPU-s", file=sys.stderr)
    print(json.dumps({"differences": differences, "completions": steps * PROMPTS * GROUP, "results": results}))


def _read(name: str) -> list[Example]:
    return [example for batch in read_examples(DATA_FOLDER / name) for example in batch]


def _pass_at_1(policy: TinyPolicy, dev: list[Example]) -> float:
    known, accepted = require_exact(policy, SCORER)
    rows = measure_exactly(known, accepted, dev[:DEV], Sampling(max_tokens=MAX_TOKENS))
    return math.fsum(row.accepted for row in rows) / len(rows)


def _ours(train: list[Example], steps: int, seed: int) -> tuple[TinyPolicy, list[float]]:
    policy = load_tiny("tiny", threads=1)
    learner = Learner(
        policy, policy.frozen_copy(), lambda examples, drawn: judge(SCORER, examples, drawn), PRESETS["rloo"],
        settings=LearnerSettings(steps=steps, learning_rate=RATE, group=GROUP),
        sampling=Sampling(max_tokens=MAX_TOKENS, seed=seed),
    )  # fmt: skip
    seconds = []
    for step in range(steps):
        began = time.process_time()
        start = step * PROMPTS % (len(train) - PROMPTS)
        learner.step(train[start : start + PROMPTS], step)
        seconds.append(time.process_time() - began)
    return policy, seconds[1:]


def _trl(name: str) -> Any:
    make_config, make_trainer = getattr(trl, f"{name}Config"), getattr(trl, f"{name}Trainer")

    def learn(train: list[Example], steps: int, seed: int) -> tuple[TinyPolicy, list[float]]:
        policy = load_tiny("tiny", threads=1)
        answers = {_written(policy.prompt_ids(one.prompt)): one for one in train}

        def reward(prompts: list[str], completions: list[str], **_: object) -> list[float]:
            texts = [policy.decode([ord(character) - FIRST for character in one]) for one in completions]
            results = judge(SCORER, [answers[prompt] for prompt in prompts], [Completion(text) for text in texts])
            return [result.reward for result in results]  # type: ignore[union-attr]  # final-int never fails

        with tempfile.TemporaryDirectory() as folder:
            transplant(policy).save_pretrained(folder)  # the reference model is loaded again from where the model came
            config = make_config(
                output_dir=folder, use_cpu=True, bf16=False, gradient_checkpointing=False, report_to=[], seed=seed,
                save_strategy="no", logging_steps=10**6, disable_tqdm=True, max_steps=steps, learning_rate=RATE, beta=BETA,
                per_device_train_batch_size=PROMPTS * GROUP, num_generations=GROUP, max_completion_length=MAX_TOKENS,
                temperature=1.0, lr_scheduler_type="linear", disable_dropout=True, model_init_kwargs={"dtype": "float32"},
            )  # fmt: skip
            clock = _Clock()
            rows = datasets.Dataset.from_dict({"prompt": list(answers)})
            trainer = make_trainer(model=folder, reward_funcs=reward, args=config, train_dataset=rows,
                                   processing_class=_tokenizer(policy.tokenizer.vocabulary), callbacks=[clock])  # fmt: skip
            trainer.train()
            _take_back(policy, trainer.model)
        return policy, clock.seconds[1:]

    return learn


class _Clock(transformers.TrainerCallback):
    """CPU seconds of each step, from its beginning (generation included) to its end."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0

    def on_step_begin(self, *_: object, **__: object) -> None:
        self._began = time.process_time()

    def on_step_end(self, *_: object, **__: object) -> None:
        now = time.process_time()
        self.seconds.append(now - self._began)
        self._began = now


def _written(ids: tuple[int, ...]) -> str:
    return "".join(chr(FIRST + i) for i in ids)


def _tokenizer(vocabulary: int) -> Any:
    """Return a tokenizer with one character a token: nothing is merged, so nothing can drift."""
    names = {chr(FIRST + i): i for i in range(vocabulary)}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(names, unk_token=chr(FIRST + END)))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    inner.decoder = tokenizers.decoders.Fuse()
    end, make = chr(FIRST + END), transformers.PreTrainedTokenizerFast
    names_of = {"eos_token": end, "pad_token": end, "bos_token": end, "padding_side": "left"}
    return make(tokenizer_object=inner, **names_of)  # type: ignore[no-untyped-call]  # transformers leaves it untyped


@torch.no_grad()
def _take_back(policy: TinyPolicy, model: Any) -> None:
    theirs = model.state_dict()
    for ours, tensor in policy.model.state_dict().items():
        name = ours + ".weight" if ours in ("wte", "wpe") else ours
        for old, new in NAMES.items():
            name = name.replace(old, new)
        tensor.copy_(theirs[f"transformer.{name}"])


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
