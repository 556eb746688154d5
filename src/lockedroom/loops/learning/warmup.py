"""A short supervised warm-up: the policy is shown right answers in the format that the scorer pays.

A policy that never passes teaches nothing: its reward is 0 whatever it does, and so is the gradient. Warm-up minimises
the mean of −log π(token | prompt, tokens before it), in nats, over the tokens of the shown completions, end token
included and the prompt's tokens left out. It is what Loop C's gain has to be told apart from: compare with a control arm
that had the warm-up and nothing else. Shape letters: N completions, T tokens of the longest.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from lockedroom.dataset.load import canonical_line, first_refused_by, read_examples
from lockedroom.errors import BadInput, CannotWrite
from lockedroom.jsonl import encode_lines
from lockedroom.loops.attempt import judge
from lockedroom.loops.learning.order import permutation
from lockedroom.loops.opening.named import open_scorer
from lockedroom.loops.opening.policy import open_token_policy, refuse_untrainable
from lockedroom.policy.backend import Backend
from lockedroom.protocols import TrainablePolicy
from lockedroom.records import Completion, Example, Sampling, Score
from lockedroom.results.run_folder import writing

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, LOSSES, POLICY = "config.toml", "losses.jsonl", "policy"


class WarmupConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What decides a warm-up. `batch` is examples a step, `micro_batch` those in one pass, for memory.

    `target` is the completion shown; `{answer}` stands for the expected answer. The learning rate falls to 0 linearly.
    """

    dataset: str
    policy: str = "tiny"
    scorer: str = "final-int"
    steps: int = 16
    batch: int = 32
    micro_batch: int = 8
    learning_rate: float = 5e-4
    target: str = "Final: {answer}"
    seed: int = 0
    threads: int = 1
    backend: Backend = Backend()


class Shown(msgspec.Struct, frozen=True):
    """One step: mean loss in nats a token over the completions shown, how many tokens they had, the learning rate."""

    step: int
    loss: float
    tokens: int
    learning_rate: float


class Warmed(msgspec.Struct, frozen=True):
    """A finished warm-up. `policy` is the name to give to --policy."""

    path: Path
    policy: str
    weights_sha256: str
    steps: list[Shown]


def warm_up(config: WarmupConfig, out: Path, *, progress: Callable[[Shown], None] = lambda _: None) -> Warmed:
    """Train a policy on right answers and write the folder `out`. Raises BadInput for what cannot be learned from."""
    refuse_untrainable(config.policy)
    _check(config)
    if out.exists():
        raise CannotWrite(f"{out}: exists already; name another --out")
    examples = _read(config)
    policy = open_token_policy(config.policy, threads=config.threads, backend=config.backend)
    assert isinstance(policy, TrainablePolicy)
    steps = _train(config, policy, examples, progress)
    origin: dict[str, Any] = {
        "recipe": "lockedroom warmup",
        "from": policy.spec.identity,
        "dataset_sha256": hashlib.sha256(canonical_line(examples)).hexdigest(),
        "config": msgspec.to_builtins(config),
    }
    saved = POLICY if policy.spec.kind == "huggingface" else f"{POLICY}.safetensors"
    import tomli_w

    with writing(out):
        out.mkdir(parents=True)
        sha256 = policy.save(out / saved, origin=origin)
        (out / LOSSES).write_bytes(encode_lines(steps))
        (out / CONFIG).write_text(tomli_w.dumps(msgspec.to_builtins(config)), "utf-8")
    name = f"hf:{out}" if saved == POLICY else str(out / saved)
    return Warmed(out, name, sha256, steps)


def _check(config: WarmupConfig) -> None:
    for name, value in (("--steps", config.steps), ("--batch", config.batch), ("--micro-batch", config.micro_batch)):
        if value < 1:
            raise BadInput(f"{name} {value}: must be at least 1")
    if not (math.isfinite(config.learning_rate) and config.learning_rate > 0):
        raise BadInput(f"--learning-rate {config.learning_rate}: must be a finite number above 0")
    if "{answer}" not in config.target:
        raise BadInput(
            f"--target {config.target!r}: does not hold {{answer}}, so every example would be shown the same"
        )
    if Path(config.dataset).stem.lower() == "holdout":
        raise BadInput(f"{config.dataset}: a holdout is not learned from; use the train split")


