"""The Markdown of a result as HTML for a notebook: headings, tables, lists and strong words, everything else as text."""

from __future__ import annotations

import html
import re

_BAR = re.compile(r"(?<!\\)\|")
_HEADING = re.compile(r"#+ ")
_FAINT = '<span style="opacity:.4">**</span>'
_RULE = re.compile(r"\|( -+:? \|)+")


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
        heading = _HEADING.match(line)
        if heading is not None:
            parts.append(f"<h4>{_inline(line[heading.end() :])}</h4>")
        elif line.strip():
            parts.append(_line(line))
    return "".join(parts)


def _table(lines: list[str]) -> str:
    split = [[cell.strip() for cell in _BAR.split(line)[1:-1]] for line in lines]
    if len(lines) < 2 or not _RULE.fullmatch(lines[1]) or len({len(cells) for cells in split}) > 1:
        return "".join(map(_line, lines))  # bars that make no table
    header, rule, *rows = split
    align = ["right" if dashes.endswith(":") else "left" for dashes in rule]

    def row(cells: list[str], tag: str) -> str:
        made = (
            f'<{tag} style="text-align:{side};white-space:pre-wrap">{_inline(cell)}</{tag}>'
            for cell, side in zip(cells, align, strict=True)
        )
        return f"<tr>{''.join(made)}</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    return f"<table><thead>{row(header, 'th')}</thead><tbody>{body}</tbody></table>"


def _line(text: str) -> str:
    return f'<div style="white-space:pre-wrap">{_inline(text)}</div>'


def _inline(text: str) -> str:
    """Escaped; strong words are bold and keep their signs, faintly, since they may be what a policy wrote."""
    escaped = html.escape(text.replace("\\|", "|"))
    return re.sub(r"\*\*([^*]+)\*\*", rf"{_FAINT}<strong>\1</strong>{_FAINT}", escaped)
