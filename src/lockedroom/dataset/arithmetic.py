"""Arithmetic examples, seeded; train, dev and holdout share no problem, not even with its operands swapped.

Which split a problem belongs to is a property of the problem alone: it follows from the sha256 of its operator and
operands (sorted where the operator commutes). So splits made today with one seed and size, and tomorrow with others,
never overlap. Within a split, the first n examples are the same whatever the size asked for.
"""

from __future__ import annotations

import hashlib
import operator
import random
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

import msgspec

from lockedroom.dataset.folder import WrittenSplit, write_splits
from lockedroom.errors import BadInput
from lockedroom.records import Example
from lockedroom.wording import counted

Split = Literal["train", "dev", "holdout"]
SPLITS: tuple[Split, ...] = get_args(Split)

TEMPLATE = "Compute {a}{op}{b}. Output exactly one line: Final: <int>"
MOST_DIGITS = 100

_OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
# Half of all problems are for training, a quarter each for the others: the first byte of the hash, modulo 4.
_SPLIT_OF_HASH: tuple[Split, ...] = ("train", "train", "dev", "holdout")
# Operands that touch each other or a digit would make different problems read the same.
_TOUCHING = re.compile(r"(?:[0-9]|\{[ab]\})\{[ab]\}|\{[ab]\}[0-9]")


class ArithmeticConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to generate. Operands have `min_digits` to `max_digits` digits, each length equally likely."""

    operators: str = "+-*"
    min_digits: int = 1
    max_digits: int = 2
    template: str = TEMPLATE
    seed: int = 0
    train: int = 1000
    dev: int = 200
    holdout: int = 200
    non_negative: bool = False
    metadata: bool = False

    def __post_init__(self) -> None:
        _check_operators(self.operators)
        if not 1 <= self.min_digits <= self.max_digits <= MOST_DIGITS:
            found = f"{self.min_digits}-{self.max_digits}"
            raise BadInput(f"digits {found}: expected LOW-HIGH with 1 <= LOW <= HIGH <= {MOST_DIGITS}")
        for split in SPLITS:
            if self.size(split) < 0:
                raise BadInput(f"{split} {self.size(split)}: expected a number of examples, 0 or more")
        if not any(self.size(split) for split in SPLITS):
            raise BadInput("train, dev and holdout are all 0; ask for at least one example")
        _check_template(self.template, needs_operator=len(self.operators) > 1)

    def size(self, split: Split) -> int:
        return {"train": self.train, "dev": self.dev, "holdout": self.holdout}[split]


def split_of(content: str) -> Split:
    """Say which split a problem belongs to, under every seed and size."""
    return _SPLIT_OF_HASH[hashlib.sha256(content.encode()).digest()[0] % len(_SPLIT_OF_HASH)]


class Problem(msgspec.Struct, frozen=True, gc=False):
    """Two operands and what stands between them."""

    a: int
    op: str
    b: int

    def split(self) -> Split:
        """Say which split the problem belongs to, under every seed, size and template."""
        return split_of(self.normalised())

    def normalised(self) -> str:
        """Write the problem so that 4+3 and 3+4 are one."""
        first, second = sorted((self.a, self.b)) if self.op in "+*" else (self.a, self.b)
        return f"{first}{self.op}{second}"


def generate(config: ArithmeticConfig, split: Split) -> Iterator[Example]:
    """Yield the examples of one split; the same on every platform and under every PYTHONHASHSEED.

    Raises BadInput, after the last problem there is, when the split asks for more than exist.
    """
    size = config.size(split)
    made = 0
    for made, problem in enumerate(islice(_problems(config, split), size), 1):
        yield _example(config, f"arith-{split}-{made:06d}", problem)
    if made < size:
        raise BadInput(
            f"{split}: {counted(size, 'example was', 'examples were')} asked for, and only {counted(made, 'different problem belongs', 'different problems belong')} to this split; "
            f"ask for at most {made}, or allow more digits or operators"
        )


def write_dataset(config: ArithmeticConfig, folder: Path) -> list[WrittenSplit]:
    """Write a JSON Lines file for each split that is not empty, and `dataset.toml`, which says how they were made.

    All or nothing: the folder appears when everything is on disk. Raises BadInput when it exists and is not empty.
    """
    splits: dict[str, Iterator[Example]] = {split: generate(config, split) for split in SPLITS if config.size(split)}
    return write_splits(folder, splits, "arithmetic", msgspec.structs.asdict(config))


def _check_operators(operators: str) -> None:
    unknown = [op for op in operators if op not in _OPERATIONS]
    if unknown or not operators or len(set(operators)) < len(operators):
        raise BadInput(f"operators {operators!r}: expected one or more of + - *, each once, such as +-")


def _check_template(template: str, *, needs_operator: bool) -> None:
    where = f"template {template!r}"
    for name in ("{a}", "{b}", *(["{op}"] if needs_operator else [])):
        if name not in template:
            raise BadInput(f"{where}: {name} is missing; write it where it should stand")
    if _TOUCHING.search(template):
        raise BadInput(f"{where}: an operand touches the other one or a digit; put something between them")
    if "\0" in template or any("\ud800" <= character <= "\udfff" for character in template):
        raise BadInput(f"{where}: holds a NUL or a lone surrogate; remove it")


def _problems(config: ArithmeticConfig, split: Split) -> Iterator[Problem]:
    """Yield every problem of a split once, in random order, balanced over operators and operand lengths."""
    seed = hashlib.sha256(f"lockedroom arithmetic {config.seed} {split}".encode()).digest()
    rng = random.Random(int.from_bytes(seed, "big"))
    lengths = range(config.min_digits, config.max_digits + 1)
    live = [
        _shuffled(rng, op, digits_a, digits_b)
        for op in config.operators
        for digits_a in lengths
        for digits_b in lengths
        if not (config.non_negative and op == "-" and digits_a < digits_b)
    ]
    while live:
        problems = rng.choice(live)
        problem = next(problems, None)
        if problem is None:
            live.remove(problems)
        elif problem.split() == split and not (config.non_negative and problem.op == "-" and problem.a < problem.b):
            yield problem


def _shuffled(rng: random.Random, op: str, digits_a: int, digits_b: int) -> Iterator[Problem]:
    """Yield each problem with operands of these lengths once; the memory grows with what was drawn."""
    low_a, count_a = _operands(digits_a)
    low_b, count_b = _operands(digits_b)
    drawn: set[int] = set()
    while len(drawn) < count_a * count_b:
        index = rng.randrange(count_a * count_b)
        if index not in drawn:
            drawn.add(index)
            a, b = divmod(index, count_b)
            yield Problem(low_a + a, op, low_b + b)


def _operands(digits: int) -> tuple[int, int]:
    """Return the smallest number of so many digits, and how many there are; zero has one digit."""
    low = 0 if digits == 1 else 10 ** (digits - 1)
    return low, 10**digits - low


def _example(config: ArithmeticConfig, example_id: str, problem: Problem) -> Example:
    prompt = config.template
    for name, value in msgspec.structs.asdict(problem).items():
        prompt = prompt.replace(f"{{{name}}}", str(value))
    answer = _OPERATIONS[problem.op](problem.a, problem.b)
    metadata = msgspec.structs.asdict(problem) if config.metadata else None
    return Example(id=example_id, prompt=prompt, expected_answer=answer, metadata=metadata)
