"""`lockedroom audit`: what does a scorer really pay for?"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lockedroom.wording import counted

if TYPE_CHECKING:
    from lockedroom.loops.instrument.audit import Audited


# What each way of auditing takes besides --json; everything else would be passed over without a word.
_TAKEN = {
    "SCORER": frozenset({"golden", "dataset", "budget", "seed", "signature", "allow", "grammar", "confidence", "scorer_timeout",
                         "scorer_memory", "out"}),
    "--from": frozenset({"confidence", "out"}),
    "--replay": frozenset({"finding"}),
    "--kill-matrix": frozenset({"golden"}),
}  # fmt: skip


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "audit",
        help="what a scorer really pays for: attacks, purity, determinism, denial of service",
        description="Attacks a scorer in its own format, starting from golden completions, and writes what it found. Exit 0: no "
        "finding; 1: findings; 2: could not audit, which is not a pass. To replay findings: --replay.",
    )
    add = parser.add_argument
    add("scorer", nargs="?", metavar="SCORER", help="final-int, permissive, or path/to/file.py:function")
    add("--from", dest="run_folder", metavar="RUN",
        help="instead: mine a run's own completions for suspicious passes and for losses to the format alone")  # fmt: skip
    add(
        "--replay",
        metavar="AUDIT",
        help="instead: ask the scorer of an audit folder about its findings again; exit 1 while one shows",
    )
    add(
        "--finding",
        action="append",
        default=[],
        metavar="ID",
        help="with --replay: only this finding (may be repeated)",
    )
    add("--kill-matrix", action="store_true",
        help="instead: audit this audit, with generated mutants of final-int (--golden adds files; --json has every row)")  # fmt: skip
    _add_settings(parser)
    names = frozenset.union(*_TAKEN.values())
    parser.set_defaults(run=run, given_by_default={name: parser.get_default(name) for name in names})


def _add_settings(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--golden", nargs="+", default=[], metavar="FILE",
        help="completions that must score 1, for at least two answers (built-in scorers bring their own)")  # fmt: skip
    add("--dataset", metavar="FILE", help="examples for the best constant completion and the echo policy")
    add(
        "--budget",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="wall time that is never exceeded by much (default 30)",
    )
    add("--seed", type=int, default=0, metavar="S", help="of the property search and the random orders (default 0)")
    add("--signature", default="example,completion", metavar="SIGNATURE",
        help="how your function is called, if not as score(example, completion): number, completion,answer, answer,completion, "
        "prompt,completion,answer, trl:COLUMN, trl-chat:COLUMN, verl:SOURCE, verifiers")  # fmt: skip
    add("--allow", action="append", default=[], metavar="FAMILY[.ATTACK]",
        help="what the scorer's rules permit: listed as contested, printed in the summary (may be repeated)")  # fmt: skip
    add("--grammar", metavar="REGEX",
        help="every text that your scorer's rules accept, as a regular expression of the whole text with {answer} for the expected "
        "answer: what is in it must be paid, what is not must not")  # fmt: skip
    add("--confidence", type=float, default=0.95, metavar="C", help="of every interval (default 0.95)")
    add(
        "--scorer-timeout",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="for one call; longer is a finding (default 2)",
    )
    add("--scorer-memory", type=int, default=512, metavar="MB", help="that one call may allocate (default 512)")
    add("--out", metavar="RUN", help="the folder to write (default: runs/audit-<scorer>-<time>)")
    add("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Audit, print the report, and return 0, 1 or 2."""
    from lockedroom.cli.progress import waiting
    from lockedroom.errors import BadInput
    from lockedroom.loops.instrument.audit import AuditConfig, audit
    from lockedroom.results.run_folder import default_folder

    chosen = [args.scorer is not None, args.run_folder is not None, args.replay is not None, args.kill_matrix]
    if chosen.count(True) != 1:
        raise BadInput("name what to audit: one of SCORER, --from RUN, --replay AUDIT, --kill-matrix")
    way = list(_TAKEN)[chosen.index(True)]
    for name in sorted(args.given_by_default.keys() - _TAKEN[way]):
        if getattr(args, name) != args.given_by_default[name]:
            raise BadInput(f"--{name.replace('_', '-')} does nothing with {way}; leave it out")
    if args.replay is not None:
        return _replay(args)
    if args.kill_matrix:
        return _kill_matrix(args)
    if args.run_folder is not None:
        return _mine(args)
    config = AuditConfig(
        scorer=args.scorer,
        golden=tuple(args.golden),
        dataset=args.dataset,
        budget=args.budget,
        seed=args.seed,
        confidence=args.confidence,
        allow=tuple(args.allow),
        signature=args.signature,
        grammar=args.grammar,
        scorer_timeout=args.scorer_timeout,
        scorer_memory=args.scorer_memory,
    )
    out = Path(args.out) if args.out else default_folder("audit", args.scorer)
    with waiting(f"audit, for at most {config.budget:g} s:"):
        done = audit(config, out, command=sys.argv)
    return print_audited(done, args)


