"""A run's own completions: passes that a stricter reader doubts, and losses to the format alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lockedroom.cli.main import main
from lockedroom.records import Example
from lockedroom.safeguards.audit.mining import Doubt, Loss, doubt, loss
from lockedroom.testkit.small_run import write_additions, write_rows

QUESTION = Example(id="q", prompt="What is 17 + 25?", expected_answer=42)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Final: 42", []),
        ("17 + 25 = 42", []),
        ("it is correct", [Doubt.NO_ANSWER]),
        ("42, no, 43", [Doubt.NOT_LAST]),
        ("41 or 42", [Doubt.HEDGED]),
        ("What is 17 + 25? 42", [Doubt.ECHO]),
        ("Final: 42\u200b", [Doubt.ODD_CHARACTERS]),
        (" ".join(map(str, range(43))), [Doubt.MANY_NUMBERS]),
    ],
)
def test_a_stricter_reader_doubts_what_it_should(text: str, expected: list[Doubt]) -> None:
    assert doubt(QUESTION, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The answer is 42.", Loss.LAST_NUMBER), ("\\boxed{42} of 100", Loss.BOXED), ("42.0", Loss.LAST_NUMBER), ("42 and 43", Loss.SOMEWHERE),
        ("no idea", None), ("142", None),
    ],
)  # fmt: skip
def test_a_generous_reader_finds_what_the_format_lost(text: str, expected: Loss | None) -> None:
    assert loss(QUESTION, text) is expected


def test_the_split_adds_up_and_suspicious_passes_are_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["1", "2 or 3", "it is 30", "no idea", "5 then 99", "the answer is 6"]
    dataset = write_additions(tmp_path, len(texts))
    completions = write_rows(
        tmp_path / "c.jsonl", [{"id": f"e{i}", "completion": text} for i, text in enumerate(texts)]
    )
    run = str(tmp_path / "run")
    assert (
        main(
            [
                "evaluate",
                "--dataset",
                str(dataset),
                "--completions",
                str(completions),
                "--scorer",
                "permissive",
                "--out",
                run,
            ]
        )
        == 0
    )
    capsys.readouterr()
    assert main(["audit", "--from", run, "--out", str(tmp_path / "mined"), "--json"]) == 1
    mined = json.loads(capsys.readouterr().out)["mined"]
    assert [one["count"] for one in mined["split"]] == [2, 2, 0, 2]
    assert sum(one["share"] for one in mined["split"]) == pytest.approx(1)


def test_losses_to_the_format_alone_are_no_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = write_additions(tmp_path, 4)
    completions = write_rows(
        tmp_path / "c.jsonl", [{"id": f"e{i}", "completion": f"The answer is {i + 1}."} for i in range(4)]
    )
    run = str(tmp_path / "run")
    main(["evaluate", "--dataset", str(dataset), "--completions", str(completions), "--out", run])
    assert main(["audit", "--from", run, "--out", str(tmp_path / "mined")]) == 0
    assert "lost for the format only" in capsys.readouterr().out
