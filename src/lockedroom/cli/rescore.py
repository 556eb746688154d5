"""`lockedroom rescore RUN… --scorer S --out FOLDER`: judge saved completions with another scorer."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lockedroom.cli.scorer_limits import add_scorer_limits


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "rescore",
        help="judge a run's saved completions with another scorer; no policy is called",
        description="Writes new runs. The given runs are verified first and stay as they are.",
    )
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="finished run folders")
    add("--scorer", required=True, metavar="NAME", help="final-int, permissive, or path/to/file.py:function")
    add("--out", required=True, metavar="FOLDER", help="the new run; of several, the folder that gets one by each name")
    add_scorer_limits(parser)
    add("--json", action="store_true", help="print the summaries as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Re-score and print each new summary; exit 0."""
    from lockedroom.cli.json_output import print_json
    from lockedroom.cli.progress import progress_bar, records_of
    from lockedroom.loops.instrument.rescore import RescoreConfig, rescore_all
    from lockedroom.results.evaluation.rendering import render_summary

    runs = [Path(name) for name in args.runs]
    config = RescoreConfig(scorer=args.scorer, scorer_timeout=args.scorer_timeout, scorer_memory=args.scorer_memory)
    counts = [records_of(run) for run in runs]
    total = None if None in counts else sum(count or 0 for count in counts)
    with progress_bar("rescore", total=lambda: total) as progress:
        done = rescore_all(runs, _outs(runs, Path(args.out)), config, command=sys.argv, progress=progress)
    if args.json:
        print_json([{"origin": str(one.origin), "run": str(one.path), "summary": one.summary} for one in done])
        return 0
    for one in done:
        print(render_summary(one.summary, one.manifest))
        print(f"run folder: {one.path}, from {one.origin} with another scorer\n")
    return 0


def _outs(runs: Sequence[Path], out: Path) -> list[Path]:
    from lockedroom.errors import BadInput

    if len(runs) == 1:
        return [out]
    names = [run.resolve().name for run in runs]
    if len(set(names)) < len(names):
        raise BadInput(
            f"two of the runs have one name ({', '.join(names)}); re-score them one by one, each with its --out"
        )
    return [out / name for name in names]
