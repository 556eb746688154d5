"""The command line as a whole: exit codes, one message for any bad input, and a help that answers at once."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lockedroom._version import __version__
from lockedroom.cli.main import COMMANDS, GROUPS, build_parser, main
from lockedroom.testkit.small_run import lockedroom, write_additions, write_answers

HEAVY = ("numpy", "scipy", "torch", "rich", "multiprocessing", "concurrent.futures", "tomli_w", "pyarrow")


@pytest.mark.parametrize("arguments", [["--help"], ["evaluate", "--help"], ["inspect", "--help"], ["verify", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom lockedroom.cli.main import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stderr.strip() == b"[]"
    assert b"usage: lockedroom" in done.stdout


def test_help_lists_the_exit_codes(tmp_path: Path) -> None:
    done = lockedroom("--help", cwd=tmp_path)
    assert done.returncode == 0
    for meaning in (b"0 fine", b"1 a finding", b"2 bad input", b"3 not comparable", b"4 tampered", b"5 sealed"):
        assert meaning in done.stdout


def test_help_has_the_commands_of_every_day_first_under_headings() -> None:
    shown = build_parser().format_help()
    headings = [shown.index(f"\n  {title}:\n") for title in GROUPS]
    assert headings == sorted(headings)
    assert shown.index("\n    demo ") < headings[1] < shown.index("\n    dataset ")


def test_the_version_is_printed(tmp_path: Path) -> None:
    assert lockedroom("--version", cwd=tmp_path).stdout.decode() == f"lockedroom {__version__}\n"


def test_a_command_alone_is_parsed_as_among_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        shown = []
        for parser in (build_parser(command), build_parser()):
            for arguments in ([command, "--help"], [command, "--no-such-flag"]):
                with pytest.raises(SystemExit):
                    parser.parse_args(arguments)
            shown.append(capsys.readouterr())
        assert shown[0] == shown[1]
        assert shown[0].out.startswith(f"usage: lockedroom {command}")


def test_no_command_or_an_unknown_one_is_told_of_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["no-such-command"])
    assert capsys.readouterr().err == "lockedroom: no-such-command: no such command (lockedroom --help)\n"
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(re.search(rf"\n    {command}\s", shown) for command in COMMANDS)


BAD: list[list[str]] = [
    ["evaluate"],
    ["evaluate", "--dataset", "sums.jsonl"],
    ["evaluate", "--dataset", "absent.jsonl", "--completions", "answers.jsonl"],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "absent.jsonl"],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "."],
    ["evaluate", "--dataset", ".", "--completions", "answers.jsonl"],
    ["evaluate", "--dataset", "", "--completions", ""],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "pipe.jsonl"],
    ["evaluate", "--dataset", "pipe.jsonl", "--completions", "answers.jsonl"],
    ["evaluate", "--dataset", "empty.jsonl", "--completions", "answers.jsonl"],
    ["evaluate", "--dataset", "broken.jsonl", "--completions", "answers.jsonl"],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "broken.jsonl"],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "sums.jsonl"],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "x" * 5000],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "answers.jsonl", "--out", "x" * 5000],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "answers.jsonl", "--out", "sums.jsonl"],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "answers.jsonl", "--out", "sums.jsonl/run"],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "answers.jsonl", "--out", "."],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "answers.jsonl", "--out", "/proc/run"],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "answers.jsonl", "--out", "new", "--resume"],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "answers.jsonl", "--scorer", "exact"],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "answers.jsonl", "--scorer", "absent.py:f"],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "answers.jsonl", "--scorer", "broken.py:score"],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "answers.jsonl", "--scorer", "ends.py:score"],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "answers.jsonl", "--draws", "0"],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "answers.jsonl", "--draws", "-3"],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "answers.jsonl", "--draws", "1" + "0" * 30],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "answers.jsonl", "--limit", "0"],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "answers.jsonl", "--limit", "99"],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "answers.jsonl", "--workers", "0"],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "answers.jsonl", "--confidence", "2"],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "answers.jsonl", "--confidence", "nan"],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "answers.jsonl", "--scorer-timeout", "nan"],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "answers.jsonl", "--declare", "temperature"],
    ["evaluate", "--dataset", "sums.jsonl", "--completions", "answers.jsonl", "--declare", "sampling.temperature=nan"],
    ["evaluate", "--dataset", "sums.jsonl", "--policy", "gpt-17"],
    ["inspect", "absent"],
    ["inspect", "."],
    ["inspect", "sums.jsonl"],
    ["verify", "absent"],
    ["verify", "."],
    ["verify", "x" * 5000],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import os

    folder = tmp_path_factory.mktemp("bad")
    write_additions(folder, 5)
    write_answers(folder, 5)
    (folder / "empty.jsonl").write_bytes(b"")
    (folder / "broken.jsonl").write_bytes(b'{"\x1b[31mid":\xff')
    (folder / "broken.py").write_text("def score(:\n")
    (folder / "ends.py").write_text("import sys\nsys.exit(0)\n")
    os.mkfifo(folder / "pipe.jsonl")
    return folder


@pytest.mark.parametrize("arguments", BAD, ids=lambda arguments: " ".join(arguments)[:90])
def test_bad_input_is_one_message_and_exit_2_with_nothing_left_behind(
    folder: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    before = {path for path in folder.rglob("*") if path.name != "runs"}
    code = main(arguments)
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("lockedroom: ")
    assert all(character.isprintable() or character == "\n" for character in err)
    assert {path for path in folder.rglob("*") if path.name != "runs"} - before == set()


def test_a_flag_that_does_not_exist_is_exit_2(tmp_path: Path) -> None:
    done = lockedroom("evaluate", "--colour", cwd=tmp_path)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


def test_a_file_name_that_is_not_utf_8_is_refused_with_one_message(tmp_path: Path) -> None:
    command = [
        sys.executable.encode(),
        b"-m",
        b"lockedroom",
        b"evaluate",
        b"--dataset",
        b"\xff.jsonl",
        b"--policy",
        b"x",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"not UTF-8" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_the_name_of_an_unknown_field_cannot_reach_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"id":"a","prompt":"","expected_answer":1,"\\u001b[31m\\u202e":1}\n')
    done = lockedroom("evaluate", "--dataset", "d.jsonl", "--policy", "scripted:x", cwd=tmp_path)
    assert done.returncode == 2
    assert b"\x1b" not in done.stderr
    assert "␛[31m⟨U+202E⟩: unknown field" in done.stderr.decode()


def test_output_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    write_additions(tmp_path, 5)
    command = f"{sys.executable} -m lockedroom evaluate --dataset sums.jsonl --policy scripted:x --out run >/dev/full"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr == b"lockedroom: the output cannot be written: no space left on the device\n"
    assert (tmp_path / "run" / "manifest.json").exists()


def test_a_terminal_that_knows_only_ascii_still_gets_the_result(tmp_path: Path) -> None:
    write_additions(tmp_path, 5)
    arguments = ("evaluate", "--dataset", "sums.jsonl", "--policy", "scripted:größer", "--out", "run")
    done = lockedroom(*arguments, cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert b"pass rate" in done.stdout
    refused = lockedroom("inspect", "run", "--code", "größe", cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"})
    assert refused.returncode == 2
    assert b"Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["evalute"], "lockedroom: evalute: no such command; did you mean evaluate? (lockedroom --help)"),
        ([], "lockedroom: COMMAND is missing (lockedroom --help)"),
        (["evaluate", "--datset", "x"], "lockedroom evaluate: --datset: no such flag; did you mean --dataset? (lockedroom evaluate --help)"),
        (["evaluate", "--timeout=3"], "lockedroom evaluate: --timeout: no such flag; did you mean --scorer-timeout? (lockedroom evaluate --help)"),
        (["evaluate", "--model", "x"], "lockedroom evaluate: --model: no such flag; did you mean --policy? (lockedroom evaluate --help)"),
        (["evaluate", "--\x1b[31m"], "lockedroom evaluate: --␛[31m: no such flag (lockedroom evaluate --help)"),
        (["holdout", "sael"], "lockedroom holdout: sael: no such command; did you mean seal? (lockedroom holdout --help)"),
        (["runs", "--sort", "nam"], "lockedroom runs: --sort: nam: not one of started, name, policy, dataset, rate, attempts; "
                                    "did you mean name? (lockedroom runs --help)"),
        (["runs", "a", "b"], "lockedroom runs: 'b': nothing more was expected here (lockedroom runs --help)"),
        (["compare"], "lockedroom compare: RUN is missing (lockedroom compare --help)"),
        (["view", "--port", "abc"], "lockedroom view: --port: invalid int value: 'abc' (lockedroom view --help)"),
    ],
)  # fmt: skip
def test_a_slip_gets_one_message_that_names_what_was_meant(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"{said}\n"
