"""From what a person names to what Loop B needs: the verified run, the scorers, the selector and its knob."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from lockedroom.dataset.load import first_refused_by
from lockedroom.errors import BadInput, NotComparable
from lockedroom.jsonl import read_batches, reword
from lockedroom.loops.opening.named import identify, open_scorer
from lockedroom.loops.selecting.answers import OwnReader, make_reader, scorer_file_of
from lockedroom.loops.selecting.own_selector import OwnSelector, open_selector_file
from lockedroom.protocols import BatchScorer, Scorer
from lockedroom.records import Example
from lockedroom.results.run_folder import EXAMPLES, RECORDS
from lockedroom.results.selection.files import CONFIRM
from lockedroom.results.selection.picking import AnySelector, AuditedErrors, Plan, check_ns
from lockedroom.results.selection.search import STRATEGIES
from lockedroom.results.selection.selectors import (
    NAMES,
    NO_PARSER,
    PROXY,
    VOTING,
    Parse,
    TieRule,
    Ties,
    builtin_selector,
    parser,
)
from lockedroom.results.verify import verify
from lockedroom.safeguards import manifest as manifests
from lockedroom.safeguards.room import ScorerIdentity
from lockedroom.scorer.builtin import BUILTIN
from lockedroom.stats.pass_at_k import UnequalDraws
from lockedroom.visible import visible

if TYPE_CHECKING:
    from lockedroom.results.audit.folder import AuditManifest
    from lockedroom.safeguards.audit.examination import Report


class SelectConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What to select from and how; saved as `config.toml`. `measure` None stands for the run's own scorer."""

    run: str
    selector: str
    ns: tuple[int, ...] = ()
    measure: str | None = None
    parse: str | None = None
    confirm: str | None = None
    seed: int = 0
    beta: float = 0.1
    confidence: float = 0.95
    unequal: UnequalDraws = "refuse"
    resamples: int = 2000
    verifier_errors: tuple[float, float] | None = None
    verifier_audit: str | None = None
    tie_break: TieRule = "logprob"
    scorer_timeout: float = 5.0
    scorer_memory: int = 512


class Source(msgspec.Struct, frozen=True):
    """A verified run to draw from, and where its draws go (`prefix`)."""

    path: Path
    manifest: manifests.Manifest
    prefix: str = ""


class Judges(msgspec.Struct, frozen=True):
    """`measure` None: the run's own verdicts stand. `proxy` None: the selector is no proxy."""

    measure: Scorer | None
    proxy: Scorer | None
    measured_by: ScorerIdentity
    proxy_identity: ScorerIdentity | None


class Chosen(msgspec.Struct, frozen=True):
    """The selector with everything that decides its numbers, and the knob as the manifest declares it."""

    selector: AnySelector
    plan: Plan
    parse: Parse
    knob: dict[str, Any]
    reader: OwnReader | None = None


def settle_select_config(config: SelectConfig) -> SelectConfig:
    """Return the configuration with every field of its own type, paths as text. Raises BadInput for one that cannot be."""
    try:
        settled = msgspec.convert(msgspec.to_builtins(config, enc_hook=str), SelectConfig)
    except msgspec.ValidationError as error:
        raise BadInput(f"SelectConfig: {reword(str(error))}") from None
    check_select_config(settled)
    return settled


def check_select_config(config: SelectConfig) -> None:
    if not 0.5 < config.confidence < 1:
        raise BadInput(f"--confidence {config.confidence}: must lie between 0.5 and 1, e.g. 0.95")
    if not 0 <= config.beta < float("inf"):
        raise BadInput(f"--beta {config.beta}: must be 0 or more and finite")
    if config.seed < 0 or config.resamples < 0:
        raise BadInput("--seed and --resamples must be 0 or more")
    if config.parse is not None and config.parse not in BUILTIN and ".py" not in config.parse:
        raise BadInput(
            f"--parse {visible(config.parse, 60)!r}: answers are parsed by {' or '.join(BUILTIN)}, or by your own as "
            "path/to/file.py:function"
        )
    errors = config.verifier_errors or (0.0, 0.0)
    if config.verifier_errors is not None and config.verifier_audit is not None:
        raise BadInput("--verifier-errors: give two rates or an audit folder, not both")
    if not all(0 <= rate <= 1 for rate in errors):
        raise BadInput(f"--verifier-errors {errors[0]},{errors[1]}: two rates between 0 and 1, e.g. 0.05,0")


