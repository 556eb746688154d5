"""`lockedroom selftest`: does this installation compute what it says it does?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lockedroom.cli.json_output import print_json
from lockedroom.wording import counted

if TYPE_CHECKING:
    from lockedroom.stats.coverage import CoverageCell
    from lockedroom.stats.oracles import Replay

QUICK_SIMULATIONS = 200
WILSON_AT_LEAST = 0.93


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "selftest",
        help="replay every published number, simulate the coverage of the intervals",
        description="Exit 1 when an oracle is missed, a simulation disagrees with the exact coverage, Wilson covers less than "
        "93 % or Clopper-Pearson less than it says.",
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_SIMULATIONS} simulations a cell instead of 2,000, and n up to 100"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the simulations (default 0)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Replay, simulate and print; exit 0, or 1 when something fails."""
    from lockedroom.cli.progress import waiting
    from lockedroom.errors import BadInput
    from lockedroom.stats.coverage import SIZES, coverage_table
    from lockedroom.stats.oracles import replay_all

    if args.seed < 0:
        raise BadInput(f"--seed {args.seed}: must be 0 or more")
    with waiting("selftest"):
        replays = list(replay_all())
        if args.quick:
            cells = coverage_table(sizes=SIZES[:2], simulations=QUICK_SIMULATIONS, seed=args.seed)
        else:
            cells = coverage_table(seed=args.seed)
    return report(replays, cells, as_json=args.json)


def report(replays: Sequence[Replay], cells: Sequence[CoverageCell], *, as_json: bool) -> int:
    """Print what was found; return 0 when everything holds, else 1."""
    missed = [replay for replay in replays if not replay.passed]
    short = [cell for cell in cells if not covers(cell)]
    if as_json:
        shown = {"passed": not missed and not short, "oracles": replays, "coverage": cells}
        print_json(shown)
    else:
        print("\n".join([*_oracles(replays), "", *_coverage(cells), "", *_verdict(replays, cells, missed, short)]))
    return 1 if missed or short else 0


def covers(cell: CoverageCell) -> bool:
    """Whether the simulation agrees with the exact coverage, and that is as high as the method promises."""
    enough = cell.never_short if cell.method == "clopper-pearson" else cell.exact >= WILSON_AT_LEAST
    return cell.agrees and enough


def _oracles(replays: Sequence[Replay]) -> list[str]:
    from lockedroom.results.text_table import text_table

    rows = []
    for replay in replays:
        oracle = replay.oracle
        got = ", ".join(
            _digits(found, expected) for found, expected in zip(replay.found, oracle.expected, strict=False)
        )
        expected = ("not " if oracle.must_differ else "") + ", ".join(oracle.expected)
        rows.append((oracle.name, oracle.source, expected, got or "nothing", "ok" if replay.passed else "FAILED"))
    return text_table(("oracle", "source", "expected", "got", "ok"), rows, numbers=())


def _coverage(cells: Sequence[CoverageCell]) -> list[str]:
    from lockedroom.results.text_table import text_table

    rows = [
        (cell.method, str(cell.n), f"{cell.p:g}", f"{cell.exact:.4f}", f"{cell.simulated:.4f}",
         "yes" if cell.within_band else "no", "ok" if covers(cell) else "FAILED")
        for cell in cells
    ]  # fmt: skip
    return text_table(
        ("95 % interval", "n", "p", "exact coverage", "simulated", "in 93-97 %", "ok"), rows, numbers=(1, 2, 3, 4)
    )


def _verdict(
    replays: Sequence[Replay], cells: Sequence[CoverageCell], missed: Sequence[Replay], short: Sequence[CoverageCell]
) -> list[str]:
    lines = [
        f"{len(replays) - len(missed)} of {counted(len(replays), 'oracle holds', 'oracles hold')}, to half a unit of the last digit shown."
    ]
    outside = [cell for cell in cells if cell.method == "wilson" and not cell.within_band]
    for cell in outside:
        lines.append(
            f"Wilson leaves the band of 93-97 % at n = {cell.n}, p = {cell.p:g}: {cell.exact:.2%}, "
            f"{'on the safe side' if cell.exact > cell.confidence else 'short'}. Neither interval stays within it in every cell."
        )
    lines.append(
        f"{len(cells) - len(short)} of {counted(len(cells), 'cell')} cover as promised: simulation ({counted(cells[0].simulations, 'run')} a cell) agrees with "
        "the exact coverage, Wilson at least 93 %, Clopper-Pearson at least 95 %."
    )
    if missed or short:
        lines.append("FAILED: do not trust this installation's numbers; report the rows above.")
    return lines


def _digits(found: float, expected: str) -> str:
    return f"{found:.{len(expected.partition('.')[2]) + 1}f}"
