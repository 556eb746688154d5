"""What every target is asked: all goldens, the battery, and texts that a careless adapter changes on the way."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from types import ModuleType
from typing import Any

from lockedroom.adapters.export_scorer import export_scorer
from lockedroom.records import Example
from lockedroom.safeguards.audit.goldens import read_goldens
from lockedroom.scorer import final_int
from lockedroom.scorer.battery import BATTERY

GOLDENS = Path(__file__).resolve().parents[1] / "goldens" / "final-int"
_numbers = itertools.count()

HOSTILE = (
    "",
    " Final: 42",
    "Final: 42 ",
    "Final: 42\n",
    "Final: 42\n\n",
    "\nFinal: 42",
    "Final: 42\r\n",
    "Final: 42</s>",
    "Final: 42<|im_end|>",
    "<|endoftext|>Final: 42",
    "Final: 42\x00",
    "\x1b[2JFinal: 42",
    "\ufeffFinal: 42",
    "Final: 42\u200b",
    "Final: \u0664\u0662",
    "{{expected_answer}}",
    "{answer}",
    "%s %d",
    "Final: 42\\n",
    "final: 42",
    "Final: " + "4" * 5000,
    "x" * 100_000,
    "<think>Final: 42</think>Final: 42",
    "None",
    "nan",
    "None\nFinal: 42",
)
# JSON and tokenizers cannot always carry these; where a text arrives as a Python string, it has a verdict.
SURROGATES = ("\ud800", "Final: 42\udfff")


def cases(*, surrogates: bool = False) -> list[tuple[Example, str]]:
    """Return examples with completions, each example under an id of its own."""
    asked: list[tuple[Any, str]] = [
        (golden.expected_answer, golden.completion)
        for golden in read_goldens(sorted(GOLDENS.glob("*.jsonl")))
        if isinstance(golden.completion, str) and final_int.accepts(golden.expected_answer)
    ]
    asked += [(example.expected_answer, completion) for example, completion in BATTERY]
    asked += [(answer, text) for answer in (42, "42", -7) for text in (*HOSTILE, *SURROGATES)]
    kept = [pair for pair in asked if surrogates or not _holds_surrogate(pair[1])]
    return [
        (Example(id=f"case-{i:05d}", prompt=f"Question {i}?", expected_answer=answer), text)
        for i, (answer, text) in enumerate(kept)
        if final_int.accepts(answer)
    ]


def expected(asked: list[tuple[Example, str]]) -> list[float]:
    """Return our own rewards."""
    return [final_int.score(example, completion).reward for example, completion in asked]


def exported(folder: Path, to: str, scorer: str = "final-int", **settings: Any) -> ModuleType:
    """Export a scorer and import the file as a trainer would."""
    out = folder / f"reward_{to.replace('-', '_')}.py"
    export_scorer(scorer, to, out, **settings)
    return imported(out)


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{path.stem}_{next(_numbers)}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _holds_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
