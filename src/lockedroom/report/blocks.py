"""What a report is made of: sections of text, tables and charts, and records to browse. Data only; `page` renders it.

Everything in a block is plain text: whoever makes a block passes foreign text through `visible`, and the template escapes
all of it once more. `None` in a series is a gap, never a zero.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Tone: TypeAlias = Literal["plain", "good", "bad"]
Ink: TypeAlias = Literal["correct", "wrong", "malformed"]


class Fact(msgspec.Struct, frozen=True):
    """One big number: what it is, its value, its interval or condition, and whether it is good or bad news."""

    label: str
    value: str
    note: str = ""
    tone: Tone = "plain"


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Points of one line, set of dots or set of bars; `low` and `high` are its band or whiskers, point by point.

    `labels` name the bars, or the points where they have names; `inks` colours bars by what they mean.
    """

    name: str
    y: list[float | None]
    x: list[float] = []
    labels: list[str] = []
    low: list[float | None] = []
    high: list[float | None] = []
    style: Literal["line", "points", "dashed"] = "line"
    inks: list[Ink] = []


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """`bars` takes the labels of the first series as categories; `lines` takes x and y. `percent`: y is a share."""

    title: str
    kind: Literal["bars", "lines"]
    series: list[Series]
    x_label: str = ""
    y_label: str = ""
    x_log: bool = False
    percent: bool = False


class Cell(msgspec.Struct, frozen=True):
    """A cell that filters the records to a code when it is pressed."""

    text: str
    code: str


class Link(msgspec.Struct, frozen=True):
    """A cell that leads to another page of this server."""

    text: str
    href: str


Row: TypeAlias = list[str | Cell | Link]
Rows: TypeAlias = list[Row]


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """`numbers` are the columns that are set right-aligned; `filterable` gives it a box to search its rows."""

    header: list[str]
    rows: Rows
    numbers: list[int] = []
    filterable: bool = False
    caption: str = ""


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """One token of a completion: its text made visible, and its log-probability in nats."""

    text: str
    logprob: float


class Shown(msgspec.Struct, frozen=True, omit_defaults=True):
    """One record to browse, every text already made visible; `reward` None is a failure's, which has none."""

    id: str
    draw: int
    prompt: str
    expected: str
    completion: str
    code: str
    outcome: str
    reward: float | None
    message: str
    parsed: str = ""
    tokens: list[Piece] = []


class Records(msgspec.Struct, frozen=True, kw_only=True):
    """Records of one run; `total` is how many the run holds, `how` says how the shown ones were chosen.

    `token_texts`: the pieces hold the texts of the tokens; else their ids, and the completion is shown beside them.
    """

    run: str
    total: int
    shown: list[Shown]
    how: str
    token_texts: bool = True


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the page under one heading; `folded` parts open when they are pressed. `points` are a list, `links` lead to
    other pages."""

    title: str
    text: list[str] = []
    points: list[str] = []
    links: list[Link] = []
    facts: list[Fact] = []
    charts: list[Chart] = []
    tables: list[Table] = []
    quotes: list[str] = []
    records: Records | None = None
    folded: bool = False


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A whole report. `verdict` is one sentence; `command` makes the page again from the same folders; `stamp` stands above all
    else, and on every printed page."""

    title: str
    verdict: str
    facts: list[Fact]
    sections: list[Section]
    command: str
    stamp: str = ""
