"""The three tracks of the real-model runs, each read top to bottom: what is asked of the model, in which order.

`hugging_face` and `served` are Loops A and B on the same problems through two engines; `learning` is Loop C with its control
arm: warm-up, then policy gradients on top, then the same CPU time spent on more warm-up instead.
"""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
from real_lab import Lab
from real_problems import Problems

from lockedroom.jsonl import read_batches
from lockedroom.results.learning.metrics import TIMING, StepTiming
from lockedroom.safeguards.manifest import NAME, read_manifest

TRACKS = {
    "hf": "hf-tokens",
    "server": "compare-server-prompts",
    "learn": "compare-control",
}  # and the last part of each


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How much is done. `measured`: problems of Loops A and B; `draws` an example, everywhere but greedy and zero-shot."""

    measured: int = 48
    train: int = 600
    dev: int = 80
    draws: int = 8
    zero_shot_tokens: int = 24
    answer_tokens: int = 12
    lora: int = 16
    warm_steps: int = 10
    warm_examples: int = 16
    warm_rate: float = 1e-3
    steps: int = 30
    prompts: int = 8
    group: int = 8
    rate: float = 2e-4


SIZES = Sizes()
TEMPERATURE = 0.8  # of Loops A and B; Loop C is sampled and measured at 1
SELECTORS = ("best-of-n", "majority-vote")


def hugging_face(lab: Lab, model: str, problems: Problems, sizes: Sizes) -> None:
    """Loop A zero-shot and four-shot, Loop B on the latter's draws, the format tax, compare and rescore."""
    _measure(lab, "hf", f"hf:{model}", problems, sizes)
    lab.say("hf-tokens", "tokens", "--policy", f"hf:{model}", "--prompt",
            "Compute 2+3. Output exactly one line: Final: <int>", "--answer", 5, "--json")  # fmt: skip


def served(lab: Lab, server: str, problems: Problems, sizes: Sizes) -> None:
    """The same Loops A and B through a server."""
    _measure(lab, "server", server, problems, sizes)


def engines(lab: Lab) -> None:
    """Compare the engines: the same weights, prompts and sampling, each with its own arithmetic and random numbers."""
    lab.say("compare-engines", "compare", lab / "hf-four-shot", lab / "server-four-shot")


def _measure(lab: Lab, name: str, policy: str, problems: Problems, sizes: Sizes) -> None:
    zero, four = f"{name}-zero-shot", f"{name}-four-shot"
    sampled = ("--policy", policy, "--temperature", TEMPERATURE)
    lab.make(zero, "evaluate", "--dataset", problems.zero_shot, *sampled, "--max-tokens", sizes.zero_shot_tokens)
    # The four problems before are plain text, which the model goes on with; a line is an answer.
    lab.make(four, "evaluate", "--dataset", problems.four_shot, *sampled, "--max-tokens", sizes.answer_tokens,
             "--draws", sizes.draws, "--template", "plain", "--stop", "\n")  # fmt: skip
    for selector in SELECTORS:
        lab.make(f"{name}-{selector}", "select", "--run", lab / four, "--selector", selector)
        lab.say(f"compare-{name}-{selector}", "compare", lab / four, lab / f"{name}-{selector}")
    lab.make(f"{name}-permissive", "rescore", lab / zero, "--scorer", "permissive")
    lab.say(f"compare-{name}-prompts", "compare", lab / zero, lab / four, exits=3)


def learning(lab: Lab, model: str, problems: Problems, sizes: Sizes) -> None:
    """Loop C. The base model is refused; the warmed one learns; what more warm-up buys for as much CPU time is beside it."""
    base, warm = f"hf:{model}", f"hf:{lab / 'warm'}"
    asked = ("--dataset", problems.train, "--dev", problems.dev, "--prompts", sizes.prompts, "--group", sizes.group,
             "--max-tokens", sizes.answer_tokens)  # fmt: skip
    lab.say("refused", "learn", "--policy", base, "--lora", sizes.lora, *asked, "--max-truncated", 1,
            "--out", lab / "refused", exits=2)  # fmt: skip
    shown = ("--dataset", problems.train, "--examples", sizes.warm_examples, "--learning-rate", sizes.warm_rate)
    warmed = lab.make("warm", "warmup", "--policy", base, "--lora", sizes.lora, "--steps", sizes.warm_steps, *shown)
    lab.make("learned", "learn", "--policy", warm, *asked, "--steps", sizes.steps, "--learning-rate", sizes.rate,
             "--draws", sizes.draws, "--eval-every", sizes.steps, "--eval-examples", 2 * sizes.group)  # fmt: skip
    steps = math.ceil(training_cpu(Path(lab / "learned")) / (warmed.cpu_seconds / sizes.warm_steps))
    lab.make("longer", "warmup", "--policy", warm, "--steps", steps, *shown)
    lab.make("longer-dev", "evaluate", "--policy", f"hf:{lab / 'longer'}", "--dataset", problems.dev,
             "--max-tokens", sizes.answer_tokens, "--draws", sizes.draws)  # fmt: skip
    lab.say("compare-learned", "compare", lab / "learned/base", lab / "learned/learned")
    lab.say("compare-longer", "compare", lab / "learned/base", lab / "longer-dev")
    lab.say("compare-control", "compare", lab / "longer-dev", lab / "learned/learned")


def training_cpu(run: Path) -> float:
    """Return the CPU seconds of a learning run's steps: its CPU time, by the share of its time that was spent in steps."""
    rows = [row for batch in read_batches(run / TIMING, StepTiming) for row in batch.rows]
    timing = read_manifest(run).timing
    inside = sum(row.draw + row.judge + row.reference + row.update for row in rows)
    return timing.cpu_seconds * min(1.0, inside / timing.seconds)


def verify_all(lab: Lab) -> None:
    """Verify every run that is there now, and keep what that says."""
    lab.forget("verified")
    lab.say("verified", "verify", *sorted(path.parent for path in lab.folder.glob(f"*/{NAME}")))
