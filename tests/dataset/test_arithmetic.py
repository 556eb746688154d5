from __future__ import annotations

import hashlib
import os
import random
import re
import subprocess
import sys
import tomllib
from itertools import chain, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockedroom.dataset.arithmetic import SPLITS, TEMPLATE, ArithmeticConfig, Problem, generate, write_dataset
from lockedroom.dataset.load import read_examples
from lockedroom.dataset.splits import check_disjoint
from lockedroom.errors import BadInput, CannotWrite
from lockedroom.records import Example


def problem_of(example: Example) -> tuple[int, str, int]:
    found = re.fullmatch(r"Compute (\d+)([-+*])(\d+)\. Output exactly one line: Final: <int>", example.prompt)
    assert found is not None
    return int(found[1]), found[2], int(found[3])


@settings(max_examples=30)
@given(
    operators=st.sampled_from(["+", "-", "*", "+-", "-*", "+-*"]),
    digits=st.tuples(st.integers(1, 20), st.integers(1, 20)).map(sorted),
    seed=st.integers(),
    non_negative=st.booleans(),
)
def test_every_answer_is_right_and_every_operand_within_its_digits(
    operators: str, digits: list[int], seed: int, non_negative: bool
) -> None:
    config = ArithmeticConfig(
        operators=operators, min_digits=digits[0], max_digits=digits[1], seed=seed, non_negative=non_negative, dev=8
    )
    for example in generate(config, "dev"):
        a, op, b = problem_of(example)
        assert example.expected_answer == {"+": a + b, "-": a - b, "*": a * b}[op]
        assert op in operators
        assert digits[0] <= min(len(str(a)), len(str(b))) <= max(len(str(a)), len(str(b))) <= digits[1]
        assert not (non_negative and example.expected_answer < 0)


def test_the_splits_of_all_seeds_and_sizes_divide_the_problems_among_them() -> None:
    first = ArithmeticConfig(max_digits=1, train=999)
    other = ArithmeticConfig(max_digits=1, dev=999, holdout=999, seed=7)
    parts = [
        [problem_of(example) for example in _until_refused(config, split)]
        for config, split in ((first, "train"), (other, "dev"), (other, "holdout"))
    ]
    assert sorted(chain.from_iterable(parts)) == sorted(product(range(10), "+-*", range(10)))
    for a, op, b in parts[0]:
        assert op == "-" or (b, op, a) in parts[0]


def _until_refused(config: ArithmeticConfig, split: Any) -> list[Example]:
    examples = []
    try:
        for example in generate(config, split):
            examples.append(example)
    except BadInput:
        pass
    return examples


def test_too_few_problems_are_counted_in_the_refusal() -> None:
    config = ArithmeticConfig(operators="*", max_digits=1, dev=80)
    made = len(_until_refused(config, "dev"))
    with pytest.raises(BadInput) as caught:
        list(generate(config, "dev"))
    assert str(caught.value) == (
        f"dev: 80 examples were asked for, and only {made} different problems belong to this split; "
        f"ask for at most {made}, or allow more digits or operators"
    )


def test_no_problem_stands_twice_in_a_split() -> None:
    problems = [problem_of(example) for example in generate(ArithmeticConfig(train=4000, max_digits=2), "train")]
    assert len(set(problems)) == 4000


def test_a_larger_split_begins_with_the_smaller_one() -> None:
    small = list(generate(ArithmeticConfig(train=50), "train"))
    large = list(generate(ArithmeticConfig(train=500, dev=0), "train"))
    assert large[:50] == small


def test_another_seed_draws_other_problems() -> None:
    one = [example.prompt for example in generate(ArithmeticConfig(train=50), "train")]
    assert one != [example.prompt for example in generate(ArithmeticConfig(train=50, seed=1), "train")]


def test_ids_and_prompts_follow_the_template_and_metadata_is_given_when_asked() -> None:
    config = ArithmeticConfig(template="{b} {op} {a} {a}?", metadata=True, min_digits=3, max_digits=3, train=1)
    (example,) = generate(config, "train")
    assert example.metadata is not None
    a, op, b = (example.metadata[name] for name in ("a", "op", "b"))
    assert (example.id, example.prompt) == ("arith-train-000001", f"{b} {op} {a} {a}?")
    assert next(generate(ArithmeticConfig(), "train")).metadata is None


