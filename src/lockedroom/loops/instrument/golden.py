"""Golden completions and a scorer: is each judged as its reviewer said? And findings that become goldens."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.errors import BadInput
from lockedroom.jsonl import encode_lines
from lockedroom.records import Example, Failure, FailureCode
from lockedroom.results.audit.folder import FINDINGS
from lockedroom.results.run_folder import write_atomically
from lockedroom.safeguards.audit.asking import Asker, Clock, InProcess, Isolated, Question, Said
from lockedroom.safeguards.audit.cases import Golden, Kind, answer_key
from lockedroom.safeguards.audit.foreign import OURS
from lockedroom.safeguards.audit.goldens import read_goldens, refuse_contradictions
from lockedroom.safeguards.audit.report import said_in_words
from lockedroom.scorer.builtin import find_builtin

# A check has no budget: it ends when every golden has its verdict, and each call has its own time-out.
NO_LIMIT_S = 86_400.0


class Disagreement(msgspec.Struct, frozen=True):
    """A golden that is not judged as reviewed."""

    id: str
    kind: Kind
    expected_answer: Any
    completion: Any
    trouble: str


class Checked(msgspec.Struct, frozen=True):
    checked: int
    wrong: list[Disagreement]


class Added(msgspec.Struct, frozen=True):
    added: list[str]
    present: int


def check_goldens(
    scorer: str, paths: Sequence[Path], *, signature: str = OURS, timeout_s: float, memory_mb: int
) -> Checked:
    """Ask the scorer about every golden. Raises BadInput for files or a scorer that cannot be used."""
    goldens = read_goldens(paths)
    if not goldens:
        raise BadInput(f"{', '.join(map(str, paths))}: there is no golden to check")
    refuse_contradictions(goldens)
    builtin = find_builtin(scorer)
    if builtin is not None:
        return _check(InProcess(builtin), goldens)
    with Isolated(scorer, signature=signature, timeout_s=timeout_s, memory_mb=memory_mb) as asker:
        return _check(asker, goldens)


def add_goldens(audit: Path, ids: Sequence[str], to: Path, *, kind: Kind | None, note: str | None) -> Added:
    """Append findings to a golden file, each once. Raises BadInput for an id that the audit does not hold."""
    if not (audit / FINDINGS).is_file():
        raise BadInput(f"{audit}: no {FINDINGS} here; name an audit folder")
    if to.is_dir() or not to.parent.is_dir():
        raise BadInput(f"{to}: {'is a folder' if to.is_dir() else 'its folder does not exist'}; name a file with --to")
    findings = read_goldens([audit / FINDINGS])
    unknown = sorted(set(ids) - {finding.id for finding in findings})
    if unknown:
        held = ", ".join(finding.id for finding in findings) or "none"
        raise BadInput(f"{audit}: no finding {unknown[0]!r}; it holds {held}")
    old = read_goldens([to]) if to.is_file() else []
    chosen = [
        msgspec.structs.replace(finding, kind=kind or finding.kind, note=note or finding.note)
        for finding in findings
        if not ids or finding.id in ids
    ]
    decided = [golden for golden in chosen if kind is not None]  # against what the file says: refused, not passed over
    present = {_same(golden) for golden in old}
    new = _named([golden for golden in chosen if _same(golden) not in present], {golden.id for golden in old})
    refuse_contradictions([*old, *new, *decided])
    before = to.read_bytes() if to.is_file() else b""
    if before and not before.endswith(b"\n"):
        before += b"\n"
    if new:
        # `kind` is written out, so that the row means the same in a file of any name.
        rows = [{"kind": golden.kind.value, **_row(golden)} for golden in new]
        write_atomically(to, before + encode_lines(rows))
    return Added([golden.id for golden in new], len(chosen) - len(new))


def _named(goldens: Sequence[Golden], taken: set[str]) -> list[Golden]:
    """Give a number to every id that another audit has used in this file."""
    named = []
    for golden in goldens:
        numbered = (golden.id if i == 1 else f"{golden.id}-{i}" for i in itertools.count(1))
        name = next(one for one in numbered if one not in taken)
        taken.add(name)
        named.append(msgspec.structs.replace(golden, id=name))
    return named


def _row(golden: Golden) -> dict[str, Any]:
    return {name: value for name, value in msgspec.to_builtins(golden).items() if name != "kind"}


def _same(golden: Golden) -> tuple[str, str]:
    return answer_key(golden.expected_answer), repr(golden.completion)


def _check(asker: Asker, goldens: Sequence[Golden]) -> Checked:
    questions = [
        Question(Example(id=golden.id, prompt=golden.prompt, expected_answer=golden.expected_answer), golden.completion)
        for golden in goldens
    ]
    full = asker.spec.reward_range[1]
    said = asker.ask(questions, Clock(NO_LIMIT_S), patience=len(questions) + 1)
    wrong = [
        Disagreement(golden.id, golden.kind, golden.expected_answer, golden.completion, trouble)
        for golden, one in zip(goldens, said, strict=True)
        if (trouble := _trouble(golden, one, full))
    ]
    return Checked(len(goldens), wrong)


def _trouble(golden: Golden, said: Said | None, full: float) -> str:
    """Say what is wrong with a verdict, or nothing."""
    if said is None:
        return "no verdict"
    if isinstance(said.result, Failure):
        # A scorer of one's own is only ever handed text in a run: what it does with anything else is its author's choice.
        choice = golden.kind is not Kind.CORRECT and not isinstance(golden.completion, str)
        return "" if choice and said.result.code is FailureCode.SCORER_RAISED else said_in_words(said)
    reward, code = said.result.reward, said.result.details.code
    if golden.kind is Kind.CORRECT and reward != full:
        return f"must get reward {full:g}: {said_in_words(said)}"
    if golden.kind is Kind.EXPLOIT and reward > full / 2:
        return f"must not be paid: {said_in_words(said)}"
    if golden.code is not None and golden.code != code:
        return f"must get code {golden.code}: {said_in_words(said)}"
    return ""
