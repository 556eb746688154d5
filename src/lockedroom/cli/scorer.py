"""`lockedroom scorer diff|lock`: has the instrument changed?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lockedroom.cli.scorer_limits import add_scorer_limits
from lockedroom.wording import counted

if TYPE_CHECKING:
    from lockedroom.loops.instrument.scorer_checks import Change, Limits
    from lockedroom.records import Failure, Score

LOCK = "scorer.lock.json"
LONGEST_SHOWN = 200


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("scorer", help="has the instrument changed? Compare two scorers, or lock one",
                                   description="Questions about a scorer itself.")  # fmt: skip
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_diff(commands)
    _add_lock(commands)


def _add_diff(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "diff",
        help="where two scorers differ on saved completions",
        description="Exit 1 when any reward, code, outcome or parsed text differs.",
    )
    add = parser.add_argument
    add("old", metavar="OLD", help="final-int, permissive, or path/to/file.py:function")
    add("new", metavar="NEW", help="the same")
    add("--on", nargs="+", required=True, metavar="RUN|FILE",
        help="runs; files with expected_answer and completion on each line; or completions, with --dataset")  # fmt: skip
    add("--dataset", metavar="FILE", help="the examples that completions files belong to")
    add("--show", type=int, default=5, metavar="N", help="completions to print, and ids of each flip (default 5)")
    _add_limits(parser)
    parser.set_defaults(run=run_diff)


def _add_lock(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "lock",
        help="keep a scorer's verdicts; --check fails when they change without a new version",
        description="Verdicts on the fixed battery and on golden completions go into a lock file to be committed beside the "
        "scorer. In CI: lockedroom scorer lock SCORER --check. Exit 1 when verdicts changed under one version, or the lock "
        "is out of date; a change of the source alone is reported and passes.",
    )
    add = parser.add_argument
    add("scorer", metavar="SCORER", help="final-int, permissive, or path/to/file.py:function")
    add("--lock", default=LOCK, metavar="FILE", help=f"default {LOCK}; it may hold several scorers")
    add("--golden", nargs="+", default=[], metavar="FILE",
        help="expected_answer and completion on each line (default: those that the lock names)")  # fmt: skip
    add("--check", action="store_true", help="write nothing, exit 1 on any finding")
    _add_limits(parser)
    parser.set_defaults(run=run_lock)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_scorer_limits(parser)
    add("--json", action="store_true", help="print the result as JSON")


def run_diff(args: argparse.Namespace) -> int:
    """Print the flip matrix; exit 1 when any verdict differs."""
    from lockedroom.cli.json_output import print_json
    from lockedroom.errors import BadInput
    from lockedroom.loops.instrument.scorer_checks import diff_scorers
    from lockedroom.results.comparison.instrument import render_flips
    from lockedroom.visible import visible

    if args.show < 0:
        raise BadInput("--show must be 0 or more")
    found = diff_scorers(
        args.old,
        args.new,
        [Path(name) for name in args.on],
        dataset=Path(args.dataset) if args.dataset else None,
        limits=_limits(args),
        show=args.show,
    )
    if args.json:
        print_json(found)
    else:
        print(f"old: {visible(found.old, 100)}   new: {visible(found.new, 100)}\n")
        print("\n".join(render_flips(found.flips)))
        print(
            f"\n{found.differing:,} of {counted(found.judged, 'verdict differs', 'verdicts differ')} in reward, code, outcome or parsed text."
        )
        for change in found.changes:
            print(_change(change))
    return 1 if found.differing else 0


def run_lock(args: argparse.Namespace) -> int:
    """Write or check the lock; exit 1 on a finding."""
    from lockedroom.cli.json_output import print_json
    from lockedroom.loops.instrument.scorer_checks import lock_scorer
    from lockedroom.visible import visible

    goldens = [Path(name) for name in args.golden]
    done = lock_scorer(args.scorer, Path(args.lock), goldens, limits=_limits(args), check=args.check)
    checked = done.checked
    failed = bool(checked.behaviour) or (args.check and bool(checked.stale))
    if args.json:
        print_json({"result": done, "passed": not failed})
        return int(failed)
    name = visible(done.name, 80)
    if checked.behaviour:
        print(f"{name}: verdicts changed while the version is still {done.version}, so old and new runs would be taken for one "
              "instrument:")  # fmt: skip
        _list(checked.behaviour)
        how = "add a SPEC with a version" if done.version == 0 else f"make SPEC's version {done.version + 1}"
        print(f"what to do: undo the change; or {how}, add the golden case that shows why, and lock it again: "
              f"lockedroom scorer lock {args.scorer} --lock {args.lock}")  # fmt: skip
    if checked.stale and args.check:
        print(f"{name}: the lock is out of date:")
        _list(checked.stale)
        print(
            f"what to do: review the change, then lock it again: lockedroom scorer lock {args.scorer} --lock {args.lock}"
        )
    for note in checked.notes:
        print(f"{name}: {note}")
    if done.written:
        print(f"{args.lock}: {name} version {done.version} is locked; commit it beside the scorer")
    elif not failed:
        print(f"{args.lock}: {name} version {done.version} is as it was locked")
    return int(failed)


def _limits(args: argparse.Namespace) -> Limits:
    from lockedroom.loops.instrument.scorer_checks import Limits

    return Limits(args.scorer_timeout, args.scorer_memory)


def _list(lines: list[str]) -> None:
    print("".join(f"  - {line}\n" for line in lines), end="")


def _change(change: Change) -> str:
    from lockedroom.visible import visible

    return (
        f"- {visible(change.id, 60)}, expected {visible(str(change.expected_answer), 60)}: "
        f"{visible(change.completion, LONGEST_SHOWN) or '(empty)'}\n  old {_said(change.old)}\n  new {_said(change.new)}"
    )


def _said(result: Score | Failure) -> str:
    from lockedroom.records import Failure
    from lockedroom.visible import visible

    if isinstance(result, Failure):
        return f"failure {result.code.value}: {visible(result.message, LONGEST_SHOWN)}"
    details = result.details
    parsed = "nothing" if details.parsed is None else visible(details.parsed, 60)
    return f"{details.outcome.value}: {visible(details.code, 60)}, reward {result.reward:g}, parsed {parsed}"
