"""`lockedroom compare A B`: is B better than A, in one room, or not to be said?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lockedroom.cli.json_output import print_json

if TYPE_CHECKING:
    from lockedroom.results.compare import CompareOptions

DESCRIPTION = """Every run is verified, then compared with the first. Runs that are not in one room (same examples, prompts,
scorer and sampling) are refused, naming each field and what to do: exit 3. A difference is the later run's minus the first's."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("compare", help="is one run better than another? In one room, or refused",
                                   description=DESCRIPTION)  # fmt: skip
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="finished run folders: A, then what is compared with it")
    add("--margin", type=float, metavar="D", help="a difference too small to matter; allows the verdict EQUIVALENT")
    add("--confidence", type=float, default=0.95, metavar="C", help="of every interval (default 0.95)")
    add("--metric", choices=("pass", "reward"), default="pass", help="pass rate (default) or mean reward")
    add("--assume-equal", metavar="FIELDS", help="state that undeclared fields are equal: sampling,prompts.template")
    add("--knobs", metavar="NAMES", help="what you mean to compare: policy, selection, or both at once")
    add("--rescore", metavar="SCORER", help="first judge the saved completions of all runs with this scorer")
    add("--anytime", action="store_true", help="decide by an e-value that stays valid however often you look")
    add("--require", choices=("better", "not-worse"),
        help="exit 1 unless better, or (with --margin) at most D worse, its interval's lower end being above -D")  # fmt: skip
    add("--not-comparable", action="store_true", help="show runs that are not comparable, stamped, without a verdict")
    add("--seed", type=int, default=0, metavar="S", help="of the permutation test (default 0)")
    add("--show", type=int, default=5, metavar="N", help="discordant examples to print (default 5)")
    add("--scorer-timeout", type=float, default=5.0, metavar="SECONDS", help="for --rescore with your own scorer")
    add("--scorer-memory", type=int, default=512, metavar="MB", help="for --rescore with your own scorer")
    add("--json", action="store_true", help="print the certificate as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compare and print. Exit 0; 1 when --require is not met; or the code of the refusal."""
    from lockedroom.cli.progress import waiting
    from lockedroom.results.compare import CompareOptions, compare, compare_anyway
    from lockedroom.results.comparison.rendering import render_anyway, render_certificate, satisfied

    _check(args)
    paths = [Path(name) for name in args.runs]
    if args.not_comparable:
        anyway = compare_anyway(paths)
        print_json({"not_comparable": anyway}) if args.json else print(render_anyway(anyway), end="")
        return 0
    options = CompareOptions(
        margin=args.margin,
        confidence=args.confidence,
        assume_equal=_names(args.assume_equal),
        knobs=_names(args.knobs),
        metric=args.metric,
        anytime=args.anytime,
        seed=args.seed,
        show=args.show,
    )
    if args.rescore:
        return _rescored(args, paths, options)
    with waiting("compare"):
        certificate = compare(paths, options)
    print_json(certificate) if args.json else print(render_certificate(certificate), end="")
    return 0 if satisfied(certificate, args.require) else 1


def _rescored(args: argparse.Namespace, paths: Sequence[Path], options: CompareOptions) -> int:
    import sys
    import tempfile

    from lockedroom.loops.instrument.rescore import RescoreConfig, rescore_all
    from lockedroom.results.compare import compare
    from lockedroom.results.comparison.instrument import render_split, split_change
    from lockedroom.results.comparison.rendering import render_certificate, satisfied

    config = RescoreConfig(scorer=args.rescore, scorer_timeout=args.scorer_timeout, scorer_memory=args.scorer_memory)
    with tempfile.TemporaryDirectory(prefix="lockedroom-rescore-") as folder:
        outs = [Path(folder) / str(i) for i in range(len(paths))]
        rescore_all(paths, outs, config, command=sys.argv)
        certificate = compare(outs, options, labels=[f"{path}, re-scored" for path in paths])
        splits = [
            split_change((paths[0], path), (outs[0], out), options.metric, options.show)
            for path, out in zip(paths[1:], outs[1:], strict=True)
        ]
    if args.json:
        print_json({"certificate": certificate, "splits": splits})
    else:
        print(render_certificate(certificate))
        print("\n".join(render_split(split, options.metric) for split in splits), end="")
    return 0 if satisfied(certificate, args.require) else 1


def _check(args: argparse.Namespace) -> None:
    from lockedroom.errors import BadInput

    if args.show < 0 or args.seed < 0:
        raise BadInput("--show and --seed must be 0 or more")
    if args.require == "not-worse" and args.margin is None:
        raise BadInput("--require not-worse needs --margin: how much worse would still do? e.g. --margin 0.02")
    if args.not_comparable and (args.require or args.rescore or args.margin is not None):
        raise BadInput("--not-comparable gives no verdict; leave out --require, --rescore and --margin")


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip()) if text else ()
