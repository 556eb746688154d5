"""What a person reads of a run says everything, and says it safely."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from lockedroom.loops.evaluate import Evaluated, evaluate
from lockedroom.loops.evaluating.configuration import EvaluateConfig
from lockedroom.results.evaluation.rendering import render_summary
from lockedroom.safeguards.manifest import encode_manifest, read_manifest
from lockedroom.testkit.small_run import write_additions, write_answers, write_rows, write_samples


def _evaluated(folder: Path, completions: Path, **more: object) -> Evaluated:
    given = {"dataset": str(write_additions(folder, 10)), "completions": str(completions), **more}
    return evaluate(msgspec.convert(given, EvaluateConfig), folder / "run")


def _text(done: Evaluated) -> str:
    return render_summary(done.summary, done.manifest)


def test_the_saved_text_follows_from_what_was_saved(tmp_path: Path) -> None:
    done = _evaluated(tmp_path, write_answers(tmp_path, 10), declare=("sampling.temperature=2024-01-01 10:00:00",))
    assert render_summary(done.summary, read_manifest(done.path)) == (done.path / "summary.md").read_text()
    assert encode_manifest(read_manifest(done.path)) == (done.path / "manifest.json").read_bytes()


def test_the_text_names_policy_split_room_estimate_and_every_code(tmp_path: Path) -> None:
    done = _evaluated(
        tmp_path, write_answers(tmp_path, 10), split="dev", declare=("policy.model=qwen", "sampling.top_k=4")
    )
    text = _text(done)
    for fact in ("# qwen on dev", "top_k 4", "temperature undeclared", "10 examples × 1 draw = 10 attempts",
                 "final-int version 1", "0.6000", "95% interval", "missing_prefix", "malformed", "wrong_answer",
                 "Failures: none", "Truncation: unknown"):  # fmt: skip
        assert fact in text


def test_failures_are_three_numbers_in_the_text(tmp_path: Path) -> None:
    text = _text(_evaluated(tmp_path, write_answers(tmp_path, 8)))
    assert "2 of 10 attempts could not be judged (2 missing_completion)" in text
    assert "Mean reward 0.6250 over the judged, 0.5000 with failures as 0, and anything in [0.5000, 0.7000]" in text
    assert "2 examples have no judged attempt" in text


def test_several_draws_have_a_variance_within_and_between(tmp_path: Path) -> None:
    text = _text(_evaluated(tmp_path, write_samples(tmp_path, 10, 4)))
    assert "10 examples × 4 draws = 40 attempts" in text
    assert "within examples (over draws)" in text
    assert "t over 10 examples" in text


def test_ids_that_nobody_asked_for_are_counted_and_named(tmp_path: Path) -> None:
    text = _text(_evaluated(tmp_path, write_answers(tmp_path, 15)))
    assert "also holds 5 ids that are not in the dataset (not used): e10, e11, e12, …" in text


def test_a_left_over_id_that_is_no_text_can_be_recorded(tmp_path: Path) -> None:
    rows = [{"id": f"e{i}", "completion": "x"} for i in range(10)] + [{"id": "\ud800\x1b[31m", "completion": "x"}]
    done = _evaluated(tmp_path, write_rows(tmp_path / "f.jsonl", rows))
    assert done.manifest.inputs.extra_first == ("⟨U+D800⟩␛[31m",)


def test_truncation_is_a_share_of_what_is_known(tmp_path: Path) -> None:
    rows = [{"id": f"e{i}", "completion": "x", **({"finish_reason": "length"} if i < 4 else {})} for i in range(10)]
    text = _text(_evaluated(tmp_path, write_rows(tmp_path / "f.jsonl", rows)))
    assert "4 of 4 completions hit the token limit (100.0%); the finish reason of 6 is unknown" in text


def test_nothing_judged_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text("def score(example, completion):\n    raise ValueError('no')\n")
    done = _evaluated(tmp_path, write_answers(tmp_path, 10), scorer=f"{tmp_path / 'dies.py'}:score")
    text = _text(done)
    assert "none: nothing could be judged" in text
    assert "10 scorer_raised" in text


@pytest.mark.parametrize("name", ["a|b", "\x1b[31mred", "two\nlines", "\u202eevil", "<script>"])
def test_hostile_names_neither_break_the_table_nor_reach_the_terminal(tmp_path: Path, name: str) -> None:
    (tmp_path / "codes.py").write_text(
        "def score(example, completion):\n    return {'reward': 0.0, 'details': {'code': 'a|b', 'outcome': 'wrong'}}\n"
    )
    done = _evaluated(
        tmp_path,
        write_answers(tmp_path, 10),
        scorer=f"{tmp_path / 'codes.py'}:score",
        split=name,
        declare=(f"policy.model='''{name}'''" if "\x1b" not in name else "policy.model=x",),
    )
    text = _text(done)
    assert all(character.isprintable() or character == "\n" for character in text)
    rows = [line.replace("\\|", "") for line in text.splitlines() if line.startswith("|") and "a\\|b" in line]
    header = next(line for line in text.splitlines() if line.startswith("| code"))
    assert rows
    assert {row.count("|") for row in rows} == {header.count("|")}
