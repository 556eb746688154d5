"""What a notebook shows of a result."""

from __future__ import annotations

from lockedroom.results.notebook import as_html


def test_tables_headings_and_strong_words_become_html() -> None:
    html = as_html("# Title\n\n| a | n |\n| --- | -: |\n| x\\|y | 1 |\n\n**BETTER**: so it is.\n")
    assert "<h4>Title</h4>" in html
    assert '<td style="text-align:left">x|y</td><td style="text-align:right">1</td>' in html
    assert "<strong>BETTER</strong>: so it is." in html


def test_nothing_in_the_text_becomes_markup() -> None:
    assert "<script" not in as_html("| a |\n| --- |\n| <script>1</script> |\n# <script>\n<img src=x>\n")
    assert "<img" not in as_html("<img src=x>")
