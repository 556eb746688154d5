"""`lockedroom demo`: the whole story on what ships with the package."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from lockedroom.wording import counted

if TYPE_CHECKING:
    from lockedroom.loops.demo import Act, Told


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="the whole story in a minute: audit, evaluate, select, learn, compare, a cheat refused, Goodhart, a report",
        description="Works offline on what ships with the package. What needs an extra that is not installed is left out, "
        "and says so. The runs stay in a folder: everything told can be checked.",
    )
    parser.add_argument("--out", metavar="FOLDER", help="where the runs go (default: runs/demo-<time>)")
    parser.add_argument("--json", action="store_true", help="print what every act found as JSON, instead of telling it")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Tell the story act by act, write the report; exit 0."""
    import time

    from lockedroom.cli.progress import progress_bar
    from lockedroom.loops.demo import ACTS, Stage, left_out
    from lockedroom.results.run_folder import default_folder, writing

    began = time.monotonic()
    out = Path(args.out) if args.out else default_folder("demo")
    with writing(out):
        out.mkdir(parents=True)
    stage = Stage(out, lambda what, total: progress_bar(what, total=lambda: total))
    told: list[tuple[Act, Told]] = []
    for number, act in enumerate(ACTS, 1):
        missing = left_out(act)
        if not args.json:
            print(f"## {number}. {act.title}", flush=True)
            print(act.about if missing is None else f"{act.about}\n  ({missing})\n")
        if missing is None:
            told.append((act, act.tell(stage)))
            if not args.json:
                _show(told[-1][1])
    report = _write_pages(out, told)
    seconds = time.monotonic() - began
    if args.json:
        _print_json(out, told, report, seconds)
    else:
        _conclude(out, report, seconds)
    return 0


def _print_json(out: Path, told: list[tuple[Act, Told]], report: Path | None, seconds: float) -> None:
    from lockedroom.cli.json_output import print_json
    from lockedroom.loops.demo import ACTS, left_out

    found = {act.title: one for act, one in told}
    acts = [{"title": act.title, "left_out": left_out(act), "told": found.get(act.title)} for act in ACTS]
    page = None if report is None else str(report)
    print_json({"out": str(out), "acts": acts, "report": page, "seconds": seconds})


def _show(told: Told) -> None:
    from lockedroom.visible import visible

    for finding in told.findings:
        print(f"  • {finding}")
    for quote in told.quotes:
        print("\n".join(f"    | {visible(line, 400)}" for line in quote.split("\n")))
    print(flush=True)


def _write_pages(out: Path, told: list[tuple[Act, Told]]) -> Path | None:
    """Write the pages and return the one to open; None where they are left out."""
    import importlib.util

    if importlib.util.find_spec("jinja2") is None:
        return None
    from lockedroom.report.demo_page import write_demo_pages

    return write_demo_pages(out, told)


def _conclude(out: Path, report: Path | None, seconds: float) -> None:
    from lockedroom.loops.demo import RECORDED

    print("## The report")
    if report is None:
        print("  (left out: pip install 'lockedroom[report]')")
    else:
        print(f"  • {counted(sum(1 for _ in out.glob('*.html')), 'page')}, every run verified on the way.")
    print(f"\n{seconds:.0f} s. The runs are in {out}/ . Check one, or look inside:")
    shown = shlex.quote(str(out / RECORDED[1]))
    print(f"  lockedroom verify  {shown}")
    print(f"  lockedroom inspect {shown} --code wrong_answer")
    if report is not None:
        print(f"\nThe report: {report}")
