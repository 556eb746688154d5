"""`lockedroom bandit`: learning under the microscope."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lockedroom.loops.microscope.bandit import Looked
    from lockedroom.results.microscope.bandit import BanditSetting


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "bandit",
        help="learning under the microscope: why each probability moved, what a baseline does, what sabotage looks like",
        description="Learns in a world that can be listed, with the learner of `lockedroom learn`, and compares each number "
        "with the exact one. Exit 0, also when the lab has findings: a sabotage is there to be seen.",
    )
    add = parser.add_argument
    add("--world", metavar="NAME", help="stochastic (default), contextual, confident, two-step or graded")
    add("--baseline", metavar="NAME", help="none, batch-mean, leave-one-out, ema (default) or value")
    add("--draws", type=int, metavar="G", help="completions a round (default 1; leave-one-out: 4)")
    add("--rounds", type=int, metavar="P", help="rounds an update (default 1)")
    add("--steps", type=int, metavar="N", help="updates (default 300)")
    add("--learning-rate", type=float, metavar="R", help="of plain gradient ascent (default 0.3)")
    add("--slow", type=int, nargs="?", const=4, metavar="N", help="show the first N updates step by step (default 4)")
    add("--sabotage", metavar="WHAT", help="sign (every gradient turned round) or learning-rate (times 100)")
    add("--credit", metavar="STEP", help="two-step: which step is told of the reward: both (default), first or second")
    add("--measured", type=int, metavar="U", help="updates behind each measured variance (default 200; 0: none)")
    add("--seed", type=int, metavar="S", help="of nature and of the policy's draws (default 0)")
    add("--plot", type=Path, metavar="FILE", help="draw the run as FILE.svg or FILE.png")
    add(
        "--out",
        type=Path,
        metavar="RUN",
        help="write a folder with every draw, every update, the policy and a manifest",
    )
    add("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


_FLAGS = ("world", "baseline", "draws", "rounds", "steps", "learning_rate", "seed", "sabotage", "credit", "measured")


def run(args: argparse.Namespace) -> int:
    """Learn, print what happened and why; exit 0, or the code of the error raised."""
    from lockedroom.cli.microscope import check_plot, require_torch

    require_torch("the microscope")
    if args.plot is not None:
        check_plot(args.plot)
    from lockedroom.cli.progress import waiting
    from lockedroom.errors import BadInput
    from lockedroom.loops.microscope.bandit import look_at_bandit

    if args.slow is not None and args.slow < 1:
        raise BadInput(f"--slow {args.slow}: must be at least 1")
    given = {name: getattr(args, name) for name in _FLAGS if getattr(args, name) is not None}
    if "draws" not in given and given.get("baseline") in ("leave-one-out", "batch-mean"):
        given["draws"] = 4
    if args.slow is not None:
        given.setdefault("measured", 0)
    with waiting("bandit"):
        looked = look_at_bandit(_setting(given), args.out, command=sys.argv)
    if args.plot is not None:
        from lockedroom.report.learning_plots import plot_bandit

        plot_bandit(looked.result, looked.steps, args.plot)
    _print(looked, args)
    return 0


def _setting(given: dict[str, Any]) -> BanditSetting:
    import typing

    from lockedroom.errors import BadInput
    from lockedroom.results.microscope.bandit import BanditSetting

    hints = typing.get_type_hints(BanditSetting)
    for name in ("baseline", "sabotage", "credit"):
        known = typing.get_args(hints[name])
        if name in given and given[name] not in known:
            raise BadInput(f"--{name} {given[name]!r}: expected one of {', '.join(known)}")
    return BanditSetting(**given)


def _print(looked: Looked, args: argparse.Namespace) -> None:
    from lockedroom.results.microscope.bandit_rendering import render_bandit, render_slowly

    if args.json:
        from lockedroom.cli.json_output import print_json

        shown = {"run": None if looked.path is None else str(looked.path), "result": looked.result}
        print_json({**shown, "steps": looked.steps, "draws": looked.draws} if args.slow is not None else shown)
        return
    if args.slow is not None:
        print(render_slowly(looked.result, looked.draws, looked.steps, args.slow))
    else:
        print(render_bandit(looked.result, looked.steps))
    for what, path in (("plot", args.plot), ("run folder", looked.path)):
        if path is not None:
            print(f"\n{what}: {path}")