def check_before_drawing(config: SelectConfig, draws: int | None) -> None:
    """Raise BadInput for what could only be refused after `draws` of every example were paid for; None: not known yet."""
    check_select_config(config)
    if draws is not None and draws > 0:
        check_ns(config.ns, draws)
    with contextlib.ExitStack() as stack:
        if config.selector.startswith(PROXY):
            _open_named(config, config.selector.removeprefix(PROXY), f"--selector {PROXY}", stack)
        elif config.selector not in NAMES:
            stack.enter_context(_open_own_selector(config))
        if config.parse is not None and config.parse not in BUILTIN:
            _open_named(config, config.parse, "--parse ", stack)
    if config.verifier_audit is not None:
        _open_audit(Path(config.verifier_audit))


def open_source(path: Path) -> Source:
    manifest = verify(path).manifest
    if manifest.selection.get("selector", "none") != "none":
        raise BadInput(
            f"{path}: is a selection already, with one completion an example; select from the run it was made from"
        )
    return Source(path, manifest)


def open_fresh(path: Path, source: Source) -> Source:
    """Open the draws that confirm: the same policy in the same room, drawn again."""
    fresh = open_source(path)
    theirs, ours = fresh.manifest, source.manifest
    if theirs.room != ours.room or theirs.policy != ours.policy:
        raise NotComparable(f"not comparable: {path} is not the same policy in the same room as {source.path}; draw again "
                            "with everything equal but the seed")  # fmt: skip
    if theirs.files[RECORDS].sha256 == ours.files[RECORDS].sha256:
        raise BadInput(f"{path}: holds the same draws as {source.path}; fresh draws need another --seed")
    return Source(path, theirs, CONFIRM)


def open_judges(config: SelectConfig, source: Source, stack: contextlib.ExitStack) -> Judges:
    """Open the scorer that measures, unless the run was judged by it already, and the proxy if there is one."""
    measured_by = source.manifest.room.scorer
    measure = proxy = proxy_identity = None
    if config.measure is not None:
        found = _open_scorer(config, config.measure, "--measure ", source, stack)
        identity = identify(found)
        if identity != measured_by:
            measure, measured_by = found, identity
    if config.selector.startswith(PROXY):
        proxy = _open_scorer(config, config.selector.removeprefix(PROXY), f"--selector {PROXY}", source, stack)
        proxy_identity = identify(proxy)
    return Judges(measure, proxy, measured_by, proxy_identity)


def _open_named(config: SelectConfig, name: str, flag: str, stack: contextlib.ExitStack) -> Scorer:
    """Open a scorer; a name that is none is refused under the flag that gave it."""
    if name not in BUILTIN and ".py" not in name:
        raise BadInput(
            f"{flag}{visible(name, 60)}: unknown scorer; use {' or '.join(BUILTIN)}, or your own as path/to/file.py:function"
        )
    return stack.enter_context(open_scorer(name, timeout_s=config.scorer_timeout, memory_mb=config.scorer_memory))


def _open_own_selector(config: SelectConfig) -> contextlib.AbstractContextManager[OwnSelector]:
    return open_selector_file(config.selector, timeout_s=config.scorer_timeout, memory_mb=config.scorer_memory)


def _open_scorer(config: SelectConfig, name: str, flag: str, source: Source, stack: contextlib.ExitStack) -> Scorer:
    scorer = _open_named(config, name, flag, stack)
    first_refused = scorer.first_refused if isinstance(scorer, BatchScorer) else first_refused_by(scorer.accepts)
    for batch in read_batches(source.path / EXAMPLES, Example):
        index = first_refused([example.expected_answer for example in batch.rows])
        if index is not None:
            raise BadInput(
                f"{source.path / EXAMPLES}:{batch.first_line + index}: id {visible(batch.rows[index].id, 60)!r}: "
                f"{scorer.spec.name} cannot judge its expected answer; use a scorer that can"
            )
    return scorer


