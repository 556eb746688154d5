"""`lockedroom runs`: the runs of a folder, a line each."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lockedroom.cli.json_output import print_json

if TYPE_CHECKING:
    from lockedroom.results.listing import Listed

HEADER = ("run", "kind", "pass rate", "started", "policy", "dataset", "scorer", "attempts", "failed")
NUMBERS = (2, 7, 8)
WIDE, NARROW = 130, range(4)  # columns of a terminal; those of the table that are shown in fewer
SORTS = ("started", "name", "policy", "dataset", "rate", "attempts")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "runs",
        help="list, filter and sort the runs of a folder",
        description="A line a run, as its manifest and summary say; nothing is verified (lockedroom verify does that).",
    )
    add = parser.add_argument
    add(
        "folder",
        nargs="?",
        default="runs",
        metavar="FOLDER",
        help="where to look, folders below included (default: runs)",
    )
    add(
        "--kind",
        metavar="KIND",
        help="only runs of this kind (evaluate, select, learn, audit, …) or unfinished or unreadable ones",
    )
    add("--match", action="append", default=[], metavar="TEXT", help="in path, policy, dataset or scorer (repeatable)")
    add("--sort", choices=SORTS, default="started", help="default: started")
    add("--reverse", action="store_true", help="the other way round")
    add("--json", action="store_true", help="print the list as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the list; exit 0, also when it is empty."""
    from lockedroom.results.listing import list_runs
    from lockedroom.results.text_table import text_table

    runs = list_runs(Path(args.folder), kind=args.kind, match=args.match, sort=args.sort, reverse=args.reverse)
    if args.json:
        print_json({"runs": runs})
        return 0
    if not runs:
        print(f"{args.folder}: no runs here" + (" that match" if args.kind or args.match else ""))
        return 0
    rows = [_row(one, Path(args.folder)) for one in runs]
    shown = range(len(HEADER))
    if sys.stdout.isatty() and shutil.get_terminal_size().columns < WIDE:
        shown = NARROW
    numbers = [i for i, column in enumerate(shown) if column in NUMBERS]
    print("\n".join(text_table([HEADER[i] for i in shown], [[row[i] for i in shown] for row in rows], numbers=numbers)))
    if shown is NARROW:
        print(f"(policy, dataset, scorer and counts: in a terminal of {WIDE} columns, or with --json)")
    return 0


def _row(one: Listed, folder: Path) -> tuple[str, ...]:
    from lockedroom.visible import visible

    rate = "" if one.rate is None else f"{one.rate:.3f}"
    if one.low is not None and one.high is not None:
        rate += f" [{one.low:.3f}, {one.high:.3f}]"
    counts = tuple("" if count is None else f"{count:,}" for count in (one.attempts, one.failed))
    kind = one.kind if one.state == "finished" else one.state
    path = str(Path(one.path).relative_to(folder))
    return (visible(path, 120), visible(kind, 20), rate, visible(one.started[:16].replace("T", " "), 20), visible(one.policy, 40),
            visible(one.dataset, 30), visible(one.scorer, 30), *counts)  # fmt: skip
