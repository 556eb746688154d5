"""A table that reads well as text and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int]) -> list[str]:
    """Return the lines of a Markdown table with aligned columns; those at `numbers` are set right.

    A column without a name in which every cell is empty is left out; a bar in a cell is escaped, as Markdown wants it.
    """
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    keep = [i for i, name in enumerate(header) if name or any(row[i] for row in rows)]
    widths = [max(len(header[i]), *(len(row[i]) for row in rows), 3) if rows else max(len(header[i]), 3) for i in keep]

    def line(cells: Sequence[str]) -> str:
        parts = [
            cells[i].rjust(width) if i in numbers else cells[i].ljust(width)
            for i, width in zip(keep, widths, strict=True)
        ]
        return "| " + " | ".join(parts) + " |"

    rule = ["-" * (width - 1) + (":" if i in numbers else "-") for i, width in zip(keep, widths, strict=True)]
    return [line(header), "| " + " | ".join(rule) + " |", *(line(row) for row in rows)]
