"""Learning with a Hugging Face policy from the command line: warmed up, learned, verified, and used from another folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_models import save_small

from lockedroom.cli.main import main


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small model that writes some right answers, and the six problems that it knows."""
    folder = tmp_path_factory.mktemp("here")
    save_small("llama", folder / "small")
    for name, numbers in (("train", range(6)), ("dev", range(6, 9))):
        rows = [
            {"id": f"e{a}", "prompt": f"Compute {a}+1. Output exactly one line: Final: <int>", "expected_answer": a + 1}
            for a in numbers
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    warm = ["warmup", "--policy", f"hf:{folder / 'small'}", "--dataset", str(folder / "train.jsonl"), "--steps", "30"]
    assert main([*warm, "--learning-rate", "0.01", "--out", str(folder / "warm")]) == 0
    return folder


@pytest.mark.parametrize("lora", ["0", "2"], ids=("all weights", "an adapter"))
def test_a_learned_policy_is_verified_and_opens_from_any_folder(
    lora: str, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    run = str(tmp_path / "run")
    learn = [
        "learn",
        "--policy",
        "hf:warm",
        "--lora",
        lora,
        "--dataset",
        "train.jsonl",
        "--steps",
        "2",
        "--prompts",
        "4",
    ]
    assert main([*learn, "--group", "4", "--max-tokens", "10", "--draws", "2", "--out", run]) == 0
    assert main(["verify", run]) == 0
    monkeypatch.chdir(tmp_path)
    asked = ["evaluate", "--policy", "run", "--dataset", str(here / "dev.jsonl"), "--max-tokens", "10"]
    assert main([*asked, "--out", "before"]) == 0
    Path("run").rename("moved")
    asked[2] = "moved"
    assert main([*asked, "--out", "after"]) == 0
    before, after = (json.loads(Path(name, "manifest.json").read_bytes())["policy"] for name in ("before", "after"))
    assert before == after
    assert Path("before/records.jsonl").read_bytes() == Path("after/records.jsonl").read_bytes()
