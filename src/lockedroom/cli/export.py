"""`lockedroom export scorer` and `lockedroom export run`: what the lab has, in other projects' shapes."""

from __future__ import annotations

import argparse
from pathlib import Path

from lockedroom.cli.json_output import print_json
from lockedroom.cli.scorer_limits import add_scorer_limits
from lockedroom.wording import counted

SCORER_TARGETS = ("trl", "verl", "openrlhf", "verifiers", "inspect", "lm-eval")
RUN_TARGETS = ("inspect", "lm-eval", "parquet")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "write a scorer, or a run, in the shape of another project"
    commands = subparsers.add_parser("export", help=summary, description=f"{summary.capitalize()}.").add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )
    _add_scorer(commands)
    _add_run(commands)


def _add_scorer(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "scorer",
        help="one Python file that gives a trainer or a harness our verdicts",
        description="The file imports the scorer from the installed lockedroom, and refuses to be imported when that is "
        "not the scorer that was exported (name, version, source, behaviour).",
    )
    add = parser.add_argument
    add(
        "--scorer",
        default="final-int",
        metavar="NAME",
        help="final-int (default), permissive, or path/to/file.py:function",
    )
    add("--to", required=True, metavar="TARGET", help=", ".join(SCORER_TARGETS))
    add("--out", required=True, type=Path, metavar="FILE.py", help="the file to write (for lm-eval, a .yaml beside it)")
    add("--end-token", action="append", default=[], metavar="TEXT", help="openrlhf: the model's end token, to cut off")
    add_scorer_limits(parser)
    add("--json", action="store_true", help="print what was written as JSON")
    parser.set_defaults(run=run_scorer)


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "run",
        help="a finished run as an Inspect log, lm-eval samples, or Parquet",
        description="The run is verified first. An Inspect log is written by Inspect itself, which has to be installed.",
    )
    add = parser.add_argument
    add("folder", type=Path, metavar="RUN", help="a finished run folder")
    add("--to", required=True, metavar="TARGET", help=", ".join(RUN_TARGETS))
    add("--out", required=True, type=Path, metavar="FILE", help="the file to write (inspect: .eval or .json)")
    add("--json", action="store_true", help="print what was written as JSON")
    parser.set_defaults(run=run_run)


def run_scorer(args: argparse.Namespace) -> int:
    """Write the file and say what could not be judged becomes there."""
    from lockedroom.adapters.export_scorer import export_scorer
    from lockedroom.adapters.targets import TARGETS

    written = export_scorer(
        args.scorer,
        args.to,
        args.out,
        end_tokens=args.end_token,
        timeout_s=args.scorer_timeout,
        memory_mb=args.scorer_memory,
    )
    target = TARGETS[args.to]
    if args.json:
        print_json({"files": list(map(str, written)), "to": args.to, "could_not_judge": target.could_not_judge,
                    "cannot_express": target.cannot_express})  # fmt: skip
        return 0
    for path in written:
        print(path)
    print(f"what could not be judged: {target.could_not_judge}")
    for limit in target.cannot_express:
        print(f"{args.to} cannot express: {limit}")
    print("how to use it stands at the top of the file")
    return 0


def run_run(args: argparse.Namespace) -> int:
    """Verify the run and write it."""
    from lockedroom.adapters.export_run import export_run

    attempts = export_run(args.folder, args.to, args.out)
    if args.json:
        print_json({"file": str(args.out), "to": args.to, "attempts": attempts})
        return 0
    print(f"{args.out}: {counted(attempts, 'attempt')} of {args.folder}, for {args.to}")
    return 0
