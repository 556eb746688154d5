"""What tests of the audit begin with: goldens, a plan, and an examination of a file's function."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lockedroom.jsonl import encode_lines
from lockedroom.records import Example
from lockedroom.safeguards.audit.asking import Isolated
from lockedroom.safeguards.audit.cases import Golden
from lockedroom.safeguards.audit.examination import Examination, Plan

HERE = Path(__file__).parent
SUBJECTS = HERE / "subjects.py"
HOSTILE = HERE / "hostile" / "everywhere.py"
ANSWERS = (7, 42, -7, 0, 323)


def goldens() -> list[Golden]:
    return [
        Golden(id=f"g{i}", expected_answer=answer, completion=f"Final: {answer}", prompt=f"What is {answer} + 0?")
        for i, answer in enumerate(ANSWERS)
    ]


def write_goldens(folder: Path) -> Path:
    path = folder / "goldens.jsonl"
    path.write_bytes(encode_lines(goldens()))
    return path


def plan(source: Path, **changes: Any) -> Plan:
    examples = [Example(id=one.id, prompt=one.prompt, expected_answer=one.expected_answer) for one in goldens()]
    settings: dict[str, Any] = {"budget_s": 30.0, **changes}
    return Plan(
        goldens=goldens(), dataset=examples, dataset_name="goldens", source=source.read_text("utf-8"), **settings
    )


@contextlib.contextmanager
def examination(
    function: str, source: Path = SUBJECTS, timeout_s: float = 1.0, memory_mb: int = 256, **changes: Any
) -> Iterator[Examination]:
    """Yield an examination of one function, ready for any stage."""

    def fresh(*, elsewhere: str = "") -> Isolated:
        return Isolated(f"{source}:{function}", timeout_s=timeout_s, memory_mb=memory_mb, elsewhere=elsewhere)

    with fresh() as asker:
        yield Examination(asker, fresh, plan(source, **changes))
