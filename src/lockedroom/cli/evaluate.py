"""`lockedroom evaluate`: Loop A."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lockedroom.loops.evaluate import Evaluated


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="measure a policy: draw or read completions, score them, name every failure mode",
        description="Loop A. Scores completions, writes a run folder, prints its summary.",
    )
    parser.add_argument("--dataset", metavar="FILE", help="examples: .jsonl, .csv or .parquet")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--completions", metavar="FILE", help="recorded completions, or a run folder whose completions to judge"
    )
    what.add_argument("--policy", metavar="NAME", help="a policy to draw from: scripted:TEXT")
    parser.add_argument("--scorer", metavar="NAME", help="final-int (default), permissive, or path/to/file.py:function")
    parser.add_argument(
        "--draws", type=int, metavar="K", help="completions an example (default: all that are recorded)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N examples")
    parser.add_argument("--seed", type=int, metavar="S", help="seed of a live policy (default 0)")
    parser.add_argument("--split", metavar="NAME", help="name of the dataset split (default: the file's stem)")
    parser.add_argument(
        "--declare",
        action="append",
        metavar="KEY=VALUE",
        help="how the completions were drawn, e.g. sampling.temperature=0.8",
    )
    parser.add_argument("--confidence", type=float, metavar="C", help="of every interval (default 0.95)")
    parser.add_argument(
        "--scorer-timeout", type=float, metavar="SECONDS", help="for one call of your own scorer (default 5)"
    )
    parser.add_argument(
        "--scorer-memory", type=int, metavar="MB", help="that your own scorer may allocate (default 512)"
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="W", help="processes; the records do not depend on it"
    )
    parser.add_argument(
        "--out", metavar="RUN", help="the run folder to write (default: runs/<dataset>-<policy>-<time>)"
    )
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run in --out")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(run=run)


_CONFIG_FLAGS = ("dataset", "completions", "policy", "scorer", "draws", "limit", "seed", "split", "declare", "confidence",
                 "scorer_timeout", "scorer_memory")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Evaluate and print the summary. Exit 0, or the code of the error raised."""
    from lockedroom.cli.progress import progress_bar
    from lockedroom.loops.configuration import read_config
    from lockedroom.loops.evaluate import evaluate

    flags = {name: getattr(args, name) for name in _CONFIG_FLAGS if getattr(args, name) is not None}
    out = Path(args.out) if args.out else default_out(args)
    config = read_config(flags, out if args.resume else None)
    with progress_bar("evaluate") as progress:
        done = evaluate(config, out, resume=args.resume, workers=args.workers, command=sys.argv, progress=progress)
    print_evaluated(done, as_json=args.json)
    return 0


def default_out(args: argparse.Namespace) -> Path:
    """A new folder under runs/, named after what is measured and when."""
    import re
    import time

    source = Path(args.completions).name.removesuffix(".jsonl") if args.completions else (args.policy or "run")
    name = f"{Path(args.dataset or 'run').stem}-{source}-{time.strftime('%Y%m%d-%H%M%S')}"
    return Path("runs") / re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:120]


def print_evaluated(done: Evaluated, *, as_json: bool) -> None:
    from lockedroom.results.rendering import render_summary

    if as_json:
        import msgspec

        print(
            msgspec.json.format(
                msgspec.json.encode({"run": str(done.path), "summary": done.summary}), indent=2
            ).decode()
        )
        return
    timing = done.manifest.timing
    print(render_summary(done.summary, done.manifest))
    rate = timing.attempts / timing.seconds if timing.seconds else 0.0
    print(
        f"{timing.attempts:,} attempts in {timing.seconds:.2f} s ({rate:,.0f} a second, {timing.cpu_seconds:.2f} CPU-s)"
    )
    print(
        f"run folder: {done.path}   look inside: lockedroom inspect {done.path}   check it: lockedroom verify {done.path}"
    )
