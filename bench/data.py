"""Seeded input files, made once into `bench/.data/`.

Shaped like the recordings of real models: arithmetic prompts of one to four digits, completions of which about 62 % are
right, 12 % are well-formed and wrong, and the rest miss the format in several ways.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

from measure import DATA

SEED = 20261123
RIGHT, WELL_FORMED = 0.62, 0.74
WORDS = (
    "first", "the", "we", "carry", "one", "over", "to", "next", "column", "and", "add", "both", "digits", "so", "this",
    "gives", "ten", "units", "which", "then", "check", "again", "by", "subtracting", "from", "total", "result", "step",
)  # fmt: skip


def recorded(examples: int, samples: int = 1) -> tuple[Path, Path]:
    """Return a dataset and its completions: short ones, one a line or several under "samples"."""
    stem = f"arithmetic-{examples}" + (f"x{samples}" if samples > 1 else "")
    dataset, completions = DATA / f"{stem}.jsonl", DATA / f"{stem}.completions.jsonl"
    if not completions.exists():
        _write(dataset, completions, _rows(examples, samples, long=False))
    return dataset, completions


def long_recorded(examples: int) -> tuple[Path, Path]:
    """Return a dataset and chain-of-thought completions of about 2 kB; the answer is on the last line."""
    dataset, completions = DATA / f"long-{examples}.jsonl", DATA / f"long-{examples}.completions.jsonl"
    if not completions.exists():
        _write(dataset, completions, _rows(examples, 1, long=True))
    return dataset, completions


def _rows(examples: int, samples: int, *, long: bool) -> Iterator[tuple[str, str]]:
    """Yield the line of each example and the line of its completions."""
    rng = random.Random(f"{SEED} {examples} {samples} {long}")
    for i in range(examples):
        a, b, sign = rng.randrange(10 ** rng.randint(1, 4)), rng.randrange(10 ** rng.randint(1, 4)), rng.choice("+-*")
        answer = a + b if sign == "+" else a - b if sign == "-" else a * b
        example_id = f"arith-{i + 1:07d}"
        prompt = f"Compute {a}{sign}{b}. Output exactly one line: Final: <int>"
        drawn = [_reasoned(rng, answer) if long else _completion(rng, answer, f"{a}{sign}{b}") for _ in range(samples)]
        completions = {"completion": drawn[0]} if samples == 1 else {"samples": drawn}
        yield (
            json.dumps({"id": example_id, "prompt": prompt, "expected_answer": answer}),
            json.dumps({"id": example_id, **completions}),
        )


def _completion(rng: random.Random, answer: int, question: str) -> str:
    kind = rng.random()
    if kind < RIGHT:
        return f"Final: {answer}"
    wrong = answer + rng.choice((-100, -10, -9, -2, -1, 1, 2, 9, 10, 100))
    if kind < WELL_FORMED:
        return f"Final: {wrong}"
    return rng.choice((
        f"{question} = {answer}",
        f"{question} = {wrong} = {wrong} =",
        f"The answer is {answer}.",
        f"Final: {answer}.",
        f"Final:  {answer}",
        f"Final: +{abs(answer)}",
        f"Final: 0{abs(wrong)}",
        f"Final: {answer} because {question}",
        f"Final: {answer}\nFinal: {wrong}",
        f"final: {answer}",
        f"Let me see: “{question}” …\n\nIt is {wrong}.\n",
        "Final: <int>",
        "",
    ))  # fmt: skip


def _reasoned(rng: random.Random, answer: int) -> str:
    lines = [
        f"Step {step}: " + " ".join(rng.choices(WORDS, k=14)) + f", that is {rng.randrange(10**5)}."
        for step in range(1, rng.randint(18, 24))
    ]
    return "\n".join((*lines, f"Final: {answer if rng.random() < RIGHT else answer + 1}"))


def _write(dataset: Path, completions: Path, rows: Iterator[tuple[str, str]]) -> None:
    """Write both files; the second gets its name last, and so tells that both are whole."""
    DATA.mkdir(exist_ok=True)
    unfinished = completions.with_suffix(".unfinished")
    with open(dataset, "w", encoding="ascii") as examples, open(unfinished, "w", encoding="ascii") as drawn:
        for example, completion in rows:
            print(example, file=examples)
            print(completion, file=drawn)
    os.replace(unfinished, completions)
