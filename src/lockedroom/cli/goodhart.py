"""`lockedroom goodhart`: train on a permissive scorer, measure with a strict one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "goodhart",
        help="train on a permissive scorer, measure with a strict one: where the gap opens, and the exploit found",
        description="One arm for each KL weight, with the learner of `lockedroom learn`; the strict scorer's verdicts never "
        "reach it. Works offline on the embedded model tiny-hedge.",
    )
    add = parser.add_argument
    add("--policy", metavar="NAME", help="what to train (default tiny-hedge, which sometimes names two answers)")
    add("--dataset", metavar="FILE", help="examples to learn from (default: those that ship with the embedded model)")
    add("--dev", metavar="FILE", help="examples to measure on (default: dev.jsonl beside the dataset)")
    add("--proxy", metavar="SCORER", help="to train on (default permissive)")
    add("--strict", metavar="SCORER", help="to measure with (default final-int)")
    add("--kl", metavar="B,B", help="KL weights, an arm each (default 0,0.05)")
    add("--steps", type=int, metavar="N", help="updates of each arm (default 80)")
    add("--prompts", type=int, metavar="P", help="examples a step (default 64)")
    add("--group", type=int, metavar="G", help="completions an example and step (default 8)")
    add("--learning-rate", type=float, metavar="R", help="of AdamW, falling to 0 (default 0.001)")
    add("--every", type=int, metavar="N", help="measure every so many steps (default 10)")
    add("--examples", type=int, metavar="N", help="dev examples measured (default 200)")
    add("--draws", type=int, metavar="K", help="completions of each (default 4)")
    add("--confidence", type=float, metavar="C", help="of every interval (default 0.95)")
    add("--seed", type=int, metavar="S", help="default 0")
    add("--plot", type=Path, metavar="FILE", help="draw it as FILE.svg or FILE.png")
    add("--out", type=Path, metavar="RUN", help="write a folder: result, every measured completion, policies, manifest")
    add("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


_SETTINGS = ("policy", "proxy", "strict", "steps", "prompts", "group", "learning_rate", "every", "examples", "draws",
             "confidence", "seed")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Run the arms and print them; exit 0, or the code of the error raised."""
    from lockedroom.cli.microscope import check_plot, numbers, require_torch
    from lockedroom.cli.progress import progress_bar

    require_torch("the Goodhart experiment")
    if args.plot is not None:
        check_plot(args.plot)
    from lockedroom.loops.microscope.goodhart import watch_goodhart
    from lockedroom.policy.tiny import DATA_FOLDER
    from lockedroom.results.microscope.goodhart import GoodhartSetting, render_goodhart

    dataset = Path(args.dataset) if args.dataset else DATA_FOLDER / "train.jsonl"
    dev = Path(args.dev) if args.dev else dataset.with_name("dev.jsonl")
    given = {name: getattr(args, name) for name in _SETTINGS if getattr(args, name) is not None}
    if args.kl is not None:
        given["betas"] = numbers("--kl", args.kl)
    setting = GoodhartSetting(dataset=str(dataset), dev=str(dev), **given)
    total = setting.steps * setting.prompts * setting.group * len(setting.betas)
    with progress_bar("goodhart", total=lambda: total) as progress:
        result = watch_goodhart(setting, args.out, command=sys.argv, progress=progress)
    if args.plot is not None:
        from lockedroom.report.goodhart_plot import plot_goodhart

        plot_goodhart(result, args.plot)
    if args.json:
        from lockedroom.cli.json_output import print_json

        print_json({"run": None if args.out is None else str(args.out), "result": result})
        return 0
    print(render_goodhart(result), end="")
    for what, path in (("plot", args.plot), ("run folder", args.out)):
        if path is not None:
            print(f"\n{what}: {path}")
    return 0
