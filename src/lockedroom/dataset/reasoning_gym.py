"""Examples from `reasoning-gym`'s seeded generators: those whose answers are integers, in splits that share no question.

Which split a question belongs to follows from the sha256 of the task's name and the question alone (4+3 and
3+4 are one), as in `dataset/arithmetic.py`. Its own scorers are not used: every answer has to be one that our scorer accepts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.dataset.arithmetic import SPLITS, Split, split_of
from lockedroom.dataset.folder import WrittenSplit, write_splits
from lockedroom.dataset.splits import commuted
from lockedroom.errors import BadInput, MissingExtra
from lockedroom.records import Example
from lockedroom.visible import visible

TEMPLATE = "{question}\nOutput exactly one line: Final: <int>"
# A generator that repeats itself so many times in a row has no more questions for a split that is not full.
MOST_REPEATS = 2000
# Some generators prepare as many items as they are told to have, so they are asked for a part at a time. The others use
# seed + index, so that the parts are one sequence.
_PART = 10_000
_MOST_PARTS = 200_000
# What a generator raises for settings, or a seed, that it cannot use.
_REFUSALS = (TypeError, ValueError, AssertionError, LookupError, ArithmeticError, AttributeError, RuntimeError, OSError)


class ReasoningGymConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to generate: a task of reasoning-gym, and the settings of its own configuration."""

    task: str
    settings: Mapping[str, Any] = {}
    template: str = TEMPLATE
    seed: int = 0
    train: int = 1000
    dev: int = 200
    holdout: int = 200

    def __post_init__(self) -> None:
        for split in SPLITS:
            if self.size(split) < 0:
                raise BadInput(f"{split} {self.size(split)}: expected a number of examples, 0 or more")
        if not any(self.size(split) for split in SPLITS):
            raise BadInput("train, dev and holdout are all 0; ask for at least one example")
        for name, flag in (("seed", "--seed"), ("size", "--train, --dev and --holdout")):
            if name in self.settings:
                raise BadInput(f"--set {name}: is no setting of a task here; use {flag}")
        if "{question}" not in self.template:
            raise BadInput(f"template {self.template!r}: {{question}} is missing; write it where it should stand")

    def size(self, split: Split) -> int:
        return {"train": self.train, "dev": self.dev, "holdout": self.holdout}[split]


def write_reasoning_gym(config: ReasoningGymConfig, accepts: Callable[[Any], bool], folder: Path) -> list[WrittenSplit]:
    """Write the splits. Raises BadInput for an unknown task, a setting it has not, or an answer that is not accepted."""
    splits: dict[str, list[Example]] = {split: rows for split, rows in generate(config, accepts).items()}  # noqa: C416  (widens the type of the keys)
    described: dict[str, str | int | bool] = {
        "task": config.task,
        "version": _version(),
        "settings": msgspec.json.encode(dict(config.settings)).decode(),
        "template": config.template,
        "seed": config.seed,
        "train": config.train,
        "dev": config.dev,
        "holdout": config.holdout,
    }
    return write_splits(folder, splits, "reasoning-gym", described)


def generate(config: ReasoningGymConfig, accepts: Callable[[Any], bool]) -> dict[Split, list[Example]]:
    """Return the examples of every split that is not empty; the same for the same release of reasoning-gym."""
    made: dict[Split, list[Example]] = {split: [] for split in SPLITS if config.size(split)}
    seen: set[str] = set()
    repeats = 0
    for question, answer in _items(config):
        content = commuted(question)
        split = split_of(f"{config.task}\n{content}")
        wanted = split in made and len(made[split]) < config.size(split)
        repeats = 0 if wanted and content not in seen else repeats + 1
        if wanted and content not in seen:
            if not accepts(answer):
                raise BadInput(
                    f"{config.task}: answers such as {visible(repr(answer), 60)} are not canonical integers; "
                    "choose a task whose answers are, such as chain_sum, products, gcd, lcm or leg_counting"
                )
            seen.add(content)
            name = f"{config.task}-{split}-{len(made[split]) + 1:06d}"
            prompt = config.template.replace("{question}", question)
            made[split].append(Example(id=name, prompt=prompt, expected_answer=answer))
            if all(len(rows) == config.size(split) for split, rows in made.items()):
                return made
        if repeats > MOST_REPEATS:
            break
    have = ", ".join(f"{len(rows)} of {config.size(split)} for {split}" for split, rows in made.items())
    raise BadInput(f"{config.task}: has not enough different questions ({have}); ask for fewer, or widen its settings")


def _items(config: ReasoningGymConfig) -> Iterator[tuple[str, Any]]:
    """Yield questions and answers without end; the seed is hashed, because the library uses seed + index."""
    import_library()
    import reasoning_gym  # type: ignore[import-not-found,unused-ignore]
    from reasoning_gym.factory import DATASETS  # type: ignore[import-not-found,unused-ignore]

    if config.task not in DATASETS:
        raise BadInput(f"--task {config.task!r}: reasoning-gym has no such task; it has: {', '.join(sorted(DATASETS))}")
    digest = hashlib.sha256(f"lockedroom reasoning-gym {config.task} {config.seed}".encode()).digest()
    seed = int.from_bytes(digest[:6], "big")
    for part in range(_MOST_PARTS):
        try:
            dataset = reasoning_gym.create_dataset(config.task, seed=seed + part * _PART, size=_PART, **config.settings)
        except _REFUSALS as error:
            raise BadInput(
                f"--task {config.task}: reasoning-gym refuses these settings: {visible(str(error), 200)}"
            ) from None
        for index in range(_PART):
            try:
                item = dataset[index]
            except _REFUSALS as error:
                raise BadInput(
                    f"--task {config.task}: reasoning-gym cannot make a question: {visible(str(error), 200)}; "
                    "choose another task, or other settings"
                ) from None
            yield str(item["question"]), item["answer"]


def import_library() -> None:
    """Raise MissingExtra, with the install line, where reasoning-gym is not installed."""
    try:
        import reasoning_gym  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
    except ImportError:
        raise MissingExtra("dataset make reasoning-gym", "reasoning-gym") from None


def _version() -> str:
    from importlib.metadata import version

    return version("reasoning-gym")
