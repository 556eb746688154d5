"""`lockedroom inspect RUN`: read completions and verdicts as a person would want to."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lockedroom.records import Example, Record

LONGEST_SHOWN = 2000
RULE_WIDTH = 100


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "inspect",
        help="read a run's completions, with what was parsed and why",
        description="Without a filter: the first few of every code. Invisible characters are shown by name.",
    )
    parser.add_argument("path", metavar="RUN", help="a finished run folder")
    parser.add_argument("--code", metavar="C", help="only records with this code")
    parser.add_argument("--failures", action="store_true", help="only attempts that could not be judged")
    parser.add_argument("--id", action="append", metavar="ID", help="only this example (may be repeated)")
    parser.add_argument(
        "--show", type=int, metavar="N", help="how many (default 10; of an id all; without a filter, 2 of every code)"
    )
    parser.add_argument(
        "--full", action="store_true", help=f"do not cut completions after {LONGEST_SHOWN:,} characters"
    )
    parser.add_argument("--rates", action="store_true", help="the examples by pass rate instead, the lowest first")
    parser.add_argument("--json", action="store_true", help="print examples and records as JSON lines")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the records asked for; exit 0."""
    from lockedroom.errors import BadInput
    from lockedroom.jsonl import encode_lines
    from lockedroom.results.evaluation.inspection import Wanted, find_records
    from lockedroom.visible import ascii_json

    wanted = Wanted(args.code, args.failures, tuple(args.id or ()))
    if args.show is not None and args.show < 1:
        raise BadInput(f"--show {args.show}: must be at least 1")
    if args.rates:
        if wanted != Wanted():
            raise BadInput("--rates lists whole examples; leave out --code, --failures and --id")
        return _print_rates(Path(args.path), args.show or 10, as_json=args.json)
    found = find_records(Path(args.path), wanted, args.show)
    if args.json:
        rows = [{"example": example, "record": record} for example, record in found]
        print(ascii_json(encode_lines(rows)), end="")
        return 0
    if not found:
        print("nothing to show: no record of this run is what was asked for")
    for example, record in found:
        print(describe(example, record, None if args.full else LONGEST_SHOWN))
    return 0


def _print_rates(run: Path, show: int, *, as_json: bool) -> int:
    import heapq

    from lockedroom.jsonl import encode_lines
    from lockedroom.results.evaluation.inspection import ExampleRate, example_rates
    from lockedroom.results.text_table import text_table
    from lockedroom.visible import ascii_json, visible

    def lowest_first(rate: ExampleRate) -> tuple[float, str]:
        return (-1.0 if rate.pass_rate is None else rate.pass_rate, rate.id)

    if as_json:
        for rate in example_rates(run):
            print(ascii_json(encode_lines([rate])), end="")
        return 0
    rows = [
        (
            visible(rate.id, 40),
            "could not be judged" if rate.pass_rate is None else f"{rate.pass_rate:.3f}",
            f"{rate.correct} of {rate.scored}",
            visible(rate.prompt, 80),
        )
        for rate in heapq.nsmallest(show, example_rates(run), key=lowest_first)
    ]
    print("\n".join(text_table(("example", "pass rate", "correct draws", "prompt"), rows, numbers=(1, 2))))
    return 0


def describe(example: Example, record: Record, limit: int | None) -> str:
    """Return one record as a block of text, safe for a terminal."""
    from lockedroom.records import Score
    from lockedroom.visible import padded, visible

    result = record.result
    if isinstance(result, Score):
        verdict = f"{result.details.outcome.value}: {visible(result.details.code, 80)}"
        parsed = "nothing" if result.details.parsed is None else visible(result.details.parsed, limit)
        why = [
            f"reward      {result.reward:g}",
            f"parsed      {parsed}",
            f"why         {visible(result.details.message, limit)}",
        ]
        if result.details.extra:
            why.append(f"details     {visible(str(result.details.extra), limit)}")
    else:
        verdict = f"failure: {result.code.value}"
        why = ["reward      none: this attempt could not be judged", f"why         {visible(result.message, limit)}"]
    title = f"── {visible(record.id, 60)} · draw {record.draw} · {verdict} "
    completion = record.completion
    text = "(none)" if completion is None else (visible(completion.text, limit) or "(empty)")
    facts = "" if completion is None else _facts(completion.logprob, completion.finish_reason)
    return "\n".join(
        [
            padded(title, _rule_width(), "─"),
            f"prompt      {visible(example.prompt, limit)}",
            f"expected    {visible(str(example.expected_answer), limit)}",
            f"completion  {text}{facts}",
            *why,
            "",
        ]
    )


def _rule_width() -> int:
    """At most that of the terminal."""
    return min(RULE_WIDTH, shutil.get_terminal_size().columns) if sys.stdout.isatty() else RULE_WIDTH


def _facts(logprob: float | None, finish_reason: object) -> str:
    from lockedroom.records import FinishReason

    facts = [] if logprob is None else [f"logprob {logprob:.2f}"]
    if finish_reason is FinishReason.LENGTH:
        facts.append("hit the token limit")
    return f"   ({', '.join(facts)})" if facts else ""
