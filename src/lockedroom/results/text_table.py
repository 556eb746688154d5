"""A table that reads well as text and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from lockedroom.visible import display_width, padded


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int]) -> list[str]:
    """Return the lines of a Markdown table with columns that line up in a terminal; those at `numbers` are set right.

    A column without a name in which every cell is empty is left out; a bar in a cell is escaped, as Markdown wants it.
    """
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    keep = [i for i, name in enumerate(header) if name or any(row[i] for row in rows)]
    widths = [max(3, *(display_width(row[i]) for row in (header, *rows))) for i in keep]

    def line(cells: Sequence[str]) -> str:
        parts = [padded(cells[i], width, right=i in numbers) for i, width in zip(keep, widths, strict=True)]
        return "| " + " | ".join(parts) + " |"

    rule = ["-" * (width - 1) + (":" if i in numbers else "-") for i, width in zip(keep, widths, strict=True)]
    return [line(header), "| " + " | ".join(rule) + " |", *(line(row) for row in rows)]
