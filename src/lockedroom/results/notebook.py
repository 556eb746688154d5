"""The Markdown of a result as HTML for a notebook: headings, tables, lists and strong words, everything else as text."""

from __future__ import annotations

import html
import re

_BAR = re.compile(r"(?<!\\)\|")


def as_html(markdown: str) -> str:
    """Return our own Markdown as HTML. Every character of it is escaped first, so no completion becomes markup."""
    parts: list[str] = []
    table: list[str] = []
    for line in [*markdown.split("\n"), ""]:
        if line.startswith("| ") and line.endswith(" |"):
            table.append(line)
            continue
        if table:
            parts.append(_table(table))
            table = []
        if line.startswith("#"):
            parts.append(f"<h4>{_inline(line.lstrip('# '))}</h4>")
        elif line.strip():
            parts.append(f"<div>{_inline(line)}</div>")
    return "".join(parts)


def _table(lines: list[str]) -> str:
    header, rule, *rows = [[cell.strip() for cell in _BAR.split(line)[1:-1]] for line in lines]
    align = ["right" if dashes.endswith(":") else "left" for dashes in rule]

    def row(cells: list[str], tag: str) -> str:
        made = (
            f'<{tag} style="text-align:{side}">{_inline(cell)}</{tag}>' for cell, side in zip(cells, align, strict=True)
        )
        return f"<tr>{''.join(made)}</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    return f"<table><thead>{row(header, 'th')}</thead><tbody>{body}</tbody></table>"


def _inline(text: str) -> str:
    escaped = html.escape(text.replace("\\|", "|"))
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", escaped)
