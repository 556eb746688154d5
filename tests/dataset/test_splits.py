from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockedroom.dataset.splits import check_disjoint, commuted
from lockedroom.errors import BadInput


def write(path: Path, *rows: tuple[str, str, Any]) -> Path:
    if path.suffix == ".csv":
        path.write_text("id,prompt,expected_answer\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows))
    else:
        lines = [json.dumps({"id": a, "prompt": b, "expected_answer": c}) + "\n" for a, b, c in rows]
        path.write_text("".join(lines))
    return path


def refusal(*paths: Path) -> str:
    with pytest.raises(BadInput) as caught:
        check_disjoint(paths)
    return str(caught.value)


WHAT_TO_DO = "remove it from one of the two files, or make splits that do not overlap"


def test_files_that_share_nothing_are_fine(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", ("a", "Compute 3+4", 7), ("b", "Compute 4+3", 7))
    dev = write(tmp_path / "dev.jsonl", ("c", "Compute 3-4", -1), ("d", "Compute 3+5", 8))
    check_disjoint([train, dev, write(tmp_path / "holdout.csv", ("e", "Compute 4-3", 1))])


def test_a_shared_example_is_named_with_both_lines_and_counted(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", ("a", "p", 1), ("b", "q", 2))
    dev = write(tmp_path / "dev.jsonl", ("c", "r", 3), ("d", "q", "2"), ("e", "p", 1))
    assert refusal(train, dev) == (
        f'{dev}:2 and {train}:2 hold the same example, "q" with the answer "2" (2 such examples in {dev}); {WHAT_TO_DO}'
    )


def test_swapped_operands_are_the_same_example(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", ("a", "Compute 3+4", 7))
    other = write(tmp_path / "other.jsonl", ("o", "Compute 5+4", 9))
    dev = write(tmp_path / "dev.jsonl", ("c", "Compute 4+3", 7))
    assert refusal(train, other, dev) == (
        f"{dev}:1 and {train}: row 1 hold the same example but for the order of its operands, "
        f'"Compute 4+3" and "Compute 3+4"; {WHAT_TO_DO}'
    )


def test_one_id_for_two_examples_is_refused(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", ("a", "p", 1))
    dev = write(tmp_path / "dev.jsonl", ("b", "q", 1), ("a", "p", 2))
    assert refusal(train, dev) == f'{dev}:2 and {train}:1 have one id, "a", and different content; {WHAT_TO_DO}'


def test_the_third_file_is_compared_with_the_first(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name}.jsonl", (name, name, 1)) for name in "ab"]
    third = write(tmp_path / "c.jsonl", ("c", "a", 1))
    assert refusal(*paths, third).startswith(f"{third}:1 and {paths[0]}:1 hold the same example")


@pytest.mark.parametrize(
    ("prompt", "normalised"),
    [
        ("Compute 4+3. Output", "Compute 3+4. Output"),
        ("Compute 10 * 9?", "Compute 9 * 10?"),
        ("12×3", "3×12"),
        ("4-3", "4-3"),
        ("1 + 3 + 2", "1 + 3 + 2"),
        ("4+2*3", "4+2*3"),
        ("no numbers", "no numbers"),
        ("2+1 or 4*3", "1+2 or 3*4"),
    ],
)
def test_only_lone_sums_and_products_are_sorted(prompt: str, normalised: str) -> None:
    assert commuted(prompt) == normalised


@given(st.integers(0), st.integers(0), st.sampled_from("+*×"))
def test_swapping_the_operands_changes_nothing(a: int, b: int, op: str) -> None:
    assert commuted(f"Compute {a}{op}{b}.") == commuted(f"Compute {b}{op}{a}.")
