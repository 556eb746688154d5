"""What a person at a terminal sees of the Markdown that every command prints: drawn tables, headings, coloured verdicts.

Pipes and files get the Markdown itself. Colours respect NO_COLOR and TERM=dumb (rich decides). Nothing printed is read as
markup of rich, so a completion cannot style the terminal.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, TextIO

from lockedroom.visible import display_width

if TYPE_CHECKING:
    from rich.text import Text

_BAR = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r"\|( -+:? \|)+")
_WORD = re.compile(r"\[[^\]]*\]|\S+")
POINT = "• "
NARROWEST = 24  # a terminal in which words are not kept whole
LONGEST_WORD = 24
EDGE, GAP = 2, 2  # columns of a drawn table's sides, and between two of its columns
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
        before, point, said = line.partition(POINT)
        if point and not before.strip() and self._console.width > NARROWEST:
            self._point(before + point, said)
        else:
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
        numbers = [i for i, dashes in enumerate(rule) if dashes.endswith(":")]
        widths = column_widths(header, rows, numbers, self._console.width - EDGE)
        if widths is None:
            self._stack(header, rows)
            return
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, header_style="bold")
        for i, (name, width) in enumerate(zip(header, widths, strict=True)):
            table.add_column(Text(name), justify="right" if i in numbers else "left", width=width, overflow="fold")
        for row in rows:
            table.add_row(*map(_styled, row))
        self._console.print(table, soft_wrap=False)

    def _point(self, before: str, said: str) -> None:
        """A point of a list, broken between words, its lines below each other."""
        for line in _styled(said).wrap(self._console, self._console.width - len(before)):
            self._console.print(before, line, sep="")
            before = " " * len(before)

    def _stack(self, header: list[str], rows: list[list[str]]) -> None:
        """A table that does not fit, row by row: what a column is called, then its cell; nothing is cut off."""
        from rich.text import Text

        for name, *cells in rows:
            line, parts = Text(f"{header[0]} {name}".strip(), "bold"), 0
            for title, cell in zip(header[1:], cells, strict=True):
                if not cell:
                    continue
                part = Text.assemble((f"{title} ".lstrip(), "dim"), _styled(cell))
                if line.cell_len + 3 + display_width(part.plain) > self._console.width or not parts:
                    self._console.print(line)
                    line = Text("  ")
                else:
                    line.append(" · ")
                line.append_text(part)
                parts += 1
            self._console.print(line)


def column_widths(header: list[str], rows: list[list[str]], numbers: list[int], room: int) -> list[int] | None:
    """Return widths that fit into `room`, the widest columns of text made narrower; None where words would have to break.

    Numbers and intervals are never folded, headings between words only, and a word of text only beyond `LONGEST_WORD`.
    """
    columns = [[row[i] for row in rows] for i in range(len(header))]
    widths, least = [], []
    for i, (name, column) in enumerate(zip(header, columns, strict=True)):
        whole = max(map(display_width, column), default=0)
        words = [min(display_width(word), LONGEST_WORD) for cell in column for word in _WORD.findall(cell)]
        in_name = max(map(display_width, name.split()), default=0)
        least.append(max(in_name, whole if i in numbers else max(words, default=0)))
        widths.append(max(least[-1], whole, display_width(name)))
    room -= GAP * (len(header) - 1)
    while sum(widths) > room:
        widest = max(range(len(widths)), key=lambda i: (widths[i] > least[i], widths[i]))
        if widths[widest] <= least[widest]:
            return None
        widths[widest] -= 1
    return widths


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
