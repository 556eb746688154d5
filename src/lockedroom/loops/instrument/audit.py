"""Audit a scorer: open it, examine it, write the folder. What is asked is in safeguards/audit/examination.py."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from lockedroom._version import __version__
from lockedroom.dataset.load import read_examples
from lockedroom.errors import BadInput
from lockedroom.records import Example
from lockedroom.results.audit.files import files_of, summary_of
from lockedroom.results.audit.folder import write_audit
from lockedroom.results.plain_folder import refuse_existing
from lockedroom.safeguards.audit.asking import Asker, InProcess, opener
from lockedroom.safeguards.audit.cases import Golden, Kind
from lockedroom.safeguards.audit.examination import Plan, Report, examine
from lockedroom.safeguards.audit.families import FAMILIES, OTHER_FAMILIES
from lockedroom.safeguards.audit.foreign import OURS
from lockedroom.safeguards.audit.goldens import builtin_goldens, read_goldens, refuse_contradictions, refuse_outside
from lockedroom.safeguards.audit.grammar import Grammar
from lockedroom.safeguards.audit.search import require_hypothesis
from lockedroom.safeguards.environment import read_git_state, read_hardware
from lockedroom.safeguards.manifest import measure_file
from lockedroom.scorer.builtin import BUILTIN, BuiltinScorer, find_builtin
from lockedroom.scorer.custom import parse_target
from lockedroom.scorer.identity import source_sha256

MOST_EXAMPLES = 2000
SMALLEST_BUDGET_S, LARGEST_BUDGET_S = 2.0, 86_400.0
DEMO_DATASET = Path(__file__).parents[2] / "demo_data" / "arithmetic-100.jsonl"


class AuditConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an audit depends on. `budget` is wall time in seconds; `allow` names families or family.attack; `grammar` see --help."""

    scorer: str
    golden: tuple[str, ...] = ()
    dataset: str | None = None
    budget: float = 30.0
    seed: int = 0
    confidence: float = 0.95
    allow: tuple[str, ...] = ()
    signature: str = OURS
    grammar: str | None = None
    scorer_timeout: float = 2.0
    scorer_memory: int = 512


class Audited(msgspec.Struct, frozen=True):
    path: Path
    report: Report


def audit(config: AuditConfig, out: Path, *, command: Sequence[str] = ()) -> Audited:
    """Audit and write the run folder `out`. Raises BadInput for what cannot be audited at all, MissingExtra, CannotWrite."""
    require_hypothesis()
    _check(config)
    refuse_existing(out)
    began, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    builtin = find_builtin(config.scorer)
    source = _source(config, builtin)
    plan = _plan(config, builtin, source)
    try:
        with _opened(config, builtin, source) as (asker, fresh):
            report = examine(asker, fresh, plan)
    except BadInput as error:
        raise BadInput(f"could not audit {config.scorer}: {error}") from None
    report = msgspec.structs.replace(report, seconds=round(time.monotonic() - began, 3))
    inputs = {str(file): measure_file(file).sha256 for name in config.golden for file in _files(Path(name))}
    manifest = {
        "kind": "audit",
        "subject": {
            "scorer": report.scorer.name,
            "version": report.scorer.version,
            "source_sha256": source_sha256(source),
        },
        "config": msgspec.to_builtins(config),
        "inputs": inputs
        | ({} if config.dataset is None else {config.dataset: measure_file(Path(config.dataset)).sha256}),
        "command": list(command),
        "versions": {"lockedroom": __version__, "python": platform.python_version()},
        "git": read_git_state(Path.cwd()),
        "hardware": read_hardware(),
        "started": started,
        "seconds": report.seconds,
    }
    write_audit(out, files_of(report), manifest)
    return Audited(out, report)


