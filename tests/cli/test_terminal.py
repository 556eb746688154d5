"""What a terminal gets: drawn tables and colours; and what a pipe gets: the Markdown."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from lockedroom.cli.progress import recorded_attempts
from lockedroom.cli.terminal import TerminalMarkdown

PRINTS = """
import sys
from pathlib import Path
from lockedroom.cli.terminal import TerminalMarkdown
with TerminalMarkdown(sys.stdout) as out:
    out.write("# BETTER: B is better than A\\n| a   | n |\\n| --- | -: |\\n| x\\\\|y [red] | 1 |\\n")
"""


def _at_terminal(arguments: list[str], **environment: str) -> str:
    leader, follower = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    settings = {**kept, "TERM": "xterm-256color", "COLUMNS": "100", **environment}
    with subprocess.Popen(arguments, stdout=follower, stdin=follower, stderr=follower, env=settings):
        os.close(follower)
        read = b""
        try:
            while block := os.read(leader, 65536):
                read += block
        except OSError:  # how Linux says that the other end is closed
            pass
    os.close(leader)
    return read.decode()


def test_a_terminal_gets_a_drawn_table_and_a_coloured_verdict() -> None:
    shown = _at_terminal([sys.executable, "-c", PRINTS])
    assert "─" in shown
    assert "| ---" not in shown
    assert "\x1b[1;32mBETTER: B is better than A" in shown


def test_text_is_never_markup() -> None:
    assert "x|y [red]" in _at_terminal([sys.executable, "-c", PRINTS], NO_COLOR="1")


def test_no_color_is_respected() -> None:
    shown = _at_terminal([sys.executable, "-c", PRINTS], NO_COLOR="1")
    assert "\x1b[1;32m" not in shown
    assert "─" in shown


def test_a_command_draws_at_a_terminal_and_prints_markdown_into_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format": "lockedroom.run/1", "kind": "evaluate"}')
    command = [sys.executable, "-m", "lockedroom", "runs", str(tmp_path)]
    piped = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "| --" in piped
    assert "\x1b" not in piped
    drawn = _at_terminal(command)
    assert "| --" not in drawn
    assert "──" in drawn


@pytest.mark.parametrize("text", ["half a line", "a\nhalf"])
def test_an_unfinished_line_is_shown_when_flushed(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = TerminalMarkdown(sys.stdout)
    drawn.write(text)
    drawn.flush()
    assert capsys.readouterr().out == text


def test_progress_shows_a_rate_and_what_is_left_from_the_first_moment_on() -> None:
    says = """
import time
from lockedroom.cli.progress import progress_bar
with progress_bar("evaluate", None, lambda: 4) as progress:
    for _ in range(4):
        time.sleep(0.25)
        progress(1)
"""
    shown = _at_terminal([sys.executable, "-c", says])
    assert "attempts" in shown
    assert "/s" in shown
    assert "left" in shown
    assert "Traceback" not in shown


DRAWS = """
import sys
from lockedroom.cli.terminal import TerminalMarkdown
with TerminalMarkdown(sys.stdout) as out:
    out.write({text!r})
"""


def _drawn(text: str, **environment: str) -> str:
    shown = _at_terminal([sys.executable, "-c", DRAWS.format(text=text)], NO_COLOR="1", **environment)
    return re.sub(r"\x1b\[[0-9;]*m", "", shown)


def test_what_a_policy_wrote_loses_no_sign_of_it() -> None:
    shown = _drawn("| wrote     | n   |\n| --------- | --: |\n| # 4 **5** |   1 |\ncompletion  Final: **112** # x\n")
    assert "# 4 **5**" in shown
    assert "completion  Final: **112** # x" in shown


@pytest.mark.parametrize("text", ["| only |\n", "| a | b |\n| c |\n", "| -- |\n| x | y |\n", "| a |\nb\n"])
def test_bars_that_make_no_table_are_shown_as_they_are(text: str) -> None:
    assert _drawn(text).replace("\r\n", "\n") == text


def test_columns_meet_where_letters_are_wide() -> None:
    table = "| wrote | n   |\n| ----- | --- |\n| 答えは四 | 1 |\n| 🦉🦉 | 2 |\n| four | 3 |\n"
    lines = [line for line in _drawn(table).splitlines() if line.rstrip().endswith(("1", "2", "3"))]
    assert len({cell_len(line.rstrip()) for line in lines}) == 1


def test_a_narrow_terminal_folds_and_loses_nothing() -> None:
    table = f"| wrote | n   |\n| ----- | --: |\n| {'x' * 90} | 7 |\n"
    assert _drawn(table, COLUMNS="40").count("x") == 90


WIDE_TABLE = "| k   | pass@k | pointwise        | note                |\n| --- | -----: | ---------------- | ------------------- |\n| 1   | 0.3700 | [0.3485, 0.3915] | a few words of text |\n"


def test_a_table_that_does_not_fit_is_told_row_by_row_and_loses_nothing() -> None:
    shown = _drawn(WIDE_TABLE, COLUMNS="30").replace("\r\n", "\n")
    assert shown == "k 1\n  pass@k 0.3700\n  pointwise [0.3485, 0.3915]\n  note a few words of text\n"


def test_a_table_folds_text_before_it_breaks_an_interval() -> None:
    lines = [line.rstrip() for line in _drawn(WIDE_TABLE, COLUMNS="45").splitlines() if line.strip()]
    assert lines[-2:] == [" 1  0.3700  [0.3485, 0.3915]  a few words of", f"{' ' * 30}text"]


def test_what_takes_a_second_shows_that_it_is_at_work() -> None:
    says = """
import time
from lockedroom.cli.progress import waiting
with waiting("audit"):
    time.sleep({seconds})
print("done")
"""
    assert "audit" in _at_terminal([sys.executable, "-c", says.format(seconds=1.5)])
    assert "audit" not in _at_terminal([sys.executable, "-c", says.format(seconds=0.1)])


def test_recorded_completions_say_what_is_left(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"id": "a"}\n' * 30)
    (tmp_path / "c.jsonl").write_text('{"id": "a", "samples": ["x", "y"]}\n')
    assert recorded_attempts(tmp_path / "d.jsonl", tmp_path / "c.jsonl", None) == 60
    (tmp_path / "c.jsonl").write_text('{"id": "a", "completion": "x"}\n')
    assert recorded_attempts(tmp_path / "d.jsonl", tmp_path / "c.jsonl", 7) == 7
    for text in ("", "[1]\n", "not JSON\n", "[" * 100_000):
        (tmp_path / "c.jsonl").write_text(text)
        assert recorded_attempts(tmp_path / "d.jsonl", tmp_path / "c.jsonl", None) is None


def test_a_point_is_broken_between_words_and_hangs_below_itself() -> None:
    shown = _drawn("  • one two three four five six seven\n", COLUMNS="30").replace("\r\n", "\n")
    assert shown == "  • one two three four five \n    six seven\n"