def require_selector(name: str, others: Sequence[str] = ()) -> None:
    """Raise BadInput for a name that is no selector, before anything is drawn for it; `others` are known elsewhere."""
    if name in STRATEGIES and name not in others:
        raise BadInput(
            f"--selector {name}: searches token by token, so it takes no run; use `lockedroom select` with --dataset and --policy, "
            "or lockedroom.loops.selecting.search.search"
        )
    known = (*NAMES, *others)
    if name not in known and not name.startswith(PROXY) and ".py" not in name:
        import difflib

        near = difflib.get_close_matches(name.lower().replace("_", "-"), known, 1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        raise BadInput(f"--selector {visible(name, 60)!r}: unknown selector{meant}; use {', '.join(known)}, {PROXY}SCORER, "
                       "or your own as path/to/file.py:Class")  # fmt: skip


def open_selector(config: SelectConfig, source: Source, judges: Judges, stack: contextlib.ExitStack) -> Chosen:
    parse_name, reader = _open_parser(config, source, judges, stack)
    parse: Parse = parser(parse_name) if reader is None else reader.known
    require_selector(config.selector)
    selector: AnySelector | None = builtin_selector(
        config.selector, seed=config.seed, beta=config.beta, parse=parse, ties=Ties(config.tie_break, config.seed)
    )
    name = config.selector
    if selector is None:
        selector = stack.enter_context(_open_own_selector(config))
        name = selector.name
    ns = check_ns(config.ns, source.manifest.draws)
    plan = Plan(
        selector=name,
        ns=ns,
        parse=parse_name,
        seed=config.seed,
        beta=config.beta,
        confidence=config.confidence,
        unequal=config.unequal,
        resamples=config.resamples,
        verifier_errors=config.verifier_errors,
        verifier_audit=None if config.verifier_audit is None else _read_errors(Path(config.verifier_audit), judges),
        tie_break=config.tie_break,
    )
    knob: dict[str, Any] = {"draws": 1, "selector": name, "n": ns[-1]}
    if config.tie_break != "logprob":
        knob["tie_break"] = config.tie_break
    if name == "random" or config.tie_break == "random":
        knob["seed"] = config.seed
    if name == "kl-regularized":
        knob["beta"] = config.beta
    if name in VOTING:
        knob["parse"] = parse_name
        if reader is not None:
            knob["parse_source_sha256"] = reader.sha256
    if judges.proxy_identity is not None:
        knob["proxy_source_sha256"] = judges.proxy_identity.source_sha256
    if isinstance(selector, OwnSelector):
        knob["source_sha256"] = selector.sha256
    return Chosen(selector, plan, parse, knob, reader)


def _open_parser(
    config: SelectConfig, source: Source, judges: Judges, stack: contextlib.ExitStack
) -> tuple[str, OwnReader | None]:
    """Return the name of what reads answers and, for a person's scorer, its reader.

    Unless --parse names one, it is the scorer that measures; a person's, whose calls may cost much, only where answers vote.
    """
    name, flag = config.parse, "--parse "
    if name is None and judges.measured_by.name in BUILTIN:
        name = judges.measured_by.name
    if name is None and config.selector not in VOTING:
        name = NO_PARSER
    if name is None:
        flag = "--measure "
        name = config.measure or scorer_file_of(source.path, judges.measured_by)
    if name is None:
        raise BadInput(
            f"--selector {config.selector}: {visible(judges.measured_by.name, 60)} measured this run, and its file is not "
            "where it was, or has changed; name what reads the answers that vote: --parse path/to/file.py:function"
        )
    if ".py" not in name:
        return name, None
    scorer = _open_named(config, name, flag, stack)
    assert isinstance(scorer, BatchScorer)  # what no built-in is
    return f"own:{scorer.spec.name}", make_reader(scorer, f"own:{scorer.spec.name}", source.path)


def _open_audit(path: Path) -> tuple[AuditManifest, Report]:
    from lockedroom.results.audit.check import open_audit
    from lockedroom.results.kinds import read_kind

    kind = read_kind(path)
    if kind != "audit":
        raise BadInput(
            f"--verifier-errors {path}: is of kind {visible(kind, 40)!r}, not an audit; make one with: lockedroom audit SCORER"
        )
    return open_audit(path)


def _read_errors(audit: Path, judges: Judges) -> AuditedErrors:
    """Return the error rates that an audit counted of the scorer that the selector follows. Raises BadInput, Tampered."""
    manifest, report = _open_audit(audit)
    follows = judges.proxy_identity or judges.measured_by
    if manifest.subject["source_sha256"] != follows.source_sha256:
        raise BadInput(
            f"--verifier-errors {audit}: is an audit of {visible(str(manifest.subject['scorer']), 60)}, and this selector follows "
            f"{follows.name}; name an audit of that scorer as it is now"
        )
    errors = None if report.errors is None else report.errors.overall
    if errors is None:
        raise BadInput(f"--verifier-errors {audit}: counted no error rates ({report.verdict.value}); audit again")
    return AuditedErrors(
        hashlib.sha256((audit / manifests.NAME).read_bytes()).hexdigest(),
        errors.false_positive_rate,
        errors.false_positive_interval,
        errors.false_negative_rate,
        errors.false_negative_interval,
    )


def encode_select_config(config: SelectConfig) -> bytes:
    import tomli_w

    return tomli_w.dumps(msgspec.to_builtins(config)).encode()
