"""`lockedroom COMMAND`: parse, call one function, print.

Only argparse is imported here: `--help` has to answer at once. A command imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from lockedroom._version import __version__
from lockedroom.errors import LockedroomError

EPILOG = """exit codes: 0 fine · 1 a finding · 2 bad input · 3 not comparable · 4 tampered or corrupt · 5 sealed"""


def build_parser() -> argparse.ArgumentParser:
    from lockedroom.cli import dataset, demo, evaluate, inspect, verify

    parser = argparse.ArgumentParser(
        prog="lockedroom",
        description="Measure, select and learn with verifiable rewards; every number can be re-derived, or is refused.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"lockedroom {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in (demo, evaluate, inspect, verify, dataset):
        command.add_parser(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a LockedroomError becomes one message on stderr."""
    parsed = build_parser().parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
        sys.stdout.flush()
    except LockedroomError as error:
        print(f"lockedroom: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("lockedroom: stopped; an unfinished run is continued with the same command and --resume", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader (head, less) has gone; nothing is wrong. Keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


if __name__ == "__main__":
    sys.exit(main())
