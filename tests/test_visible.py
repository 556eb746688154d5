"""Whatever a completion holds, what is shown neither moves the cursor nor hides anything."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockedroom.visible import SIGNS, ascii_json, visible
from lockedroom.wording import counted

ANYTHING = st.text(st.characters(codec=None, categories=None))
# Characters without ink that Unicode counts among the letters and symbols.
INKLESS = "\u115f\u1160\u2800\u3164\uffa0\U0001d159"


def _is_safe(character: str) -> bool:
    return character == " " or (
        unicodedata.category(character)[0] in "LNPS" and character not in INKLESS and character.encode() != b""
    )


@given(ANYTHING)
def test_no_control_format_surrogate_or_odd_space_character_survives(text: str) -> None:
    assert all(map(_is_safe, visible(text)))


def test_every_single_character_of_unicode_is_shown_safely() -> None:
    shown = set(visible("".join(map(chr, range(sys.maxunicode + 1)))))
    assert [character for character in shown if not _is_safe(character)] == []


@given(ANYTHING, ANYTHING)
def test_two_different_texts_never_look_the_same(one: str, other: str) -> None:
    assert (visible(one) == visible(other)) == (one == other)


@given(ANYTHING)
def test_what_was_made_visible_is_not_made_so_twice_in_a_message(text: str) -> None:
    message = f"it said {visible(text)}"
    assert visible(message, kept=SIGNS) == message


@pytest.mark.parametrize("trick", ["⏎", "⟨U+202E⟩", "␛[31m", "\u3164", "a\u0301"])
def test_a_text_cannot_pose_as_another_by_using_the_signs_of_this_module(trick: str) -> None:
    assert visible(trick) != trick


def test_plain_text_is_shown_as_it_is() -> None:
    assert visible("Final: 42 — größer als Ω, 漢字 🙂") == "Final: 42 — größer als Ω, 漢字 🙂"


def test_the_common_controls_are_named() -> None:
    assert visible("a\n\t\r\0\x1b[31m\x7f\u202e\ud800") == "a⏎⇥␍␀␛[31m␡⟨U+202E⟩⟨U+D800⟩"


@given(ANYTHING, st.integers(0, 20))
def test_a_limit_says_how_much_is_left_out(text: str, limit: int) -> None:
    shown = visible(text, limit)
    cut = f" … (+{counted(len(text) - limit, 'character')})" if len(text) > limit else ""
    assert shown == visible(text[:limit]) + cut


@given(st.text())
def test_json_for_a_terminal_is_printable_ascii_with_the_same_values(text: str) -> None:
    shown = ascii_json(json.dumps([text], ensure_ascii=False).encode())
    assert shown.isascii()
    assert shown.isprintable()
    assert json.loads(shown) == [text]
