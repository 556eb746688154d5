"""`lockedroom court`: estimators are judged before they are used."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lockedroom.loops.court import Case


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "court",
        help="is the gradient of an estimator, or of your own loss, the gradient of the objective?",
        description="Compares the expected gradient with the exact one, in worlds where every completion can be listed. "
        "Without arguments: every built-in estimator. Exit 1 when what you named is biased or broken.",
    )
    add = parser.add_argument
    add(
        "--estimator",
        nargs="+",
        action="append",
        metavar="NAME|FIELD=VALUE",
        help="a preset (reinforce, rloo, grpo, dr-grpo, ppo-clip, rejection-sampling), fields of an estimator, or both",
    )
    add("--module", action="append", metavar="FILE.py:FUNCTION", help="your own loss or advantage function")
    add("--shape", metavar="SHAPE", help="how it is called: advantages, loss, trl-loss, verl-advantage or verl-loss")
    add("--with", dest="keywords", action="append", metavar="NAME=VALUE", help="also pass this argument to it")
    add("--beta", type=float, default=0.0, metavar="B", help="KL in the objective that it is compared with (default 0)")
    add("--samples", type=int, default=2000, metavar="N", help="batches drawn in the large world (default 2000)")
    add("--seed", type=int, default=0, metavar="S", help="of those draws (default 0)")
    add("--json", action="store_true", help="print everything as JSON, every combination too")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the tables. Exit 0; 1 when something named is not unbiased, or a known answer was not found again."""
    from lockedroom.cli.microscope import require_torch

    require_torch("the court")
    import math

    from lockedroom.errors import BadInput
    from lockedroom.loops.court import hold_court
    from lockedroom.results.court import render_court

    if not (math.isfinite(args.beta) and args.beta >= 0):
        raise BadInput(f"--beta {args.beta}: expected a number ≥ 0")
    result = hold_court(_asked(args), beta=args.beta, samples=args.samples, seed=args.seed)
    if args.json:
        import msgspec

        from lockedroom.visible import ascii_json

        print(ascii_json(msgspec.json.format(msgspec.json.encode(result), indent=2)))
    else:
        print(render_court(result))
    return int(result.found)


def _asked(args: argparse.Namespace) -> list[Case]:
    from lockedroom.errors import BadInput
    from lockedroom.learning.estimator import parse_estimator
    from lockedroom.loops.court import load_foreign

    asked: list[Case] = [(" ".join(given), parse_estimator(given)) for given in args.estimator or ()]
    if args.module is None:
        for flag, given in (("--shape", args.shape), ("--with", args.keywords), ("--beta", args.beta or None)):
            if given is not None:
                raise BadInput(f"{flag} goes with --module FILE.py:FUNCTION; an estimator has fields of its own")
        return asked
    if args.shape is None:
        raise BadInput(
            "--module needs --shape: how your function is called is never guessed; name one of advantages, loss, "
            "trl-loss, verl-advantage, verl-loss"
        )
    keywords = dict(_keyword(given) for given in args.keywords or ())
    return asked + [(name, load_foreign(name, args.shape, keywords)) for name in args.module]


def _keyword(given: str) -> tuple[str, Any]:
    import msgspec

    from lockedroom.errors import BadInput

    name, equals, value = given.partition("=")
    if not equals or not name.isidentifier():
        raise BadInput(f"--with {given!r}: expected NAME=VALUE, such as cliprange=0.2")
    try:
        return name, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return name, value
