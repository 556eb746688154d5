"""A parser whose errors are one message: what was found, the nearest thing that exists, and where to read on."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from lockedroom.visible import visible

LONGEST = 300
# What other evaluation tools call a flag of ours.
ELSEWHERE = {"--n": "--draws", "-n": "--draws", "--epochs": "--draws", "--num-samples": "--draws", "--model": "--policy",
             "--log-dir": "--out", "--output": "--out", "-o": "--out", "--top_p": "--top-p", "--max_tokens": "--max-tokens"}  # fmt: skip
_CHOICE = re.compile(r"argument (?P<name>.+?): invalid choice: (?P<quote>['\"])(?P<value>.*?)(?P=quote) \(", re.DOTALL)
_MISSING = re.compile(r"the following arguments are required: (?P<names>.*)", re.DOTALL)


class GroupedHelp(argparse.HelpFormatter):
    """Help in which a list of commands has headings; `first` maps the first command of each group to its heading."""

    def __init__(self, prog: str, first: dict[str, str]) -> None:
        super().__init__(prog)
        self._first = first

    def _format_action(self, action: argparse.Action) -> str:
        heading = self._first.get(action.dest) if action.nargs is None and not action.option_strings else None
        shown = super()._format_action(action)
        return (
            shown
            if heading is None
            else f"\n{' ' * (self._current_indent - self._indent_increment)}{heading}:\n{shown}"
        )


class CommandParser(argparse.ArgumentParser):
    """As argparse, of which every command's parser is one too; an unknown flag is refused by the command it was given to."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown(unknown))
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        said = visible(self._in_words(message), LONGEST)
        print(f"{self.prog}: {said} ({self.prog} --help)", file=sys.stderr)
        sys.exit(2)

    def _unknown(self, unknown: Sequence[str]) -> str:
        flag = next((one for one in unknown if one.startswith("-") and one != "-"), None)
        if flag is None:
            return f"{unknown[0]!r}: nothing more was expected here"
        name = flag.partition("=")[0]
        return f"{name}: no such flag{_nearest(name, self._option_string_actions)}"

    def _in_words(self, message: str) -> str:
        wrong, missing = _CHOICE.match(message), _MISSING.match(message)
        if missing is not None:
            return f"{missing['names']} {'are' if ', ' in missing['names'] else 'is'} missing"
        if wrong is None:
            return message.removeprefix("argument ")
        choices = next((one.choices for one in self._actions if wrong["name"] in _names(one) and one.choices), ())
        what = "no such command" if wrong["name"] == "COMMAND" else f"not one of {', '.join(map(str, choices))}"
        where = "" if wrong["name"] == "COMMAND" else f"{wrong['name']}: "
        return f"{where}{wrong['value']}: {what}{_nearest(wrong['value'], map(str, choices))}"


def _names(action: argparse.Action) -> tuple[str, ...]:
    """What argparse calls an argument in its messages."""
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    return ("/".join(action.option_strings), metavar, action.dest)


def _nearest(given: str, known: Iterable[str]) -> str:
    import difflib  # a third of the time of --help, and only of use to whom makes a mistake

    words = list(known)
    if (elsewhere := ELSEWHERE.get(given)) in words:
        return f"; did you mean {elsewhere}?"
    found = difflib.get_close_matches(given, words, 1, 0.6)
    # A part of a longer name is meant as often as a slip of the finger.
    bare = given.strip("-")
    found += [one for one in words if len(bare) > 2 and bare in one.split("-")]
    return f"; did you mean {found[0]}?" if found else ""
