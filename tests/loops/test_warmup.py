"""The supervised warm-up: what it shows, what it changes, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from lockedroom.cli.main import main
from lockedroom.errors import BadInput, CannotWrite
from lockedroom.loops.learning.warmup import Shown, WarmupConfig, warm_up
from lockedroom.loops.opening.policy import open_token_policy
from lockedroom.policy.tiny import DATA_FOLDER

TRAIN = str(DATA_FOLDER / "train.jsonl")


def test_a_warmed_policy_gives_more_to_the_right_answer(tmp_path: Path) -> None:
    done = warm_up(WarmupConfig(dataset=TRAIN, policy="tiny-weak", steps=12, batch=64), tmp_path / "out")
    prompt, text = "Compute 65+34. Output exactly one line: Final: <int>", "Final: 99"
    before, after = (open_token_policy(name, threads=1) for name in ("tiny-weak", done.policy))
    first, last = (p.logprobs([p.prompt_ids(prompt)], [(*p.encode(text), p.end_id)])[0] for p in (before, after))
    assert sum(last) > sum(first)
    assert done.steps[-1].loss < done.steps[0].loss
    kept = msgspec.json.Decoder(Shown).decode_lines((tmp_path / "out" / "losses.jsonl").read_bytes())
    assert kept == done.steps


def test_the_loss_is_that_of_the_completions_alone(tmp_path: Path) -> None:
    """The first loss is −Σ log π over completion tokens, divided by their number."""
    data = tmp_path / "two.jsonl"
    rows = [{"id": str(n), "prompt": f"Compute {n}+{n}.", "expected_answer": 2 * n} for n in (3, 50)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = warm_up(WarmupConfig(dataset=str(data), policy="tiny", steps=1, batch=2), tmp_path / "out")
    policy = open_token_policy("tiny", threads=1)
    ids = [(*policy.encode(f"Final: {row['expected_answer']}"), policy.end_id) for row in rows]
    logprobs = policy.logprobs([policy.prompt_ids(str(row["prompt"])) for row in rows], ids)
    tokens = sum(map(len, ids))
    assert done.steps[0].tokens == tokens
    assert done.steps[0].loss == pytest.approx(-sum(map(sum, logprobs)) / tokens, abs=1e-5)


def test_micro_batches_do_not_change_the_result(tmp_path: Path) -> None:
    config = WarmupConfig(dataset=TRAIN, policy="tiny", steps=3, batch=12)
    whole = warm_up(msgspec.structs.replace(config, micro_batch=12), tmp_path / "whole")
    parts = warm_up(msgspec.structs.replace(config, micro_batch=5), tmp_path / "parts")
    assert [step.loss for step in parts.steps] == pytest.approx([step.loss for step in whole.steps], abs=1e-4)


def test_a_beginning_that_all_prompts_share_is_read_once_and_changes_nothing(tmp_path: Path) -> None:
    """A prompt alone in its pass shares nothing; the losses after an update also tell whether the gradients agree."""
    data = tmp_path / "alike.jsonl"
    rows = [{"id": str(n), "prompt": f"Compute 12+34+56+78+{n}", "expected_answer": n} for n in (1, 23, 4, 23, 567)]
    data.write_text("".join(json.dumps({**row, "id": str(i)}) + "\n" for i, row in enumerate(rows)))
    config = WarmupConfig(dataset=str(data), policy="tiny", steps=3, batch=5)
    alone = warm_up(msgspec.structs.replace(config, micro_batch=1), tmp_path / "alone")
    together = warm_up(msgspec.structs.replace(config, micro_batch=5), tmp_path / "together")
    assert [step.loss for step in together.steps] == pytest.approx([step.loss for step in alone.steps], abs=1e-4)


def test_a_warm_up_can_be_repeated(tmp_path: Path) -> None:
    config = WarmupConfig(dataset=TRAIN, policy="tiny", steps=3, batch=8)
    first, second = (warm_up(config, tmp_path / name) for name in ("a", "b"))
    assert first.steps == second.steps
    open_policies = [open_token_policy(done.policy, threads=1) for done in (first, second)]
    ids = open_policies[0].encode("Final: 3")
    assert len({str(p.logprobs([p.prompt_ids("Compute 1+2.")], [ids])) for p in open_policies}) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "--steps 0"),
        ({"batch": 0}, "--batch 0"),
        ({"learning_rate": float("nan")}, "--learning-rate nan"),
        ({"target": "Final: 3"}, "does not hold {answer}"),
        ({"target": "The answer is {answer}"}, "does not pay for"),
        ({"policy": "scripted:x"}, "cannot be trained"),
        ({"policy": "no-such"}, "unknown policy"),
        ({"dataset": str(DATA_FOLDER / "holdout.jsonl")}, "a holdout is not learned from"),
    ],
)
def test_what_cannot_be_warmed_up_is_refused(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    config = msgspec.convert({"dataset": TRAIN, **changes}, WarmupConfig)
    with pytest.raises(BadInput, match=message):
        warm_up(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_finished_warm_up_is_not_written_over(tmp_path: Path) -> None:
    with pytest.raises(CannotWrite, match="exists already"):
        warm_up(WarmupConfig(dataset=TRAIN), tmp_path)


def test_the_command_says_how_to_use_the_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "warm"
    code = main(["warmup", "--dataset", TRAIN, "--steps", "2", "--examples", "4", "--out", str(out), "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert code == 0
    assert main(["tokens", "Final: 3", "--policy", printed["policy"]]) == 0
