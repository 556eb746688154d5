"""`lockedroom plan`: power before spending."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lockedroom.cli.json_output import print_json
from lockedroom.wording import counted

if TYPE_CHECKING:
    from lockedroom.results.planning import Pilot, Plan


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "plan",
        help="how many examples and draws to see a gain, what a set can see, what it costs",
        description="Before spending: two runs on the same examples are to be compared. The noise comes from a pilot run, "
        "or two; else from --omega2 and --sigma2. Numbers may be written as fractions (1/9).",
    )
    add = parser.add_argument
    add("--delta", required=True, metavar="D", help="the gain in pass rate that should be seen, e.g. .03")
    add("--power", default="0.8", metavar="P", help="the chance to see it (default 0.8)")
    add("--confidence", default="0.95", metavar="C", help="of the test (default 0.95)")
    add("--pilot", type=Path, metavar="RUN", help="a finished run like those to come")
    add("--pilot-b", type=Path, metavar="RUN2", help="a second one, of the other policy, on the same examples")
    add("--rho", metavar="R", help="with one pilot: correlation of the two policies' true pass rates (default 0.5)")
    add("--omega2", metavar="V", help="without a pilot: variance over examples of the true difference (default 1/9)")
    add("--sigma2", metavar="V", help="without a pilot: variance of one draw within an example (default 0)")
    add("--draws", type=int, metavar="K", help="completions an example (default: the pilot's, or 1)")
    add("--examples", type=int, metavar="N", help="a set to judge: what can it see? (default: as large as the pilot)")
    add("--next", type=int, metavar="N", help="completions a run may still get (default: as many again)")
    add("--cost-example", default="0", metavar="C", help="of one more example, once for both runs")
    add("--cost-draw", default="0", metavar="C", help="of one completion")
    add("--json", action="store_true", help="print the plan as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the plan; exit 0, or the code of the error raised."""
    from lockedroom.results.planning import Question, make_plan

    question = Question(
        delta=_number("--delta", args.delta),
        power=_number("--power", args.power),
        confidence=_number("--confidence", args.confidence),
        draws=args.draws,
        examples=args.examples,
        completions=args.next,
        cost_example=_number("--cost-example", args.cost_example),
        cost_draw=_number("--cost-draw", args.cost_draw),
    )
    plan = make_plan(_pilot(args), question)
    if args.json:
        print_json(plan)
    else:
        print("\n".join(_described(plan)))
    return 0


def _pilot(args: argparse.Namespace) -> Pilot:
    from lockedroom.errors import BadInput
    from lockedroom.results.planning import assumed_noise, pilot_of_one, pilot_of_two

    if args.pilot is None:
        if args.pilot_b is not None or args.rho is not None:
            raise BadInput("--pilot-b and --rho go with --pilot RUN")
        return assumed_noise(
            None if args.omega2 is None else _number("--omega2", args.omega2),
            None if args.sigma2 is None else _number("--sigma2", args.sigma2),
        )
    if args.omega2 is not None or args.sigma2 is not None:
        raise BadInput("--omega2 and --sigma2 are measured by the pilot; leave them out, or leave out --pilot")
    if args.pilot_b is None:
        return pilot_of_one(args.pilot, None if args.rho is None else _number("--rho", args.rho))
    if args.rho is not None:
        raise BadInput("--rho is measured by two pilots; leave it out")
    return pilot_of_two(args.pilot, args.pilot_b)


def _described(plan: Plan) -> list[str]:
    from lockedroom.results.text_table import text_table

    question, needed, noise = plan.question, plan.needed, plan.noise
    priced = question.cost_example + question.cost_draw > 0
    lines = [
        f"To see a gain of {question.delta:g} in pass rate with power {question.power:g} at {question.confidence:g} confidence:",
        f"  {counted(needed.examples, 'example')} × {counted(needed.draws, 'draw')} in each run, "
        f"{counted(needed.completions, 'completion')} in both" + (f", cost {needed.cost:,.6g}" if priced else ""),
    ]
    if plan.this_set is not None:
        seen = plan.this_set
        lines.append(
            f"A set of {counted(seen.examples, 'example')} sees a gain of {seen.detectable:.4f} or more; "
            f"one of {question.delta:g} with power {seen.power:.3f}."
        )
    if plan.next is not None:
        spent = plan.next
        lines.append(
            f"The next {counted(spent.completions, 'completion')} of each run are better spent on {spent.better}: the standard error "
            f"of the difference goes from {spent.se_now:.4f} to {spent.se_more_examples:.4f} with more examples, "
            f"to {spent.se_more_draws:.4f} with more draws."
        )
    if plan.choices:
        rows = [
            (str(one.draws), f"{one.examples:,}", f"{one.completions:,}", f"{one.cost:,.6g}" if priced else "",
             "cheapest" if one == plan.cheapest else "")
            for one in plan.choices
        ]  # fmt: skip
        header = ("draws", "examples needed", "completions, both runs", "cost" if priced else "", "")
        lines += ["", *text_table(header, rows, numbers=(0, 1, 2, 3)), ""]
    parts = f"ω² = {noise.between:.6g}, σ² = {noise.within_a:.6g}"
    parts += "" if noise.within_a == noise.within_b else f" and {noise.within_b:.6g}"
    return [*lines, f"Noise: {parts}. Assumed:", *(f"  - {line}" for line in plan.assumptions)]


def _number(name: str, text: str) -> float:
    from fractions import Fraction

    from lockedroom.errors import BadInput

    try:
        return float(Fraction(text)) if "/" in text else float(text)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise BadInput(f"{name} {text!r}: expected a number, such as 0.03 or 1/9") from None
