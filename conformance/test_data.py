"""Real data sets: reasoning-gym's generators, and folders that `datasets` saved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict, Features, Value

from lockedroom.cli.main import main
from lockedroom.dataset.load import read_examples
from lockedroom.errors import BadInput
from lockedroom.records import Example

TASKS = ("chain_sum", "products", "gcd", "lcm", "leg_counting", "gsm_symbolic")


def _make(folder: Path, *more: str) -> int:
    sizes = ("--train", "30", "--dev", "10", "--holdout", "10")
    return main(["dataset", "make", "reasoning-gym", "--out", str(folder), *sizes, *more])


@pytest.mark.parametrize("task", TASKS)
def test_a_task_gives_disjoint_splits_that_our_scorer_can_judge(task: str, tmp_path: Path) -> None:
    assert _make(tmp_path / "d", "--task", task) == 0

    files = [str(tmp_path / "d" / f"{split}.jsonl") for split in ("train", "dev", "holdout")]
    assert main(["dataset", "check", *files]) == 0
    assert [len(Path(file).read_text().splitlines()) for file in files] == [30, 10, 10]


def test_the_same_values_give_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert _make(tmp_path / name, "--task", "chain_sum", "--seed", seed, "--set", "max_terms=3") == 0

    texts = [(tmp_path / name / "train.jsonl").read_bytes() for name in "abc"]
    assert texts[0] == texts[1] != texts[2]
    assert (tmp_path / "a/dataset.toml").read_bytes() == (tmp_path / "b/dataset.toml").read_bytes()


def test_splits_of_different_seeds_never_share_a_question(tmp_path: Path) -> None:
    for seed in ("1", "2"):
        assert _make(tmp_path / seed, "--task", "gcd", "--seed", seed) == 0

    prompts = {
        (seed, split): {json.loads(line)["prompt"] for line in (tmp_path / seed / f"{split}.jsonl").open()}
        for seed in ("1", "2")
        for split in ("train", "holdout")
    }
    assert not prompts["1", "train"] & prompts["2", "holdout"]
    assert not prompts["2", "train"] & prompts["1", "holdout"]


@pytest.mark.parametrize(
    "flags",
    [
        ["--task", "nonsense"],
        ["--task", "word_sorting"],
        ["--task", "decimal_chain_sum"],
        ["--task", "composite"],
        ["--task", "chain_sum", "--set", "nonsense=1"],
        ["--task", "chain_sum", "--set", "min_terms=-3"],
        ["--task", "chain_sum", "--set", "min_terms=two"],
        ["--task", "chain_sum", "--template", "no place"],
        ["--task", "chain_sum", "--set", "seed=3"],
        ["--task", "chain_sum", "--set", "size=3"],
        ["--task", "pool_matrix"],  # it cannot be seeded so
        ["--task", "acre"],  # it prepares every question that it is told to have
        [
            "--task",
            "chain_sum",
            "--set",
            "max_terms=2",
            "--set",
            "max_digits=1",
            "--set",
            "min_terms=2",
            "--train",
            "9999",
        ],
    ],
)
def test_what_cannot_be_made_is_one_message_and_no_folder(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _make(tmp_path / "d", *flags) == 2

    assert capsys.readouterr().err.startswith("lockedroom: ")
    assert not (tmp_path / "d").exists()


ROWS = [{"id": f"e{i}", "prompt": f"{i}+1?", "expected_answer": i + 1} for i in range(5000)]


def test_a_saved_data_set_is_read_as_its_rows_in_order(tmp_path: Path) -> None:
    Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"), num_shards=3)

    assert [row for batch in read_examples(tmp_path / "saved") for row in batch] == [Example(**row) for row in ROWS]
    assert main(["dataset", "check", str(tmp_path / "saved")]) == 0


def test_selected_and_shuffled_rows_are_those_that_were_saved(tmp_path: Path) -> None:
    chosen = Dataset.from_list(ROWS).shuffle(seed=1).select(range(7))
    chosen.save_to_disk(str(tmp_path / "saved"))

    assert [row.id for batch in read_examples(tmp_path / "saved") for row in batch] == chosen["id"][:]


def test_of_a_dict_of_splits_one_has_to_be_named(tmp_path: Path) -> None:
    DatasetDict({"train": Dataset.from_list(ROWS[:3]), "test": Dataset.from_list(ROWS[3:5])}).save_to_disk(
        str(tmp_path / "d")
    )

    with pytest.raises(BadInput, match="splits test, train"):
        read_examples(tmp_path / "d").__next__()
    assert len(next(iter(read_examples(tmp_path / "d" / "test")))) == 2


def test_a_column_that_we_do_not_know_is_refused_as_in_any_other_file(tmp_path: Path) -> None:
    Dataset.from_list([{**ROWS[0], "extra": 1}]).save_to_disk(str(tmp_path / "d"))

    with pytest.raises(BadInput, match='unknown column "extra"'):
        list(read_examples(tmp_path / "d"))


def test_texts_of_large_columns_are_read_too(tmp_path: Path) -> None:
    kinds = Features({"id": Value("string"), "prompt": Value("large_string"), "expected_answer": Value("string")})
    row = {"id": "a", "prompt": "?", "expected_answer": "4" * 5000}
    Dataset.from_list([row], features=kinds).save_to_disk(str(tmp_path / "d"))

    assert next(iter(read_examples(tmp_path / "d"))) == [Example(**row)]
