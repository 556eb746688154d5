"""`lockedroom verify RUN…`: check hashes, re-derive every number."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "verify",
        help="check every hash of a run and re-derive every number from its records",
        description="Needs no model and no network. Exit 4 when anything does not hold.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a finished run folder")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Verify each run; the first that does not hold raises Tampered."""
    import msgspec

    from lockedroom.results.verify import verify
    from lockedroom.visible import ascii_json

    results = []
    for name in args.runs:
        done = verify(Path(name))
        results.append(
            {
                "run": done.path,
                "verified": True,
                "files": done.files,
                "attempts": done.attempts,
                "rescored": done.rescored,
                "not_checked": done.not_checked,
            }
        )
        if not args.json:
            print(f"{done.path}: verified. {done.files} files match their hashes; the summary follows from "
                  f"{done.attempts:,} records; {done.rescored:,} verdicts were made again and agree.")  # fmt: skip
            for line in done.not_checked:
                print(f"  not checked: {line}")
    if args.json:
        print(ascii_json(msgspec.json.format(msgspec.json.encode(results), indent=2)))
    return 0
