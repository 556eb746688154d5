"""`lockedroom demo`: the main job on the data that ships with the package."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lockedroom.results.summary import Summary

DATASET = "arithmetic-100.jsonl"
COMPLETIONS = (
    "smollm2-135m-instruct.zero-shot.t0.8.n8",
    "smollm2-135m-instruct.four-shot.t0.8.n8",
    "gemma-3-270m.four-shot.t0.8.n8",
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="measure completions recorded from two real models, look at their failures, verify the runs",
        description="Works offline on data that ships with the package.",
    )
    parser.add_argument("--out", metavar="FOLDER", help="where the runs go (default: runs/demo-<time>)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate, inspect and verify the recorded completions; exit 0."""
    import time

    import lockedroom
    from lockedroom.loops.configuration import EvaluateConfig
    from lockedroom.loops.evaluate import evaluate
    from lockedroom.results.rendering import render_summary
    from lockedroom.results.verify import verify

    data = Path(lockedroom.__file__).parent / "demo_data"
    out = Path(args.out) if args.out else Path("runs") / f"demo-{time.strftime('%Y%m%d-%H%M%S')}"
    print("Loop A on 100 arithmetic problems, 8 recorded completions each, judged by final-int (strict).\n")
    findings = []
    for name in COMPLETIONS:
        config = EvaluateConfig(dataset=str(data / DATASET), completions=str(data / f"{name}.jsonl"))
        done = evaluate(config, out / name, command=["lockedroom", "demo"])
        print(render_summary(done.summary, done.manifest))
        _show_failures(done.path)
        verified = verify(done.path)
        findings.append((name, done.summary, verified.rescored))
    print(
        "Format or arithmetic? Of all attempts, how many had the right form, and how many of those the right number:\n"
    )
    for name, summary, rescored in findings:
        print(f"  {name:<42} {_split(summary)}   verified, {rescored} verdicts made again")
    print(f"\nThe runs are in {out}/ . Read one: {out / COMPLETIONS[1] / 'summary.md'}")
    print(f"  lockedroom inspect {out / COMPLETIONS[1]} --code wrong_answer")
    print(f"  lockedroom verify  {out / COMPLETIONS[1]}")
    return 0


def _show_failures(path: Path) -> None:
    """Print one completion of each of the three most frequent codes that did not pass."""
    from lockedroom.cli.inspect import describe
    from lockedroom.results.inspection import Wanted, code_of, find_records

    shown = [pair for pair in find_records(path, Wanted(), 1) if code_of(pair[1]) != "ok"][:3]
    for example, record in shown:
        print(describe(example, record, 200))


def _split(summary: Summary) -> str:
    from lockedroom.records import Outcome

    formed = sum(code.count for code in summary.codes if code.outcome is not Outcome.MALFORMED)
    right = sum(code.count for code in summary.codes if code.outcome is Outcome.CORRECT)
    share = f"{right / formed:6.1%} of those right" if formed else "nothing to be right"
    return f"form right {formed / summary.scored:6.1%}, {share}"
