"""`lockedroom demo`: the whole story on what ships with the package."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

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
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Tell the story act by act, write the report; exit 0."""
    import time

    from lockedroom.cli.progress import progress_bar
    from lockedroom.loops.demo import ACTS, RECORDED, Stage, left_out
    from lockedroom.results.run_folder import default_folder, writing

    began = time.monotonic()
    out = Path(args.out) if args.out else default_folder("demo")
    with writing(out):
        out.mkdir(parents=True)
    stage = Stage(out, lambda what, total: progress_bar(what, total=lambda: total))
    told: list[tuple[Act, Told]] = []
    for number, act in enumerate(ACTS, 1):
        print(f"## {number}. {act.title}", flush=True)
        print(act.about)
        missing = left_out(act)
        if missing is not None:
            print(f"  ({missing})\n")
            continue
        told.append((act, act.tell(stage)))
        _show(told[-1][1])
    report = _conclude(out, told)
    print(f"\n{time.monotonic() - began:.0f} s. The runs are in {out}/ . Check one, or look inside:")
    shown = out / RECORDED[1]
    print(f"  lockedroom verify  {shown}")
    print(f"  lockedroom inspect {shown} --code wrong_answer")
    if report is not None:
        print(f"\nThe report: {report}")
    return 0


def _show(told: Told) -> None:
    from lockedroom.visible import visible

    for finding in told.findings:
        print(f"  • {finding}")
    for quote in told.quotes:
        print("\n".join(f"    | {visible(line, 400)}" for line in quote.split("\n")))
    print(flush=True)


def _conclude(out: Path, told: list[tuple[Act, Told]]) -> Path | None:
    """Write the pages and return the one to open; None where they are left out."""
    import importlib.util

    print("## The report", flush=True)
    if importlib.util.find_spec("jinja2") is None:
        print("  (left out: pip install 'lockedroom[report]')")
        return None
    from lockedroom.report.demo_page import write_demo_pages

    page = write_demo_pages(out, told)
    count = sum(1 for _ in out.glob("*.html"))
    print(f"  • {count} pages, every run verified on the way.")
    return page
