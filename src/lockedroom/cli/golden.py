"""`lockedroom golden check|add`: reviewed completions as data, and a finding made one of them in one command."""

from __future__ import annotations

import argparse
from pathlib import Path

from lockedroom.wording import counted


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "golden completions: does a scorer still judge them as reviewed? Add a finding to them"
    commands = subparsers.add_parser("golden", help=summary, description=f"{summary}.").add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )
    _add_check(commands)
    _add_add(commands)


def _add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "check",
        help="ask a scorer about golden files, or about the findings of an audit",
        description="A golden correct must get the full reward, an exploit none, and each the code of its row, if it has one; a "
        "contested one only needs a verdict. Exit 1 when any does not.",
    )
    add = parser.add_argument
    add("scorer", metavar="SCORER", help="final-int, permissive, or path/to/file.py:function")
    add(
        "--golden",
        nargs="+",
        required=True,
        metavar="FILE",
        help="golden files, folders of them, or an audit's findings.jsonl",
    )
    add("--show", type=int, default=20, metavar="N", help="disagreements to print (default 20)")
    add("--signature", default="example,completion", metavar="SIGNATURE", help="as for lockedroom audit")
    add(
        "--scorer-timeout",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="for one call of your own scorer (default 2)",
    )
    add("--scorer-memory", type=int, default=512, metavar="MB", help="that your own scorer may allocate (default 512)")
    add("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run_check)


def _add_add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "add",
        help="append findings of an audit to a golden file",
        description="Appends the named findings (or all of them) to a golden file as reviewed data, each once.",
    )
    add = parser.add_argument
    add("audit", metavar="RUN", help="an audit folder")
    add("ids", nargs="*", metavar="FINDING", help="ids of findings (default: all)")
    add("--to", required=True, metavar="FILE", help="the golden file; made when it does not exist")
    add("--kind", choices=("correct", "exploit", "contested"), help="what you decided (default: as the audit says)")
    add("--note", metavar="TEXT", help="why, for whoever reads the file next")
    add("--json", action="store_true", help="print what was added as JSON")
    parser.set_defaults(run=run_add)


def run_check(args: argparse.Namespace) -> int:
    """Print disagreements; exit 1 when there is one."""
    from lockedroom.loops.instrument.golden import check_goldens
    from lockedroom.visible import visible

    checked = check_goldens(
        args.scorer, [Path(name) for name in args.golden], signature=args.signature, timeout_s=args.scorer_timeout,
        memory_mb=args.scorer_memory,
    )  # fmt: skip
    if args.json:
        from lockedroom.cli.json_output import print_json

        print_json(checked)
        return int(bool(checked.wrong))
    for one in checked.wrong[: args.show]:
        print(
            f"- {visible(one.id, 60)} ({one.kind.value}), expected {visible(str(one.expected_answer), 60)}: "
            f"{visible(str(one.completion), 200)!r}\n  {visible(one.trouble, 300)}"
        )
    if len(checked.wrong) > args.show:
        print(f"… and {len(checked.wrong) - args.show:,} more")
    print(
        f"{checked.checked - len(checked.wrong):,} of {counted(checked.checked, 'golden is', 'goldens are')} judged as reviewed"
    )
    return int(bool(checked.wrong))


def run_add(args: argparse.Namespace) -> int:
    """Append, and say what was added."""
    from lockedroom.loops.instrument.golden import add_goldens
    from lockedroom.safeguards.audit.cases import Kind

    added = add_goldens(
        Path(args.audit), args.ids, Path(args.to), kind=Kind(args.kind) if args.kind else None, note=args.note
    )
    if args.json:
        from lockedroom.cli.json_output import print_json

        print_json({"golden": args.to, "added": added.added, "present": added.present})
        return 0
    print(f"{args.to}: {len(added.added)} added, {added.present} there already")
    print(f"check it: lockedroom golden check SCORER --golden {args.to}")
    return 0
