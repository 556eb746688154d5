"""What a notebook shows of a result."""

from __future__ import annotations

import html as markup
import re

import pytest

from lockedroom.results.notebook import as_html


def test_tables_headings_and_strong_words_become_html() -> None:
    html = as_html("# Title\n\n| a | n |\n| --- | -: |\n| x\\|y | 1 |\n\n**BETTER**: so it is.\n")
    assert "<h4>Title</h4>" in html
    cells = re.findall(r'<td style="text-align:(left|right);white-space:pre-wrap">(.*?)</td>', html)
    assert cells == [("left", "x|y"), ("right", "1")]
    assert "<strong>BETTER</strong>" in html


def test_nothing_in_the_text_becomes_markup() -> None:
    assert "<script" not in as_html("| a |\n| --- |\n| <script>1</script> |\n# <script>\n<img src=x>\n")
    assert "<img" not in as_html("<img src=x>")


@pytest.mark.parametrize("text", ["Final:  164", "**5**", "# 4", "a ** b ** c"])
def test_what_a_policy_wrote_loses_no_sign_of_it(text: str) -> None:
    shown = as_html(f"| wrote |\n| ----- |\n| {text} |\ncompletion  {text}\n")
    assert markup.unescape(re.sub("<[^>]+>", "", shown)) == f"wrote{text}completion  {text}"
    assert "pre-wrap" in shown


def test_bars_that_make_no_table_are_shown() -> None:
    assert "| only |" in as_html("| only |\n")
    assert "| c |" in as_html("| a | b |\n| c |\n")
