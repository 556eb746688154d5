"""`lockedroom import LOG --from FORMAT --out FOLDER`: other projects' logs as examples and completions of ours."""

from __future__ import annotations

import argparse
from pathlib import Path

from lockedroom.cli.json_output import print_json
from lockedroom.visible import visible
from lockedroom.wording import counted

FORMATS = ("inspect", "lm-eval", "verifiers", "human-eval", "trl", "verl")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "import",
        help="turn another project's log into examples and completions, to audit, re-score and compare",
        description="Writes examples.jsonl, completions.jsonl with the log's own scores, and a sidecar with what the log "
        "declares of policy and sampling; then prints the command that judges them.",
    )
    add = parser.add_argument
    add("log", type=Path, metavar="LOG", help="the file, or for trl and verl the folder")
    add("--from", required=True, dest="format", metavar="FORMAT", help=", ".join(FORMATS))
    add("--out", required=True, type=Path, metavar="FOLDER", help="a new folder")
    add("--dataset", type=Path, metavar="FILE", help="the examples that were asked (default: as the log holds them)")
    add("--answer-field", metavar="NAME", help="where the log keeps expected answers (default: the format's own)")
    add("--score", metavar="NAME", help="which of the log's own scores to keep (default: the first, or their sum)")
    add("--agent", metavar="NAME", help="whose traces, where several agents wrote into one log of verifiers")
    add("--json", action="store_true", help="print what was imported as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Import and print what was found, and what to run next."""
    import shlex

    from lockedroom.adapters.importing import import_log
    from lockedroom.adapters.writing import COMPLETIONS, EXAMPLES

    done = import_log(
        args.log,
        args.format,
        args.out,
        dataset=args.dataset,
        answer_field=args.answer_field,
        score=args.score,
        agent=args.agent,
    )
    if args.json:
        print_json(done)
        return 0
    theirs = "no score of its own" if done.theirs is None else f"mean of the log's own scores {done.theirs:.4f}"
    if done.theirs is not None and done.score is not None:
        theirs += f": {visible(done.score, 200)}"
    print(f"{args.out}: {counted(done.examples, 'example')}, {counted(done.attempts, 'attempt')}, {theirs}")
    if done.without_completion:
        print(
            f"{counted(done.without_completion, 'attempt without a completion stays a failure', 'attempts without a completion stay failures')}: not dropped"
        )
    if done.without_score:
        print(f"{counted(done.without_score, 'completion has', 'completions have')} no score in the log")
    for line in done.notes:
        print(visible(line, 400))
    judge = [
        "lockedroom",
        "evaluate",
        "--dataset",
        str(args.out / EXAMPLES),
        "--completions",
        str(args.out / COMPLETIONS),
    ]
    print(f"judge them: {shlex.join(judge)}")
    return 0
