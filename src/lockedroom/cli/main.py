"""`lockedroom COMMAND`: parse, call one function, print.

Only argparse is imported here: `--help` has to answer at once. A command imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import errno
import gc
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from lockedroom._version import __version__
from lockedroom.cli.parsing import CommandParser, GroupedHelp
from lockedroom.errors import BadInput, CannotWrite, LockedroomError
from lockedroom.visible import SIGNS, visible

LONGEST_LINE = 4000
EPILOG = """exit codes: 0 fine · 1 a finding · 2 bad input · 3 not comparable · 4 tampered or corrupt · 5 sealed"""


# In the order of the help, under its headings; each is a module of this package with `add_parser`.
GROUPS = {
    "every day": ("demo", "evaluate", "select", "warmup", "learn", "compare", "inspect", "report", "verify", "watch", "runs", "view"),
    "the instrument": ("dataset", "scorer", "golden", "audit", "rescore", "holdout", "plan", "selftest"),
    "the microscope": ("tokens", "court", "bandit", "frontier", "goodhart"),
    "neighbours and shell": ("export", "import", "completion"),
}  # fmt: skip
COMMANDS = tuple(command for commands in GROUPS.values() for command in commands)
# A module cannot be named like a keyword.
_MODULES = {"import": "import_"}


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of all commands, or of one alone: making all takes longer than a short run."""
    parser = CommandParser(
        prog="lockedroom",
        description="Measure, select and learn with verifiable rewards; every number can be derived again, or is refused.",
        epilog=EPILOG,
        formatter_class=lambda prog: GroupedHelp(prog, {commands[0]: title for title, commands in GROUPS.items()}),
    )
    parser.add_argument("--version", action="version", version=f"lockedroom {__version__}")
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for name in (command,) if command in COMMANDS else COMMANDS:
        importlib.import_module(f"lockedroom.cli.{_MODULES.get(name, name)}").add_parser(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a LockedroomError becomes one message on stderr."""
    gc.set_threshold(10_000)  # imports make many objects and no garbage: looking through them every 700 costs 5 ms
    atexit.register(gc.freeze)  # nor is there anything to find at the end: that last look costs 8 ms
    given = sys.argv[1:] if arguments is None else arguments
    parsed = build_parser(given[0] if given else None).parse_args(given)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that cannot show a sign still gets a result
    try:
        _refuse_undecodable(given)
        code: int = _run(parsed)
        sys.stdout.flush()
    except LockedroomError as error:
        said = f"lockedroom: {error}{_then(parsed, error)}"
        print("\n".join(visible(line, LONGEST_LINE, kept=SIGNS) for line in said.split("\n")), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        resume = "; an unfinished run is continued with the same command and --resume"
        print(f"lockedroom: stopped{resume if _resumes(parsed) else ''}", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader (head, less) has gone; nothing is wrong. Keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            print(f"lockedroom: {visible(str(error.filename), 80)}: this name is too long for a file", file=sys.stderr)
            return 2
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        why = "no space left on the device" if error.errno == errno.ENOSPC else str(error.strerror).lower()
        print(f"lockedroom: the output cannot be written: {why}", file=sys.stderr)
        return 2
    return code


def _resumes(parsed: argparse.Namespace) -> bool:
    return hasattr(parsed, "resume")


def _then(parsed: argparse.Namespace, error: LockedroomError) -> str:
    """What this command can do once there is room on the disk again."""
    if not isinstance(error, CannotWrite) or error.full is None:
        return ""
    path = Path(error.full)
    if _resumes(parsed) and any((folder / "config.toml").is_file() for folder in (path, *path.parents)):
        return " and continue with --resume; finished records are kept"
    out = getattr(parsed, "out", None)
    return " and run it again" + (", with another --out" if out and Path(out).is_dir() else "")


def _run(parsed: argparse.Namespace) -> int:
    """Run the command; at a terminal, its Markdown is drawn."""
    if not sys.stdout.isatty():
        return int(parsed.run(parsed))
    from lockedroom.cli.terminal import TerminalMarkdown

    with contextlib.closing(TerminalMarkdown(sys.stdout)) as drawn, contextlib.redirect_stdout(drawn):
        return int(parsed.run(parsed))


def _refuse_undecodable(arguments: Sequence[str]) -> None:
    """Everything a run depends on is kept as UTF-8 text, also the names of files."""
    for argument in arguments:
        if not argument.isascii() and any("\ud800" <= character <= "\udfff" for character in argument):
            raise BadInput(f"{argument!r}: not UTF-8; rename the file, or set the terminal's encoding to UTF-8")


if __name__ == "__main__":
    sys.exit(main())
