from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lockedroom.cli.dataset import add_parser
from lockedroom.errors import BadInput


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    args = parser.parse_args(["dataset", *arguments])
    code = args.run(args)
    assert isinstance(code, int)
    return code


def refusal(*arguments: str) -> str:
    with pytest.raises(BadInput) as caught:
        run(*arguments)
    return str(caught.value)


def test_what_was_made_is_printed_and_passes_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "sums"
    assert run("make", "arithmetic", "--out", str(folder), "--operators=-+", "--digits", "2", "--dev", "0") == 0
    train, holdout = folder / "train.jsonl", folder / "holdout.jsonl"
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (train, holdout)]
    assert capsys.readouterr().out == (
        f"{train}: 1,000 examples, sha256 {hashes[0]}\n"
        f"{holdout}: 200 examples, sha256 {hashes[1]}\n"
        f"{folder / 'dataset.toml'}: how they were made\n"
        f"Check them: lockedroom dataset check {train} {holdout}\n"
    )
    assert run("check", str(train), str(holdout)) == 0
    assert capsys.readouterr().out == (
        f"{train}: 1,000 examples, each with an answer that final-int can judge\n"
        "  answers   1,000 integer\n"
        "  prompts   52 to 52 characters, median 52\n"
        f"  sha256    {hashes[0]}\n"
        f"{holdout}: 200 examples, each with an answer that final-int can judge\n"
        "  answers   200 integer\n"
        "  prompts   52 to 52 characters, median 52\n"
        f"  sha256    {hashes[1]}\n"
        "The 2 files share no example.\n"
    )


def test_the_check_of_one_file_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "d.jsonl"
    rows = [("a", "p", 1), ("b", "qqq", "2"), ("c", "rr", 3), ("d", "s" * 9, 4)]
    content = "".join(f'{{"id":"{a}","prompt":"{b}","expected_answer":{json.dumps(c)}}}\n' for a, b, c in rows)
    path.write_text(content)
    assert run("check", "--json", str(path)) == 0
    assert json.loads(capsys.readouterr().out) == {
        "scorer": "final-int",
        "disjoint": None,
        "files": [
            {
                "path": str(path),
                "examples": 4,
                "answers": {"integer": 3, "string": 1},
                "prompt_characters": {"min": 1, "median": 2, "max": 9},
                "sha256": hashlib.sha256(content.encode()).hexdigest(),
            }
        ],
    }


def test_one_file_is_not_said_to_be_disjoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"id":"a","prompt":"p","expected_answer":1}\n')
    run("check", str(path))
    assert capsys.readouterr().out == (
        f"{path}: 1 example, each with an answer that final-int can judge\n"
        "  answers   1 integer\n"
        "  prompts   1 to 1 character, median 1\n"
        f"  sha256    {hashlib.sha256(path.read_bytes()).hexdigest()}\n"
    )


def test_files_that_share_an_example_are_refused(tmp_path: Path) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    for path, name in ((one, "a"), (two, "b")):
        path.write_text(f'{{"id":"{name}","prompt":"p","expected_answer":1}}\n')
    assert refusal("check", str(one), str(two)).startswith(f"{two}:1 and {one}:1 hold the same example")


def test_disjoint_files_are_told_so_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    for path, name in ((one, "a"), (two, "b")):
        path.write_text(f'{{"id":"{name}","prompt":"{name}","expected_answer":1}}\n')
    run("check", str(one), str(two), "--json", "--scorer", "permissive")
    assert json.loads(capsys.readouterr().out)["disjoint"] is True


def test_an_answer_that_the_scorer_cannot_judge_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"id":"a","prompt":"p","expected_answer":"x"}\n')
    assert refusal("check", str(path)) == (
        f'{path}:1: expected_answer: the scorer final-int cannot judge "x"; correct it, or name a scorer that can'
    )


def test_an_unknown_scorer_is_refused_with_the_names_there_are() -> None:
    assert refusal("check", "d.jsonl", "--scorer", "x") == (
        "--scorer x: no such scorer; the built-in ones are final-int, permissive"
    )


@pytest.mark.parametrize("digits", ["", "x", "1-", "-1", "1-2-3", "١"])
def test_digits_that_are_no_range_are_refused(tmp_path: Path, digits: str) -> None:
    message = refusal("make", "arithmetic", "--out", str(tmp_path / "d"), f"--digits={digits}")
    assert message == f"--digits {digits!r}: expected a number or a range, such as 2 or 1-2"


def test_the_template_and_the_flags_reach_the_generator(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    run(
        *("make", "arithmetic", "--out", str(folder), "--template", "{a} {op} {b} =", "--train", "20", "--dev", "0"),
        *("--holdout", "0", "--seed", "5", "--operators=-", "--digits", "1-3", "--non-negative", "--metadata"),
    )
    for row in map(json.loads, (folder / "train.jsonl").read_text().splitlines()):
        a, b = row["metadata"]["a"], row["metadata"]["b"]
        assert (row["prompt"], row["expected_answer"]) == (f"{a} - {b} =", a - b)
        assert a >= b


def test_the_parser_is_built_without_heavy_imports() -> None:
    program = (
        "import argparse, sys; from lockedroom.cli.dataset import add_parser;"
        "add_parser(argparse.ArgumentParser().add_subparsers());"
        "print({'numpy', 'hashlib', 'pyarrow', 'csv', 'scipy'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert found.stdout == "set()\n"
