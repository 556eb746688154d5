"""The tokenizer, its random numbers, and what a person without PyTorch sees. Nothing here needs the [learn] extra."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockedroom.errors import BadInput
from lockedroom.policy.tiny.randomness import TOKENS_PER_HASH, uniforms
from lockedroom.policy.tiny.tokenizer import ALPHABET, END, Tokenizer, TokenizerFile, train_tokenizer

CORPUS = ["Compute 12+7. Final: <int>", "Final: 19", "Final: 19\n", "The answer is 19", "Final: 12"]
TOKENIZER = Tokenizer(train_tokenizer(CORPUS, 30))
over_alphabet = st.text(st.sampled_from(ALPHABET), max_size=60)


@given(over_alphabet)
def test_decoding_what_was_encoded_gives_the_text_back(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@given(over_alphabet)
def test_spans_cover_the_text_without_gap_or_overlap(text: str) -> None:
    tokens = TOKENIZER.tokens(text)

    assert [token.start for token in tokens] == [0, *(token.end for token in tokens)][: len(tokens)]
    assert all(text[token.start : token.end] == token.piece for token in tokens)
    assert sum(len(token.piece) for token in tokens) == len(text)


@given(over_alphabet)
def test_digits_signs_and_newlines_are_tokens_of_their_own(text: str) -> None:
    pieces = [token.piece for token in TOKENIZER.tokens(text)]

    assert all(len(piece) == 1 for piece in pieces if set(piece) & set("0123456789+-\n"))


def test_frequent_pieces_are_merged() -> None:
    assert [token.piece for token in TOKENIZER.tokens("Final: 12")] == ["Final: ", "1", "2"]


def test_training_does_not_depend_on_the_order_of_the_corpus() -> None:
    assert train_tokenizer(reversed(CORPUS), 30) == train_tokenizer(CORPUS, 30)


def test_training_stops_when_nothing_is_left_to_merge() -> None:
    assert train_tokenizer(["ab", "12"], 30).merges == (("a", "b"),)


def test_no_text_encodes_to_the_end_token() -> None:
    assert END not in TOKENIZER.encode("<|end|>" + ALPHABET)
    assert TOKENIZER.decode([END]) == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("12\u00d77", "'×' (U+00D7) at position 2"),
        ("\t", r"'\t' (U+0009) at position 0"),
        ("a\u0663", "(U+0663) at position 1"),
        ("ok\ud800", "(U+D800) at position 2"),
    ],
)
def test_an_unknown_character_is_named_with_its_position(text: str, shown: str) -> None:
    with pytest.raises(BadInput) as error:
        TOKENIZER.encode(text)

    assert shown in str(error.value)


def test_two_tokens_with_one_piece_are_refused() -> None:
    with pytest.raises(BadInput, match="same piece"):
        Tokenizer(TokenizerFile("ab", (("a", "b"), ("a", "b"))))


def test_random_numbers_belong_to_seed_step_example_and_draw() -> None:
    rows = [("a", 0), ("a", 1), ("b", 0)]
    together = uniforms(7, 0, rows, 0)

    alone = np.concatenate([uniforms(7, 0, [row], 0) for row in reversed(rows)])[::-1]

    assert (together == alone).all()
    others = [uniforms(8, 0, rows, 0), uniforms(7, 1, rows, 0), uniforms(7, 0, rows, 1)]
    assert len({u.tobytes() for u in (together, *others)}) == 4
    assert together.shape == (3, TOKENS_PER_HASH)


def test_random_numbers_do_not_mix_up_fields_that_look_alike() -> None:
    # "1" + "2/x" against "12" + "x": without separators these would share their bytes.
    first, second = uniforms(0, 0, [("2/x", 1)], 0), uniforms(0, 0, [("x", 12)], 0)

    assert (first != second).all()


def test_random_numbers_are_uniform_on_the_half_open_interval() -> None:
    u = uniforms(0, 0, [(f"e{i}", 0) for i in range(20_000)], 0).ravel()

    assert 0 <= u.min() < 1e-3
    assert 0.999 < u.max() < 1
    counts = np.histogram(u, 20, (0, 1))[0]
    assert ((counts - len(u) / 20) ** 2 / (len(u) / 20)).sum() < 50  # chi-squared with 19 degrees of freedom, p < .0002


def test_a_known_random_number_never_changes() -> None:
    assert uniforms(0, 0, [("add-12-34", 3)], 0)[0, :2].tolist() == KNOWN


KNOWN = [0.4575053310538001, 0.7125629592888947]


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_importing_the_package_imports_no_heavy_library() -> None:
    code = "import sys, lockedroom.policy.tiny, lockedroom.policy.tiny.tokenizer, lockedroom.policy.tiny.weights\n"

    done = run_python(code + "print([m for m in ('torch', 'safetensors', 'scipy') if m in sys.modules])")

    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("library", ["torch", "safetensors"])
def test_a_missing_library_says_what_to_install(library: str) -> None:
    done = run_python(
        f"import sys; sys.modules[{library!r}] = None\nfrom lockedroom.policy.tiny import load_tiny; load_tiny()"
    )

    assert done.stderr.splitlines()[-1].endswith(
        "MissingExtra: the embedded model needs an optional dependency; install it with: pip install 'lockedroom[learn]'"
    )