def test_one_operator_may_be_written_in_words() -> None:
    (example,) = generate(ArithmeticConfig(template="Add {a} and {b}.", operators="+", train=1), "train")
    assert re.fullmatch(r"Add \d+ and \d+\.", example.prompt)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"operators": "/"}, "operators '/': expected one or more of + - *, each once, such as +-"),
        ({"operators": ""}, "operators '': expected one or more of + - *, each once, such as +-"),
        ({"operators": "++"}, "operators '++': expected one or more of + - *, each once, such as +-"),
        ({"min_digits": 3}, "digits 3-2: expected LOW-HIGH with 1 <= LOW <= HIGH <= 100"),
        ({"min_digits": 0}, "digits 0-2: expected LOW-HIGH with 1 <= LOW <= HIGH <= 100"),
        ({"max_digits": 101}, "digits 1-101: expected LOW-HIGH with 1 <= LOW <= HIGH <= 100"),
        ({"dev": -1}, "dev -1: expected a number of examples, 0 or more"),
        ({"train": 0, "dev": 0, "holdout": 0}, "train, dev and holdout are all 0; ask for at least one example"),
        ({"template": "{a}{op}"}, "template '{a}{op}': {b} is missing; write it where it should stand"),
        ({"template": "{a} {b}"}, "template '{a} {b}': {op} is missing; write it where it should stand"),
        (
            {"template": "{op}{a}{b}"},
            "template '{op}{a}{b}': an operand touches the other one or a digit; put something between them",
        ),
        (
            {"template": "{a}{op}{b}\0"},
            r"template '{a}{op}{b}\x00': holds a NUL or a lone surrogate; remove it",
        ),
        (
            {"template": "{a}{op}{b}\udcff"},
            r"template '{a}{op}{b}\udcff': holds a NUL or a lone surrogate; remove it",
        ),
    ],
)
def test_a_configuration_that_cannot_be_made_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        ArithmeticConfig(**fields)
    assert str(caught.value) == message


def test_the_split_of_a_problem_is_what_the_docs_say() -> None:
    digest = hashlib.sha256(b"3+4").digest()
    assert Problem(4, "+", 3).split() == ("train", "train", "dev", "holdout")[digest[0] % 4]
    assert Problem(4, "-", 3).normalised() == "4-3"


# The bytes of one configuration, so that a change that moves them is a decision and not an accident.
PINNED = {
    "train.jsonl": "d4db8632147804f878ba17a0adceaad855bba1895a26e7107f3ddfce353305e2",
    "dev.jsonl": "bb01b3480a5282269262c02478c0cd0d50a60b6426df3fd8429356d9af213fd4",
    "holdout.jsonl": "6f6af7c05c05497aa3a6f78ff755b4795c7a1ff473b7195f9f44a3eb4628ac0a",
}


def test_the_files_are_the_same_bytes_on_every_machine_and_the_splits_do_not_overlap(tmp_path: Path) -> None:
    state = random.getstate()
    written = write_dataset(ArithmeticConfig(max_digits=3), tmp_path / "d")
    assert {file.path.name: file.sha256 for file in written} == PINNED
    assert [hashlib.sha256(file.path.read_bytes()).hexdigest() for file in written] == list(PINNED.values())
    assert [file.examples for file in written] == [1000, 200, 200]
    assert random.getstate() == state
    check_disjoint([file.path for file in written])


def test_the_bytes_do_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from lockedroom.dataset.arithmetic import *;"
        "write_dataset(ArithmeticConfig(max_digits=3), Path(sys.argv[1]))"
    )
    folder = tmp_path / "d"
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True, env=environment)
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in PINNED}
    assert hashes == PINNED


def test_the_description_says_how_the_folder_was_made(tmp_path: Path) -> None:
    template = 'Tab\t "quoted" \\ é 😀 DEL\x7f {a}{op}{b}'
    folder = tmp_path / "deep" / "d"
    (train,) = write_dataset(ArithmeticConfig(template=template, train=5, dev=0, holdout=0), folder)
    described = tomllib.loads((folder / "dataset.toml").read_text(encoding="utf-8"))
    assert ArithmeticConfig(**described["arithmetic"]).template == template
    assert described["files"] == {"train.jsonl": {"examples": 5, "sha256": train.sha256}}
    assert (described["format"], described["generator"]) == (1, "arithmetic")
    assert sorted(path.name for path in folder.iterdir()) == ["dataset.toml", "train.jsonl"]
    assert [len(batch) for batch in read_examples(train.path)] == [5]


def test_an_existing_folder_is_written_into_only_when_it_is_empty(tmp_path: Path) -> None:
    write_dataset(ArithmeticConfig(), tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BadInput) as caught:
        write_dataset(ArithmeticConfig(), tmp_path)
    assert str(caught.value) == f"{tmp_path}: exists already and is not an empty folder; name another one"
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("")
    with pytest.raises(BadInput, match="exists already"):
        write_dataset(ArithmeticConfig(), tmp_path / "d")


def test_nothing_is_left_of_a_dataset_that_could_not_be_made(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holdout: 999 examples"):
        write_dataset(ArithmeticConfig(max_digits=1, train=10, dev=10, holdout=999), tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite) as caught:
        write_dataset(ArithmeticConfig(), tmp_path / "file" / "d")
    assert str(caught.value) == f"{tmp_path / 'file' / 'd'}: cannot be written: Not a directory; nothing was written"


def test_the_default_template_is_the_one_of_the_recorded_completions() -> None:
    assert TEMPLATE == "Compute {a}{op}{b}. Output exactly one line: Final: <int>"
    assert SPLITS == ("train", "dev", "holdout")
