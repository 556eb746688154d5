"""What a person at a terminal sees of the Markdown that every command prints: drawn tables, headings, coloured verdicts.

Pipes and files get the Markdown itself. Colours respect NO_COLOR and TERM=dumb (rich decides). Nothing printed is read as
markup of rich, so a completion cannot style the terminal.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.text import Text

_BAR = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r"\|( -+:? \|)+")
_VERDICTS = {
    "BETTER": "bold green",
    "WORSE": "bold red",
    "EQUIVALENT": "bold cyan",
    "INCONCLUSIVE": "bold yellow",
    "NOT COMPARABLE": "bold red",
    "UNBIASED": "bold green",
    "BIASED": "bold yellow",
    "BROKEN": "bold red",
}
_HEADING = re.compile(r"#+ ")
_STRONG = re.compile(r"\*\*(?P<said>[^*]+)\*\*")


class TerminalMarkdown(io.TextIOBase):
    """A text stream that draws the tables written to it. It is a class because a table arrives line by line."""

    def __init__(self, terminal: TextIO) -> None:
        from rich.console import Console

        self._terminal = terminal
        self._console = Console(file=terminal, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._unfinished = ""
        self._table: list[str] = []

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._terminal.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # read-only here
        return self._terminal.encoding

    def write(self, text: str) -> int:
        *lines, self._unfinished = (self._unfinished + text).split("\n")
        for line in lines:
            self._take(line)
        return len(text)

    def flush(self) -> None:
        """Show what stands on an unfinished line too; a table is drawn when it has ended, or on `close`."""
        if self._unfinished and not self._table:
            self._terminal.write(self._unfinished)
            self._unfinished = ""
        self._terminal.flush()

    def close(self) -> None:
        self._draw()
        self.flush()
        super().close()

    def _take(self, line: str) -> None:
        if line.startswith("| ") and line.endswith(" |"):
            self._table.append(line)
            return
        self._draw()
        self._console.print(_heading(line))

    def _draw(self) -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        lines, self._table = self._table, []
        cells = [[cell.strip().replace("\\|", "|") for cell in _BAR.split(line)[1:-1]] for line in lines]
        if len(lines) < 2 or not _RULE.fullmatch(lines[1]) or len({len(row) for row in cells}) > 1:
            for line in lines:  # bars that make no table
                self._console.print(_styled(line))
            return
        header, rule, *rows = cells
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, header_style="bold")
        for name, dashes in zip(header, rule, strict=True):
            number = dashes.endswith(":")
            table.add_column(Text(name), justify="right" if number else "left", no_wrap=number, overflow="fold")
        for row in rows:
            table.add_row(*map(_styled, row))
        self._console.print(table, soft_wrap=False)


def _heading(line: str) -> Text:
    """A heading without its Markdown sign, bold or in the colour of the verdict that it begins with; other lines as `_styled`."""
    from rich.text import Text

    found = _HEADING.match(line)
    if found is None:
        return _styled(line)
    said = line[found.end() :]
    return Text(said, _VERDICTS.get(said.partition(":")[0], "bold"))


def _styled(line: str) -> Text:
    """The line whole: strong words are bold or coloured, their signs faint, since they may be what a policy wrote."""
    from rich.text import Text

    text = Text(line, _VERDICTS.get(line, ""))
    for found in _STRONG.finditer(line):
        text.stylize("dim", found.start(), found.end())
        text.stylize(f"not dim {_VERDICTS.get(found['said'].partition(':')[0], 'bold')}", *found.span("said"))
    return text