def _read(config: WarmupConfig) -> list[Example]:
    """Return the examples, after making sure that the scorer pays for what they would be shown."""
    with open_scorer(config.scorer, timeout_s=5.0, memory_mb=512) as scorer:
        batches = read_examples(Path(config.dataset), first_refused_by(scorer.accepts), scorer_name=scorer.spec.name)
        examples = [example for batch in batches for example in batch]
        shown = [Completion(_target(config, example)) for example in examples]
        for example, completion, result in zip(examples, shown, judge(scorer, examples, shown), strict=True):
            if not (isinstance(result, Score) and result.reward > 0):
                raise BadInput(
                    f"example {example.id!r}: scorer {scorer.spec.name} does not pay for {completion.text!r}, so showing it "
                    "would teach what is not rewarded; change --target"
                )
    return examples


def _target(config: WarmupConfig, example: Example) -> str:
    return config.target.replace("{answer}", str(example.expected_answer))


def _train(
    config: WarmupConfig, policy: TrainablePolicy, examples: Sequence[Example], progress: Callable[[Shown], None]
) -> list[Shown]:
    import torch

    parameters = policy.parameters()
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    order: list[int] = []
    done: list[Shown] = []
    for step in range(config.steps):
        while len(order) < config.batch:
            order += permutation(len(examples), config.seed, f"warmup pass {step} {len(order)}")
        chosen, order = [examples[i] for i in order[: config.batch]], order[config.batch :]
        rate = config.learning_rate * (1 - step / config.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss, tokens = _backward(config, policy, chosen)
        if not math.isfinite(loss):
            raise BadInput(f"step {step}: the loss is {loss}: the warm-up has diverged; lower --learning-rate")
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        done.append(Shown(step, loss, tokens, rate))
        progress(done[-1])
    return done


def _backward(config: WarmupConfig, policy: TrainablePolicy, chosen: Sequence[Example]) -> tuple[float, int]:
    """Add the gradient of the mean loss a token; return that loss and the number of tokens."""
    import torch

    prompts = [policy.prompt_ids(example.prompt) for example in chosen]
    targets = [(*policy.encode(_target(config, example)), policy.end_id) for example in chosen]
    tokens = sum(map(len, targets))
    total = 0.0
    for start in range(0, len(chosen), config.micro_batch):
        part = slice(start, start + config.micro_batch)
        loss = -_logprob(policy, prompts[part], targets[part]) / tokens
        torch.autograd.backward(loss)
        total += float(loss.detach())
    return total, tokens


def _logprob(policy: TrainablePolicy, prompts: Sequence[tuple[int, ...]], targets: Sequence[tuple[int, ...]]) -> Tensor:
    """Return Σ log π of the targets' tokens, each after its prompt.

    Where at least half of every prompt is the same beginning (a chat template), that is read once for all: the rest of a
    prompt then counts as written by the policy, and is left out of the sum. The gradient is the same to rounding.
    """
    import torch

    alike = itertools.takewhile(lambda ids: len(set(ids)) == 1, zip(*prompts, strict=False))
    shared = sum(1 for _ in alike)
    if 2 * shared < max(map(len, prompts)):
        return policy.training_pass(prompts, [[ids] for ids in targets], Sampling()).logprobs_NT.sum()
    rests = [prompt[shared:] + ids for prompt, ids in zip(prompts, targets, strict=True)]
    read = policy.training_pass([prompts[0][:shared]], [rests], Sampling())
    steps_T = torch.arange(read.logprobs_NT.shape[1])
    ends_N1 = torch.tensor([[len(rest)] for rest in rests])
    starts_N1 = ends_N1 - torch.tensor([[len(ids)] for ids in targets])
    own_NT = (starts_N1 <= steps_T) & (steps_T < ends_N1)
    return read.logprobs_NT.where(own_NT.to(read.logprobs_NT.device), 0.0).sum()
