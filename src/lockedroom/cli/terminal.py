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
_SPEAKING = re.compile(r"^#+ (?P<heading>.*)$|\*\*(?P<strong>[^*]+)\*\*")


class TerminalMarkdown(io.TextIOBase):
    """A text stream that draws the tables written to it. It is a class because a table arrives line by line."""

    def __init__(self, terminal: TextIO) -> None:
        from rich.console import Console

        self._terminal = terminal
        self._console = Console(file=terminal, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._unfinished = ""
        self._table: list[list[str]] = []

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
            self._table.append([cell.strip().replace("\\|", "|") for cell in _BAR.split(line)[1:-1]])
            return
        self._draw()
        self._console.print(_styled(line))

    def _draw(self) -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        if not self._table:
            return
        header, rule, *rows = self._table
        self._table = []
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, header_style="bold")
        for name, dashes in zip(header, rule, strict=True):
            number = dashes.endswith(":")
            table.add_column(Text(name), justify="right" if number else "left", no_wrap=number, overflow="fold")
        for row in rows:
            table.add_row(*map(_styled, row))
        self._console.print(table, soft_wrap=False)


def _styled(line: str) -> Text:
    """The line without its Markdown signs for headings and strong words, which become bold or the colour of a verdict."""
    from rich.text import Text

    text, position = Text(), 0
    for found in _SPEAKING.finditer(line):
        said = found["heading"] if found["heading"] is not None else found["strong"]
        text.append(line[position : found.start()])
        text.append(said, _VERDICTS.get(said.partition(":")[0], "bold"))
        position = found.end()
    text.append(line[position:])
    if line in _VERDICTS:
        text.stylize(_VERDICTS[line])
    return text
