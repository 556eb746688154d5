"""`lockedroom completion SHELL`: the script that completes commands and flags."""

from __future__ import annotations

import argparse

SHELLS = ("bash", "zsh", "tcsh")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "completion",
        help="print the script that completes commands and flags in your shell",
        description='For bash: eval "$(lockedroom completion bash)". Needs the extra [completion].',
    )
    parser.add_argument("shell", choices=SHELLS)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the script; exit 0."""
    from lockedroom.cli.main import build_parser
    from lockedroom.errors import MissingExtra

    try:
        import shtab
    except ModuleNotFoundError:
        raise MissingExtra("shell completion", "completion") from None
    print(shtab.complete(build_parser(), args.shell))
    return 0
