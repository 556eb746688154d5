"""compare, rescore and scorer on the command line: what is printed where, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lockedroom.cli.main import main

RIGHT, WRONG = "Final: 7", "Final: 8"
DECLARE = [
    argument
    for value in ("prompts.template=p", "sampling.temperature=1.0", "sampling.top_k=0", "sampling.top_p=1.0",
                  "sampling.max_tokens=16", "sampling.stop=[]", "sampling.seed_scheme=s")
    for argument in ("--declare", value)
]  # fmt: skip


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def evaluate(name: str, completions: list[str], *more: str) -> str:
    rows = [{"id": f"e{i}", "prompt": "3+4?", "expected_answer": 7} for i in range(len(completions))]
    Path("seven.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [{"id": f"e{i}", "completion": text} for i, text in enumerate(completions)]
    Path(f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert (
        main(["evaluate", "--dataset", "seven.jsonl", "--completions", f"{name}.jsonl", "--out", name, *DECLARE, *more])
        == 0
    )
    return name


@pytest.fixture
def runs(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    pair = evaluate("a", [WRONG] * 15 + [RIGHT] * 5), evaluate("b", [RIGHT] * 12 + [WRONG] * 3 + [RIGHT] * 5)
    capsys.readouterr()
    return pair


def test_a_comparison_prints_its_certificate_and_exits_0(
    runs: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *runs]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# BETTER: B is better than A\n")
    for part in ("| dataset.sha256       |", "Turned from A to B: **policy**", "mcnemar exact", "A ↓  B →", "bonett-price",
                 "B wins on 12 examples, loses on 0, ties on 8", "Minimum detectable effect", "as if unpaired",
                 "7 more: --show 12 prints them"):  # fmt: skip
        assert part in out


@pytest.mark.parametrize(
    ("order", "arguments", "code"),
    [
        ("ab", ["--require", "better"], 0),
        ("ba", ["--require", "better"], 1),
        ("ab", ["--require", "not-worse", "--margin", "0.1"], 0),
        ("ba", ["--require", "not-worse", "--margin", "0.1"], 1),
        ("ab", ["--require", "not-worse"], 2),
        ("ab", ["--not-comparable", "--margin", "0.1"], 2),
        ("ab", ["--show", "-1"], 2),
        ("ab", ["--margin", "0"], 2),
        ("ab", ["--assume-equal", "weather"], 2),
        ("aa", [], 3),
        ("ab", ["--knobs", "selection"], 3),
    ],
)
def test_exit_codes(runs: tuple[str, str], order: str, arguments: list[str], code: int) -> None:
    assert main(["compare", *order, *arguments]) == code


def test_another_room_exits_3_and_a_tampered_run_4(runs: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    evaluate("c", [RIGHT] * 20, "--scorer", "permissive")
    assert main(["compare", "a", "c"]) == 3
    assert "scorer.name: final-int in A, permissive in B" in capsys.readouterr().err
    assert main(["compare", "a", "c", "--not-comparable"]) == 0
    assert capsys.readouterr().out.startswith("# NOT COMPARABLE")
    (Path("b") / "records.jsonl").write_text("{}\n")
    assert main(["compare", "a", "b"]) == 4
    assert main(["compare", "a", "b", "--not-comparable"]) == 4


def test_rescore_opens_the_room_when_only_the_scorer_differed(
    runs: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate("c", [RIGHT + " "] * 20, "--scorer", "permissive")
    capsys.readouterr()
    assert main(["compare", "a", "c", "--rescore", "final-int", "--require", "better"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("# INCONCLUSIVE")  # 0 against 5 of 20: p = .0625
    assert "B: c, re-scored" in out
    assert "| instrument changed                         |          +1.0000 |" in out
    assert "- correct → malformed: e0, e1, e2, e3, e4, …" in out


def test_json_holds_every_id_and_is_plain_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    evaluate("a", ["\x1b[2J\u202e\udc80", RIGHT])
    evaluate("b", [RIGHT, WRONG])
    capsys.readouterr()
    assert main(["compare", "a", "b", "--json"]) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    found: Any = json.loads(out)
    assert found["format"] == "lockedroom.comparison/1"
    discordant = found["against"][0]["discordant"]
    assert (discordant["wins"], discordant["losses"]) == (["e0"], ["e1"])
    assert discordant["shown"][0]["a"]["completion"] == "\x1b[2J\u202e\udc80"


def test_json_of_the_other_forms(runs: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *runs, "--not-comparable", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["not_comparable"]["differences"] == [[]]
    assert main(["compare", *runs, "--rescore", "permissive", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"][0]["instrument_changed"] == 0


def test_rescore_writes_one_run_or_one_by_each_name(runs: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rescore", "a", "--scorer", "permissive", "--out", "one"]) == 0
    assert main(["rescore", "a", "b", "--scorer", "permissive", "--out", "both", "--json"]) == 0
    assert main(["verify", "one", "both/a", "both/b"]) == 0
    assert main(["rescore", "a", "both/a", "--scorer", "final-int", "--out", "more"]) == 2
    assert "have one name" in capsys.readouterr().err
    assert main(["rescore", "a", "--scorer", "permissive", "--out", "one"]) == 2
    assert main(["rescore", "a", "--scorer", "unknown", "--out", "two"]) == 2


def test_scorer_diff_exits_1_when_any_verdict_differs(
    runs: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scorer", "diff", "final-int", "final-int", "--on", *runs]) == 0
    evaluate("c", [RIGHT + " ", "\x1b7"])
    capsys.readouterr()
    assert main(["scorer", "diff", "permissive", "final-int", "--on", "c"]) == 1
    out = capsys.readouterr().out
    assert "| correct      |" in out
    assert "2 of 2 verdicts differ" in out
    assert "␛7" in out
    assert "\x1b" not in out
    assert main(["scorer", "diff", "permissive", "final-int", "--on", "c", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["flips"]["ids"] == {"correct → malformed": ["e0", "e1"]}


def test_scorer_diff_reads_completions_with_their_dataset_and_files_of_cases(
    capsys: pytest.CaptureFixture[str],
) -> None:
    evaluate("a", [RIGHT, WRONG])
    Path("cases.jsonl").write_text('{"completion": "Final: 7 ", "expected_answer": 7}\n')
    diff = ["scorer", "diff", "permissive", "final-int", "--on"]
    assert main([*diff, "a.jsonl", "--dataset", "seven.jsonl"]) == 0
    assert main([*diff, "cases.jsonl"]) == 1
    capsys.readouterr()
    assert main([*diff, "a.jsonl"]) == 2
    assert "name its --dataset" in capsys.readouterr().err
    Path("cases.jsonl").write_text('{"completion": 7, "expected_answer": 7}\n')
    assert main([*diff, "cases.jsonl"]) == 2
    assert main([*diff, "a", "--show", "-1"]) == 2
    Path("cases.jsonl").write_text("")
    assert main([*diff, "cases.jsonl"]) == 2


def test_scorer_lock_guards_a_persons_own_scorer(capsys: pytest.CaptureFixture[str]) -> None:
    own = Path("own.py")
    own.write_text("def score(example, completion):\n    return {'reward': completion == 'Final: 7', 'details': {}}\n".replace(
        "completion == 'Final: 7'", "float(completion == 'Final: 7')"))  # fmt: skip
    assert main(["scorer", "lock", "own.py:score", "--check"]) == 2
    assert main(["scorer", "lock", "own.py:score"]) == 0
    assert main(["scorer", "lock", "own.py:score", "--check"]) == 0
    assert "is as it was locked" in capsys.readouterr().out
    own.write_text(own.read_text().replace("== 'Final: 7'", "!= ''"))
    assert main(["scorer", "lock", "own.py:score", "--check"]) == 1
    out = capsys.readouterr().out
    assert "verdicts changed while the version is still 0" in out
    assert "add a SPEC with a version" in out
    assert main(["scorer", "lock", "own.py:score"]) == 1
    assert main(["scorer", "lock", "own.py:score", "--check", "--json"]) == 1


def test_a_stale_lock_fails_the_check_and_is_renewed_by_locking(capsys: pytest.CaptureFixture[str]) -> None:
    Path("goldens.jsonl").write_text('{"completion": "Final: 7", "expected_answer": 7}\n')
    assert main(["scorer", "lock", "final-int"]) == 0
    assert main(["scorer", "lock", "final-int", "--golden", "goldens.jsonl", "--check"]) == 1
    assert "the lock is out of date" in capsys.readouterr().out
    assert main(["scorer", "lock", "final-int", "--golden", "goldens.jsonl"]) == 0
    assert main(["scorer", "lock", "final-int", "--check"]) == 0
