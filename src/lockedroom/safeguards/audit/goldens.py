"""Golden completions as reviewed data: read, checked, added to; and those that come with a built-in scorer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.errors import BadInput
from lockedroom.jsonl import read_batches
from lockedroom.records import Example
from lockedroom.safeguards.audit.cases import Golden, Kind, answer_key, know, slot_of
from lockedroom.safeguards.audit.grammar import Grammar
from lockedroom.scorer import final_int
from lockedroom.visible import visible

# The answers whose golden completions come with the built-in scorers: signs, sizes beyond every machine integer and float.
_ANSWERS: tuple[Any, ...] = (7, 0, -7, 42, 323, -1000000, "12", 9007199254740993, 10**40 + 7)
_BY_FILE_NAME = {"correct": Kind.CORRECT, "exploits": Kind.EXPLOIT, "contested": Kind.CONTESTED}


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    expected_answer: Any
    completion: Any
    id: str | None = None
    kind: str | None = None
    family: str | None = None
    prompt: str = ""
    code: str | None = None
    note: str | None = None


def builtin_goldens() -> list[Golden]:
    """Return the golden completions of `final-int`, which `permissive` pays too."""
    return [
        Golden(id=f"builtin-{i}{'n' * j}", prompt=f"What is {answer} + 0?", expected_answer=answer, completion=text)
        for i, answer in enumerate(_ANSWERS)
        for j, text in enumerate(final_int.accepted(Example(id="", prompt="", expected_answer=answer)))
    ]


def read_goldens(paths: Sequence[Path]) -> list[Golden]:
    """Return the goldens of files, and of folders that hold correct.jsonl, exploits.jsonl, contested.jsonl.

    A row's `kind` counts; without one, the file's name (one of those three); else it is a golden correct. Raises BadInput.
    """
    goldens: list[Golden] = []
    for path in paths:
        files = [path / f"{name}.jsonl" for name in _BY_FILE_NAME] if path.is_dir() else [path]
        found = [file for file in files if not path.is_dir() or file.is_file()]
        if not found:
            raise BadInput(
                f"{path}: holds none of {', '.join(f'{name}.jsonl' for name in _BY_FILE_NAME)}; name a golden file"
            )
        for file in found:
            goldens += _apart(file, goldens, _read(file))
    return goldens


def _apart(path: Path, read: Sequence[Golden], more: Sequence[Golden]) -> list[Golden]:
    """Ids tell goldens apart in every report: an id that another file has used already is written with its file."""
    taken = {golden.id for golden in read}
    return [
        msgspec.structs.replace(golden, id=f"{path}:{golden.id}") if golden.id in taken else golden for golden in more
    ]


def _read(path: Path) -> list[Golden]:
    goldens: list[Golden] = []
    lines: dict[str, str] = {}
    for batch in read_batches(path, _Row):
        for i, row in enumerate(batch.rows):
            where = f"{path}:{batch.first_line + i}"
            kind = _kind(where, row.kind) or _BY_FILE_NAME.get(path.stem, Kind.CORRECT)
            if kind is Kind.CORRECT and not isinstance(row.completion, str):
                raise BadInput(
                    f"{where}: completion: a golden correct is a string; mark the row as kind exploit or correct it"
                )
            if row.family is not None and not row.family.isprintable():
                raise BadInput(f"{where}: family: unprintable characters; use a plain word")
            name = row.id or f"{path.stem}-{batch.first_line + i}"
            if lines.setdefault(name, where) != where:
                raise BadInput(f"{where}: id {visible(name, 60)!r} stands in {lines[name]} already; rename one")
            goldens.append(
                Golden(
                    id=name, expected_answer=row.expected_answer, completion=row.completion,
                    kind=kind, family=row.family or "golden", prompt=row.prompt, code=row.code, note=row.note,
                )
            )  # fmt: skip
    return goldens


def _kind(where: str, name: str | None) -> Kind | None:
    kinds = [kind.value for kind in Kind]
    if name is not None and name not in kinds:
        raise BadInput(f"{where}: kind: {visible(name, 60)!r} is none of {', '.join(kinds)}; use one of them")
    return None if name is None else Kind(name)


def refuse_contradictions(goldens: Sequence[Golden]) -> None:
    """Raise BadInput when one text is both correct and an exploit for one answer."""
    kinds: dict[tuple[str, str], Golden] = {}
    for golden in goldens:
        key = (answer_key(golden.expected_answer), repr(golden.completion))
        other = kinds.setdefault(key, golden)
        if other.kind is not golden.kind:
            raise BadInput(
                f"goldens {other.id!r} ({other.kind.value}) and {golden.id!r} ({golden.kind.value}) are the same case: "
                f"expected {visible(key[0], 60)}, completion {visible(str(golden.completion), 100)!r}; remove one"
            )


def refuse_outside(goldens: Sequence[Golden], grammar: Grammar) -> None:
    """Raise BadInput when a golden correct is not in the grammar, or an exploit is."""
    known = know([], grammar=grammar)
    for golden in goldens:
        example = Example(id=golden.id, prompt=golden.prompt, expected_answer=golden.expected_answer)
        inside = known.in_grammar(example, golden.completion)
        if golden.kind is not Kind.CONTESTED and inside is not (golden.kind is Kind.CORRECT):
            raise BadInput(
                f"golden {golden.id!r} is {golden.kind.value}, and its completion {visible(str(golden.completion), 100)!r} is "
                f"{'in' if inside else 'not in'} the grammar {visible(grammar.template, 100)!r}; correct one of the two"
            )


def choose_seeds(correct: Sequence[Golden], most: int) -> list[Golden]:
    """Return golden corrects to derive attacks from: different answers first, short texts first, one negative at least."""
    by_answer: dict[str, Golden] = {}
    for golden in sorted(correct, key=lambda golden: (len(golden.completion), golden.id)):
        by_answer.setdefault(answer_key(golden.expected_answer), golden)
    seeds = list(by_answer.values())
    negative = next((i for i, golden in enumerate(seeds) if answer_key(golden.expected_answer).startswith("-")), None)
    if negative is not None and negative >= most > 1:
        seeds[most - 1] = seeds[negative]
    cut = [golden for golden in seeds if slot_of(golden) is None]
    return [*(golden for golden in seeds if golden not in cut), *cut][:most]


def wrong_answer(golden: Golden, others: Sequence[Golden]) -> str:
    """Return an answer that is wrong for this golden: the next integer, or another golden's answer."""
    slot = slot_of(golden)
    if slot is not None and slot.integer and len(slot.answer) < 400:
        return str(int(slot.answer) + 1)
    mine = answer_key(golden.expected_answer)
    return next((key for key in (answer_key(other.expected_answer) for other in others) if key != mine), "0")
