"""Tables as text: they line up in a terminal, whatever is in them."""

from __future__ import annotations

import pytest

from lockedroom.results.text_table import text_table
from lockedroom.visible import display_width

WIDE = ["four", "答えは四", "🦉🦉", "é", "ﾊﾝ", "שלום"]


@pytest.mark.parametrize("numbers", [(), (0,), (1,)])
def test_columns_line_up_where_letters_are_wide_or_have_no_width(numbers: tuple[int, ...]) -> None:
    lines = text_table(["wrote", "数"], [[text, str(i)] for i, text in enumerate(WIDE)], numbers=numbers)
    assert len({display_width(line) for line in lines}) == 1
    assert len({tuple(display_width(line[:i]) for i, sign in enumerate(line) if sign == "|") for line in lines}) == 1


def test_a_table_of_plain_letters_is_as_it_was() -> None:
    assert text_table(["code", "n"], [["ok", "12"], ["empty", "3"]], numbers=(1,)) == [
        "| code  |   n |",
        "| ----- | --: |",
        "| ok    |  12 |",
        "| empty |   3 |",
    ]


def test_a_table_without_rows_is_its_header() -> None:
    assert text_table(["code", "n"], [], numbers=(1,)) == ["| code |   n |", "| ---- | --: |"]
