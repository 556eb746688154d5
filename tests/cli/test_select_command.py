"""`lockedroom select`: no flag is dropped silently, and what cannot be is refused before anything is drawn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lockedroom.cli.main import main
from lockedroom.policy.tiny import DATA_FOLDER

DEV = str(DATA_FOLDER / "dev.jsonl")
LIVE = ["--dataset", DEV, "--limit", "3", "--policy", "tiny", "--draws", "2"]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["select", *arguments]) == 2
    return capsys.readouterr().err


def test_every_sampling_flag_reaches_the_draws(tmp_path: Path) -> None:
    import tomllib

    out = tmp_path / "run"
    flags = [
        "--max-tokens",
        "3",
        "--top-k",
        "5",
        "--top-p",
        "0.9",
        "--temperature",
        "0.7",
        "--seed",
        "4",
        "--split",
        "toy",
    ]
    assert main(["select", *LIVE, "--selector", "first", *flags, "--out", str(out)]) == 0
    made = tomllib.loads((tmp_path / "run-pool" / "config.toml").read_text())
    assert made["sampling"] == {"max_tokens": 3, "top_k": 5, "top_p": 0.9, "temperature": 0.7, "seed": 4}
    assert json.loads((out / "manifest.json").read_text())["room"]["dataset"]["split"] == "toy"


def test_flags_of_a_backend_reach_the_policy(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["--dataset", DEV, "--policy", "hf:/nowhere", "--draws", "2", "--selector", "first", "--lora", "-3"]
    assert "--lora -3" in refused(capsys, *arguments, "--out", str(tmp_path / "run"))


@pytest.mark.parametrize("flag", ["--max-tokens=3", "--temperature=1", "--template=chat", "--concurrency=2", "--exact",
                                  "--limit=2", "--policy=tiny", "--declare=a=b", "--width=3", "--beta=1"])  # fmt: skip
def test_a_flag_that_would_have_no_effect_on_a_finished_run_is_refused(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"leave out {flag.split('=', maxsplit=1)[0]}" in refused(
        capsys, "--run", "r", "--selector", "best-of-n", flag
    )


@pytest.mark.parametrize(
    ("selector", "flag"),
    [("rejection-sampling", "--tie-break=random"), ("rejection-sampling", "--parse=permissive"), ("viable-beam", "--n=2"),
     ("viable-beam", "--temperature=1"), ("viable-sampling", "--width=2"), ("beam", "--confirm"), ("beam", "--exact")],
)  # fmt: skip
def test_a_flag_that_a_live_selector_would_not_read_is_refused(
    selector: str, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"leave out {flag.split('=', maxsplit=1)[0]}" in refused(capsys, *LIVE, "--selector", selector, flag)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--selector", "first", "--n", "3"], "every example has 2 draws"),
        (["--selector", "first", "--confidence", "0.2"], "--confidence 0.2"),
        (["--selector", "proxy:nope"], "--selector proxy:nope"),
        (["--selector", "first", "--measure", "nope"], "nope"),
        (["--selector", "mine.py:Mine"], "no such file mine.py"),
        (["--selector", "majority-vote", "--parse", "nope"], "--parse"),
        (["--selector", "first", "--n", ""], "--n ''"),
        (["--selector", "best_of_n"], "did you mean best-of-n"),
        (["--selector", "kl-regularized"], "a reference policy"),
        (["--selector", "first", "--declare", "sampling.temperature=1"], "leave out --declare"),
        (["--selector", "first", "--plots", "/proc/nowhere"], "--plots /proc/nowhere"),
    ],
)
def test_what_cannot_be_selected_is_refused_before_anything_is_drawn(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert message in refused(capsys, *LIVE, *flags, "--out", str(tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


def test_a_second_selection_into_one_folder_draws_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert "choose another --out" in refused(capsys, *LIVE, "--selector", "first", "--out", str(tmp_path / "run"))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
