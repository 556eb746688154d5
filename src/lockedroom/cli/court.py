"""`lockedroom court`: estimators are judged before they are used."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lockedroom.cli.json_output import print_json

if TYPE_CHECKING:
    from lockedroom.loops.microscope.court import Case


SAMPLES = 2000
EXAMPLES, GROUP, BATCHES = 16, 4, 200  # with --policy
_OF_WORLDS, _OF_POLICY = (
    ("samples", "module", "shape", "keywords", "function_timeout"),
    ("dataset", "examples", "group", "batches"),
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "court",
        help="is the gradient of an estimator, or of your own loss, the gradient of the objective?",
        description="Compares the expected gradient with the exact one, in worlds where every completion can be listed. "
        "Without arguments: every built-in estimator. With --policy: the gradient of a real language model against its "
        "exact one. Exit 1 when what you named is biased or broken.",
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
    add("--function-timeout", type=float, metavar="SECONDS", help="that one call of it may take (default 10)")
    add("--beta", type=float, metavar="B", help="KL in the objective that it is compared with (default 0)")
    add("--samples", type=int, metavar="N", help=f"batches drawn in the large world (default {SAMPLES})")
    add("--seed", type=int, default=0, metavar="S", help="of what is drawn (default 0)")
    add("--json", action="store_true", help="print everything as JSON, every combination too")
    add = parser.add_argument_group("on a real language model").add_argument
    add("--policy", metavar="NAME", help="tiny, tiny-weak, tiny-hedge, or a run or file of that kind")
    add("--dataset", metavar="FILE", help="examples to pass (default: the dev examples that ship with tiny)")
    add("--examples", type=int, metavar="N", help=f"so many of them, from the first (default {EXAMPLES})")
    add("--group", type=int, metavar="G", help=f"completions of each in a batch (default {GROUP})")
    add("--batches", type=int, metavar="B", help=f"batches drawn (default {BATCHES})")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the tables. Exit 0; 1 when something named is not unbiased, or a known answer was not found again."""
    from lockedroom.cli.microscope import require_torch

    require_torch("the court")
    import math

    from lockedroom.errors import BadInput
    from lockedroom.loops.microscope.court import hold_court
    from lockedroom.results.microscope.court import render_court

    if args.policy is not None:
        return _on_policy(args)
    _refuse(args, _OF_POLICY, "goes with --policy NAME")
    beta = 0.0 if args.beta is None else args.beta
    if not (math.isfinite(beta) and beta >= 0):
        raise BadInput(f"--beta {beta}: expected a number ≥ 0")
    samples = SAMPLES if args.samples is None else args.samples
    result = hold_court(_asked(args), beta=beta, samples=samples, seed=args.seed)
    print_json(result) if args.json else print(render_court(result))
    return int(result.found)


def _on_policy(args: argparse.Namespace) -> int:
    """Print the table of a real policy; exit codes as above."""
    from pathlib import Path

    from lockedroom.cli.progress import progress_bar
    from lockedroom.learning.estimator import parse_estimator
    from lockedroom.loops.microscope.exact_gradient import judge_on_policy
    from lockedroom.loops.opening.policy import open_token_policy
    from lockedroom.policy.tiny import DATA_FOLDER
    from lockedroom.results.microscope.exact_gradient import render_exact_gradient
    from lockedroom.scorer.builtin import find_builtin

    _refuse(args, _OF_WORLDS, "is about the court's own worlds and does not go with --policy")
    _refuse(args, ("beta",), "does not go with --policy: the exact KL of a language model cannot be listed")
    policy, scorer = open_token_policy(args.policy, threads=1), find_builtin("final-int")
    assert scorer is not None
    given = ((args.examples, EXAMPLES), (args.group, GROUP), (args.batches, BATCHES))
    examples, group, batches = (default if asked is None else asked for asked, default in given)
    with progress_bar("court", total=lambda: examples * group * batches) as progress:
        result = judge_on_policy(
            policy, scorer, Path(args.dataset or DATA_FOLDER / "dev.jsonl"),
            [(" ".join(given), parse_estimator(given)) for given in args.estimator or ()],
            examples=examples, group=group, batches=batches, seed=args.seed, progress=progress,
        )  # fmt: skip
    print_json(result) if args.json else print(render_exact_gradient(result))
    return int(result.found)


def _refuse(args: argparse.Namespace, names: Sequence[str], why: str) -> None:
    from lockedroom.errors import BadInput

    for name in names:
        if getattr(args, name) is not None:
            raise BadInput(f"--{'with' if name == 'keywords' else name.replace('_', '-')} {why}")


def _asked(args: argparse.Namespace) -> list[tuple[str, Case]]:
    from lockedroom.errors import BadInput
    from lockedroom.learning.estimator import parse_estimator
    from lockedroom.loops.microscope.court_foreign import CALL_SECONDS, Named

    asked: list[tuple[str, Case]] = [(" ".join(given), parse_estimator(given)) for given in args.estimator or ()]
    if args.module is None:
        for flag, given in (("--shape", args.shape), ("--with", args.keywords),
                            ("--function-timeout", args.function_timeout), ("--beta", args.beta or None)):  # fmt: skip
            if given is not None:
                raise BadInput(f"{flag} goes with --module FILE.py:FUNCTION; an estimator has fields of its own")
        return asked
    if args.shape is None:
        raise BadInput(
            "--module needs --shape: how your function is called is never guessed; name one of advantages, loss, "
            "trl-loss, verl-advantage, verl-loss"
        )
    keywords = dict(_keyword(given) for given in args.keywords or ())
    seconds = CALL_SECONDS if args.function_timeout is None else args.function_timeout
    return asked + [(name, Named(name, args.shape, keywords, seconds)) for name in args.module]


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
