"""`lockedroom report RUN…`: one self-contained HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "report",
        help="one self-contained HTML page of a run, or of a comparison",
        description="Verifies the runs, then writes a page that needs no network: numbers, charts, completions to browse, "
        "provenance. Several runs are compared with the first. Needs the extra [report].",
    )
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="a finished run folder; several are compared with the first")
    add("--out", metavar="FILE", help="the page (default: RUN.html beside the run, comparison.html for several)")
    add("--json", action="store_true", help="print where the page is as JSON")
    comparing = parser.add_argument_group("several runs (as in lockedroom compare)").add_argument
    comparing(
        "--margin", type=float, metavar="D", help="a difference too small to matter; allows the verdict EQUIVALENT"
    )
    comparing(
        "--confidence", type=float, default=0.95, metavar="C", help="of the intervals of the differences (default 0.95)"
    )
    comparing("--metric", choices=("pass", "reward"), default="pass", help="pass rate (default) or mean reward")
    comparing("--knobs", metavar="NAMES", help="what you mean to compare: policy, selection, or both at once")
    comparing(
        "--assume-equal", metavar="FIELDS", help="state that undeclared fields are equal: sampling,prompts.template"
    )
    comparing(
        "--not-comparable", action="store_true", help="show runs that are not comparable, stamped, without a verdict"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the page and say where; exit 0."""
    from lockedroom.cli.progress import waiting
    from lockedroom.errors import BadInput
    from lockedroom.report.document import make_page, not_comparable_page
    from lockedroom.report.page import write_page
    from lockedroom.results.compare import CompareOptions

    runs = [_named(Path(name)) for name in args.runs]
    options = CompareOptions(
        margin=args.margin, confidence=args.confidence, metric=args.metric, knobs=_listed(args.knobs),
        assume_equal=_listed(args.assume_equal), show=20,
    )  # fmt: skip
    if len(runs) == 1 and (args.not_comparable or options != CompareOptions(show=20)):
        raise BadInput("--margin, --confidence, --metric, --knobs, --assume-equal and --not-comparable are for several runs; one was named")  # fmt: skip
    if args.not_comparable and options != CompareOptions(show=20):
        raise BadInput("--not-comparable gives no verdict; leave out the other flags of a comparison")
    with waiting("report"):
        page = not_comparable_page(runs) if args.not_comparable else make_page(runs, options)
    default = runs[0].parent / (f"{runs[0].name}.html" if len(runs) == 1 else "comparison.html")
    out = Path(args.out) if args.out else default
    write_page(page, out)
    if args.json:
        from lockedroom.cli.json_output import print_json

        print_json({"page": str(out), "bytes": out.stat().st_size})
        return 0
    print(f"{out}  ({out.stat().st_size / 1e6:.2f} MB, opens without a network)")
    return 0


def _named(run: Path) -> Path:
    """A path whose last part is the folder's name: `.` and `..` have none, and pages are named after their runs."""
    return run.resolve() if run.name in ("", "..") else run


def _listed(names: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (names or "").split(",") if name.strip())