def _check(config: AuditConfig) -> None:
    if not SMALLEST_BUDGET_S <= config.budget <= LARGEST_BUDGET_S:
        raise BadInput(
            f"--budget {config.budget:g}: an audit needs at least {SMALLEST_BUDGET_S:g} seconds, and at most {LARGEST_BUDGET_S:,g}"
        )
    if not 0 < config.confidence < 1:
        raise BadInput(f"--confidence {config.confidence:g}: give a number between 0 and 1")
    known = {*FAMILIES, *OTHER_FAMILIES}
    for allowed in config.allow:
        if allowed.partition(".")[0] not in known:
            raise BadInput(f"--allow {allowed!r}: no such family; there are {', '.join(sorted(known))}")


def _source(config: AuditConfig, builtin: BuiltinScorer | None) -> Path:
    if builtin is not None:
        if config.signature != OURS:
            raise BadInput(f"--signature: {config.scorer} is a built-in scorer, whose signature is known")
        return builtin.source
    if ".py" not in config.scorer:
        raise BadInput(
            f"{config.scorer!r}: unknown scorer; use {' or '.join(BUILTIN)}, or your own as path/to/file.py:function"
        )
    return parse_target(config.scorer)[0]


def _plan(config: AuditConfig, builtin: BuiltinScorer | None, source: Path) -> Plan:
    goldens = read_goldens([Path(name) for name in config.golden])
    if builtin is not None:
        goldens += builtin_goldens()
    if not any(golden.kind is Kind.CORRECT for golden in goldens):
        raise BadInput(
            f"could not audit {config.scorer}: there are no golden completions to start from; write at least two lines of "
            '{"expected_answer": …, "completion": …} that must score 1, with different answers, and name the file with --golden'
        )
    refuse_contradictions(goldens)
    grammar = None if config.grammar is None else Grammar(config.grammar)
    if grammar is not None:
        refuse_outside(goldens, grammar)
    dataset, name = _dataset(config, builtin, goldens)
    return Plan(
        goldens=goldens, dataset=dataset, dataset_name=name, source=source.read_text("utf-8", "replace"), budget_s=config.budget,
        seed=config.seed, confidence=config.confidence, allowed=config.allow, reference=builtin.accepted if builtin is not None else None,
        grammar=grammar,
    )  # fmt: skip


def _dataset(
    config: AuditConfig, builtin: BuiltinScorer | None, goldens: Sequence[Golden]
) -> tuple[list[Example], str]:
    if config.dataset is not None or builtin is not None:
        path = DEMO_DATASET if config.dataset is None else Path(config.dataset)
        examples: list[Example] = []
        for batch in read_examples(path):
            examples += batch
            if len(examples) >= MOST_EXAMPLES:
                break
        return examples[:MOST_EXAMPLES], path.name
    seen = {(golden.prompt, str(golden.expected_answer)): golden for golden in goldens if golden.kind is Kind.CORRECT}
    return [
        Example(id=golden.id, prompt=golden.prompt, expected_answer=golden.expected_answer) for golden in seen.values()
    ], "the goldens; name a --dataset for a figure that means something"


@contextmanager
def _opened(
    config: AuditConfig, builtin: BuiltinScorer | None, source: Path
) -> Iterator[tuple[Asker, Callable[..., AbstractContextManager[Asker]]]]:
    fresh = opener(
        config.scorer if builtin is None else f"{source}:score",
        signature=config.signature,
        timeout_s=min(config.scorer_timeout, config.budget / 4),
        memory_mb=config.scorer_memory,
        import_timeout_s=config.budget,
    )
    if builtin is not None:
        yield InProcess(builtin), fresh
    else:
        with fresh() as asker:
            yield asker, fresh


def _files(path: Path) -> Iterator[Path]:
    yield from sorted(path.glob("*.jsonl")) if path.is_dir() else [path]


def as_json(audited: Audited) -> dict[str, Any]:
    """Return what `--json` prints."""
    report = audited.report
    return {"run": str(audited.path), **summary_of(report), "findings": report.findings}
