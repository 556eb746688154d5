"""`lockedroom evaluate`: Loop A."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lockedroom.cli.backend_flags import add_backend_flags, backend_config
from lockedroom.cli.json_output import print_json
from lockedroom.cli.on import add_on_flag, opened_engine
from lockedroom.cli.sampling_flags import SAMPLING_FLAGS, add_sampling_flags
from lockedroom.wording import counted

if TYPE_CHECKING:
    from lockedroom.loops.evaluate import Evaluated


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="measure a policy: draw or read completions, score them, name every failure mode",
        description="Loop A. Scores completions, writes a run folder, prints its summary.",
    )
    add = parser.add_argument
    add("--dataset", metavar="FILE", help="examples: .jsonl, .csv or .parquet")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--completions", metavar="FILE", help="recorded completions, or a run whose completions to judge")
    what.add_argument(
        "--policy",
        metavar="NAME",
        help="tiny, tiny-weak, tiny-hedge, a .safetensors file, a learning run, hf:PATH_OR_ID, http://HOST:PORT/v1#MODEL (several: with commas), scripted:TEXT",
    )
    add("--scorer", metavar="NAME", help="final-int (default), permissive, or path/to/file.py:function")
    add("--draws", type=int, metavar="K", help="completions an example (default: all recorded, or 1 of a live policy)")
    add("--limit", type=int, metavar="N", help="only the first N examples")
    add("--split", metavar="NAME", help="name of the dataset split (default: the file's stem)")
    add("--declare", action="append", metavar="KEY=VALUE", help="how completions were drawn: sampling.temperature=0.8")
    add("--confidence", type=float, metavar="C", help="of every interval (default 0.95)")
    add("--scorer-timeout", type=float, metavar="SECONDS", help="for one call of your own scorer (default 5)")
    add("--scorer-memory", type=int, metavar="MB", help="that your own scorer may allocate (default 512)")
    add("--workers", type=int, default=1, metavar="W", help="processes; the records do not depend on it")
    add_on_flag(parser)
    add("--config", metavar="FILE", help="a TOML file with these settings; flags win over it")
    add("--out", metavar="RUN", help="the run folder to write (default: runs/<dataset>-<policy>-<time>)")
    add("--resume", action="store_true", help="continue an interrupted run in --out")
    add("--json", action="store_true", help="print the summary as JSON")
    group = parser.add_argument_group("how a live policy is sampled (for recorded completions: --declare)")
    add_sampling_flags(group)
    group.add_argument("--seed", type=int, metavar="S", help="a completion depends on (seed, example id, draw) only (default 0)")  # fmt: skip
    group.add_argument("--exact", action="store_true", default=None, help="also the exact pass rate, from the policy's probabilities")  # fmt: skip
    add_backend_flags(parser)
    parser.set_defaults(run=run)


_CONFIG_FLAGS = ("dataset", "completions", "policy", "scorer", "draws", "limit", "split", "declare", "confidence",
                 "scorer_timeout", "scorer_memory", "threads", "exact")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Evaluate and print the summary. Exit 0, or the code of the error raised."""
    from lockedroom.cli.progress import attempts_of, progress_bar, recorded_attempts
    from lockedroom.errors import BadInput
    from lockedroom.loops.evaluate import evaluate
    from lockedroom.loops.evaluating.configuration import read_config
    from lockedroom.results.run_folder import default_folder

    given = {name: value for name, value in vars(args).items() if value is not None}
    out = Path(args.out) if args.out else default_folder(args.dataset or "run", args.completions or args.policy or "")
    config = read_config(
        {name: given[name] for name in _CONFIG_FLAGS if name in given} | backend_config(args),
        {name: given[name] for name in SAMPLING_FLAGS if name in given},
        file=Path(args.config) if args.config else None,
        resumed=out if args.resume else None,
    )
    # Without --draws a recorded policy has as many as were recorded, which is found while reading.
    known = config.draws or (1 if config.policy else None)
    if args.on is not None and args.workers != 1:
        raise BadInput(f"--workers {args.workers}: with --on the cluster decides; leave out one of the two")

    def total() -> int | None:
        if known is None:
            return recorded_attempts(Path(config.dataset), Path(config.completions or ""), config.limit)
        return attempts_of(Path(config.dataset), known, config.limit)

    with opened_engine(args.on) as engine, progress_bar("evaluate", out, total) as progress:
        done = evaluate(
            config, out, resume=args.resume, workers=args.workers, engine=engine, command=sys.argv, progress=progress
        )
    print_evaluated(done, as_json=args.json)
    return 0


def print_evaluated(done: Evaluated, *, as_json: bool) -> None:
    from lockedroom.results.evaluation.rendering import render_summary

    if as_json:
        print_json({"run": str(done.path), "summary": done.summary, "exact": done.exact})
        return
    timing = done.manifest.timing
    print(render_summary(done.summary, done.manifest))
    if done.exact is not None:
        from lockedroom.results.evaluation.exact import render_exact

        print(render_exact(done.exact))
    rate = timing.attempts / timing.seconds if timing.seconds else 0.0
    print(
        f"{counted(timing.attempts, 'attempt')} in {timing.seconds:.2f} s ({rate:,.0f} a second, {timing.cpu_seconds:.2f} CPU-s)"
    )
    print(
        f"run folder: {done.path}   look inside: lockedroom inspect {shlex.quote(str(done.path))}   check it: lockedroom verify {shlex.quote(str(done.path))}"
    )
