"""`lockedroom watch RUN`: the pass rate so far, with an interval that stays valid however often one looks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lockedroom.wording import counted

if TYPE_CHECKING:
    from lockedroom.results.evaluation.watching import Seen


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "watch",
        help="the pass rate of a run so far; look as often as you like, and stop when you like",
        description="A confidence sequence (Robbins 1970) over the first draw of each example, of a run that is being written, "
        "was interrupted or is finished. With --workers, records appear only as pieces are joined.",
    )
    parser.add_argument("path", type=Path, metavar="RUN", help="a run folder, finished or not")
    parser.add_argument(
        "--confidence", type=float, default=0.95, metavar="C", help="of all looks together (default 0.95)"
    )
    parser.add_argument("--follow", action="store_true", help="print again as records come, until the run is finished")
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="with --follow (default 1)")
    parser.add_argument("--json", action="store_true", help="print JSON, one object a look")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the pass rate so far, once or as it grows; exit 0."""
    import time

    from lockedroom.errors import BadInput
    from lockedroom.results.evaluation.watching import Stream, is_finished

    if not 0 < args.confidence < 1:
        raise BadInput(f"--confidence {args.confidence}: must lie between 0 and 1, e.g. 0.95")
    if not 0 < args.every < float("inf"):
        raise BadInput(f"--every {args.every}: must be above 0 seconds")
    stream = Stream(args.path)
    last = None
    try:
        while True:
            finished = is_finished(args.path)  # before reading: what is read after that is all there is
            seen = stream.read_new()
            if seen != last or finished:
                _show(args, seen, finished=finished)
                last = seen
            if finished or not args.follow:
                return 0
            time.sleep(args.every)
    except KeyboardInterrupt:
        return 0


def _show(args: argparse.Namespace, seen: Seen, *, finished: bool) -> None:
    from lockedroom.results.evaluation.watching import watch_interval

    interval = watch_interval(seen, args.confidence)
    if args.json:
        import msgspec

        shown = {
            "finished": finished,
            **msgspec.structs.asdict(seen),
            "pass_rate": seen.pass_rate,
            "interval": interval,
        }
        print(msgspec.json.encode(shown).decode(), flush=True)
        return
    state = "finished" if finished else "unfinished"
    rate = "no pass rate yet" if seen.pass_rate is None else f"pass rate {seen.pass_rate:.4f}"
    line = (f"{args.path}: {state}, {counted(seen.attempts, 'attempt')}; {rate} over the first draws of {counted(seen.scored, 'example')}, "
            f"in [{interval.low:.4f}, {interval.high:.4f}] at {args.confidence:.4g} for all looks together")  # fmt: skip
    if seen.failed:
        line += f"; {counted(seen.failed, 'first draw could not be judged and is', 'first draws could not be judged and are')} left out"
    print(line, flush=True)
