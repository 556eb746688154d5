"""`lockedroom frontier`: reward against KL, exactly."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "frontier",
        help="reward against KL: the closed-form optimum over β, learned policies on it, best-of-n beside it",
        description="In a world that can be listed, learns at each β with the learner of `lockedroom learn` and places "
        "everything exactly: reward, KL to the reference policy, tokens. With --runs: finished learning runs of an embedded "
        "language model on the same two charts.",
    )
    add = parser.add_argument
    add(
        "--runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="place these learning runs instead, learned at several β, say",
    )
    add("--world", metavar="NAME", help="graded (default) or any other of `lockedroom bandit`")
    add("--betas", metavar="B,B", help="KL weights to learn at (default 1,0.5,0.3,0.2,0.1)")
    add("--ns", metavar="N,N", help="best-of-n to place (default 1,2,4,8,16,32,64)")
    add("--steps", type=int, metavar="N", help="updates at each β (default 300)")
    add("--draws", type=int, metavar="G", help="completions of each prompt an update (default 16)")
    add("--learning-rate", type=float, metavar="R", help="of AdamW, falling to 0 (default 0.1)")
    add("--seed", type=int, metavar="S", help="of the policy's draws (default 0)")
    add("--plot", type=Path, metavar="FILE", help="draw both charts as FILE.svg or FILE.png")
    add("--out", type=Path, metavar="RUN", help="write a folder with the result, every learned policy and a manifest")
    add("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Trace the frontier and print it; exit 0, or the code of the error raised."""
    from lockedroom.cli.microscope import check_plot, numbers, require_torch, whole_numbers

    if args.plot is not None:
        check_plot(args.plot)
    if args.runs is not None:
        return _place_runs(args)
    require_torch("the frontier")
    from lockedroom.cli.progress import progress_bar
    from lockedroom.loops.microscope.frontier import completions_of, trace_frontier
    from lockedroom.results.microscope.frontier import FrontierSetting, render_frontier

    given = {
        name: getattr(args, name)
        for name in ("world", "steps", "draws", "learning_rate", "seed")
        if getattr(args, name) is not None
    }
    if args.betas is not None:
        given["betas"] = numbers("--betas", args.betas)
    if args.ns is not None:
        given["ns"] = whole_numbers("--ns", args.ns)
    setting = FrontierSetting(**given)
    with progress_bar("frontier", total=lambda: completions_of(setting)) as progress:
        result = trace_frontier(setting, args.out, command=sys.argv, progress=progress)
    if args.plot is not None:
        from lockedroom.report.learning_plots import plot_frontier

        plot_frontier(result, args.plot)
    if args.json:
        from lockedroom.cli.json_output import print_json

        print_json({"run": None if args.out is None else str(args.out), "result": result})
        return 0
    print(render_frontier(result))
    for what, path in (("plot", args.plot), ("run folder", args.out)):
        if path is not None:
            print(f"\n{what}: {path}")
    return 0


def _place_runs(args: argparse.Namespace) -> int:
    from lockedroom.cli.microscope import whole_numbers
    from lockedroom.errors import BadInput
    from lockedroom.results.microscope.run_frontier import NS, place_runs, render_run_frontier

    for name in ("world", "betas", "steps", "draws", "learning_rate", "seed", "out"):
        if getattr(args, name) is not None:
            raise BadInput(f"--{name.replace('_', '-')} is about a world of its own and does not go with --runs")
    result = place_runs(args.runs, NS if args.ns is None else whole_numbers("--ns", args.ns))
    if args.plot is not None:
        from lockedroom.report.learning_plots import plot_run_frontier

        plot_run_frontier(result, args.plot)
    if args.json:
        from lockedroom.cli.json_output import print_json

        print_json({"result": result})
        return 0
    print(render_run_frontier(result))
    if args.plot is not None:
        print(f"\nplot: {args.plot}")
    return 0
