"""`lockedroom verify RUN…`: check hashes, re-derive every number."""

from __future__ import annotations

import argparse
from pathlib import Path

from lockedroom.cli.json_output import print_json
from lockedroom.wording import counted


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "verify",
        help="check every hash of a run and re-derive every number from its records",
        description="Needs no model and no network. An audit's findings are replayed on the scorer, where it is here unchanged. "
        "Exit 4 when anything does not hold.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a finished run folder, or an audit folder")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Verify each run; the first that does not hold raises Tampered."""
    from lockedroom.cli.progress import waiting
    from lockedroom.results.kinds import verify_folder
    from lockedroom.visible import visible

    results = []
    for name in args.runs:
        with waiting(f"verify {visible(name, 60)}"):
            done = verify_folder(Path(name))
        results.append(
            {
                "run": done.path,
                "kind": done.kind,
                "verified": True,
                "files": done.files,
                "attempts": done.attempts,
                "rescored": done.rescored,
                "not_checked": done.not_checked,
            }
        )
        if not args.json:
            print(
                f"{done.path}: verified. {counted(done.files, 'file matches', 'files match')} their hashes; {done.said}."
            )
            for line in done.not_checked:
                print(f"  not checked: {line}")
    if args.json:
        print_json(results)
    return 0
