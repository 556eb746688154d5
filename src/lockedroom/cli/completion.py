"""`lockedroom completion SHELL`: the script that completes commands and flags."""

from __future__ import annotations

import argparse

SHELLS = ("bash", "zsh", "fish", "tcsh")
# What help texts call the arguments that are, or may be, files and folders.
PATHS = frozenset(["RUN", "RUN2", "FILE", "FOLDER", "AUDIT", "SCORER", "DATASET", "LOG", "OLD", "NEW", "RUN|FILE", "FILE.py", "FILE.py:FUNCTION", "FPR,FNR|AUDIT"])  # fmt: skip


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "completion",
        help="print the script that completes commands and flags in your shell",
        description='For bash: eval "$(lockedroom completion bash)". For zsh: save it as _lockedroom in a folder of $fpath. For '
        "fish: save it as ~/.config/fish/completions/lockedroom.fish. Files and folders are completed too. Needs the extra "
        "[completion].",
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
    parser = build_parser()
    _complete_paths(parser, shtab.FILE)
    _describe_shortly(parser)
    script = shtab.complete(parser, args.shell)
    print(
        script.replace('"(*):', '"*:') if args.shell == "zsh" else script
    )  # shtab completes the first of several alone
    return 0


def _complete_paths(parser: argparse.ArgumentParser, how: object) -> None:
    """Mark every argument that names a file or folder, in all commands, as shtab wants it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_paths(command, how)
        elif action.metavar in PATHS:
            action.complete = how  # type: ignore[attr-defined]  # where shtab looks


def _describe_shortly(parser: argparse.ArgumentParser) -> None:
    """Let the help of a command stand beside its name: its description does not fit there."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for told in action._choices_actions:
                command = action.choices[told.dest]
                command.description = told.help
                _describe_shortly(command)