def _mine(args: argparse.Namespace) -> int:
    from lockedroom.loops.instrument.mine import mine_run
    from lockedroom.results.audit.mined import render_mined
    from lockedroom.results.run_folder import default_folder

    out = Path(args.out) if args.out else default_folder("audit-from", args.run_folder)
    done = mine_run(Path(args.run_folder), out, confidence=args.confidence, command=sys.argv)
    if args.json:
        from lockedroom.cli.json_output import print_json

        print_json(
            {"audit": str(done.path), "run": done.run, "scorer": done.scorer, "mined": done.mined, "finds": done.finds}
        )
    else:
        print(render_mined(done))
        print(f"audit folder: {done.path}")
    return int(done.suspicious > 0)


def _replay(args: argparse.Namespace) -> int:
    from lockedroom.cli.progress import waiting
    from lockedroom.errors import BadInput
    from lockedroom.results.audit.check import open_audit, replay_findings
    from lockedroom.visible import visible

    manifest, report = open_audit(Path(args.replay))
    chosen = [one for one in report.findings if not args.finding or one.id in args.finding]
    unknown = sorted(set(args.finding) - {one.id for one in chosen})
    if unknown:
        held = ", ".join(one.id for one in report.findings) or "none"
        raise BadInput(f"{args.replay}: no finding {visible(unknown[0], 60)!r}; it holds {held}")
    with waiting(f"replay {counted(len(chosen), 'finding')}"):
        replayed = replay_findings(manifest, report, chosen)
    if args.json:
        from lockedroom.cli.json_output import print_json

        print_json({"audit": args.replay, "replayed": replayed})
    else:
        words = {True: "seen again", False: "NOT seen again", None: "not known: the time ended"}
        for one in replayed:
            print(f"{visible(one.id, 80)}: {words[one.again]}: {visible(one.said, 160)}")
        print(
            f"{sum(bool(one.again) for one in replayed):,} of {counted(len(replayed), 'finding was', 'findings were')} seen again"
        )
    return int(any(one.again for one in replayed))


def _kill_matrix(args: argparse.Namespace) -> int:
    from lockedroom.cli.progress import waiting
    from lockedroom.loops.instrument.kill_matrix import make_matrix, render_matrix

    with waiting("kill matrix"):
        matrix = make_matrix([Path(name) for name in args.golden], whole=args.json)
    if args.json:
        from lockedroom.cli.json_output import print_json

        print_json(matrix)
    else:
        print(render_matrix(matrix))
    return int(bool(matrix.unexplained))


def print_audited(done: Audited, args: argparse.Namespace) -> int:
    from lockedroom.safeguards.audit.report import EXIT_CODES

    code = EXIT_CODES[done.report.verdict]
    if args.json:
        from lockedroom.cli.json_output import print_json
        from lockedroom.loops.instrument.audit import as_json

        print_json({**as_json(done), "exit_code": code})
        return code
    from lockedroom.results.audit.rendering import render_audit

    print(render_audit(done.report))
    print(f"{done.report.seconds:.1f} s; audit folder: {done.path}")
    if done.report.findings:
        print(f"replay the findings: lockedroom audit --replay {shlex.quote(str(done.path))}")
    return code
