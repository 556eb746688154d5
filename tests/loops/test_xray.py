"""The token X-ray of a run's records: what it shows is what the run holds and what the policies say."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lockedroom.dataset.load import read_examples
from lockedroom.errors import BadInput
from lockedroom.jsonl import encode_lines, read_batches
from lockedroom.loops.evaluate import evaluate
from lockedroom.loops.evaluating.configuration import EvaluateConfig
from lockedroom.loops.instrument.rescore import RescoreConfig, rescore_all
from lockedroom.loops.learn import learn
from lockedroom.loops.learning.opening import LearnConfig
from lockedroom.loops.learning.update import LearnerSettings
from lockedroom.loops.learning.warmup import WarmupConfig, warm_up
from lockedroom.loops.microscope.xray import Wanted, _backend, xray_run
from lockedroom.policy.tiny import DATA_FOLDER, load_tiny
from lockedroom.records import Completion, Details, Outcome, Record, Sampling, Score
from lockedroom.results.learning.metrics import STEPS, StepMetrics
from lockedroom.results.microscope.xray import PromptToken, TokenRow, Xray, render_xray, render_xrays
from lockedroom.testkit.small_run import write_rows

STEPS_RUN, PROMPTS, GROUP = 3, 8, 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, count in (("train", 12), ("dev", 6)):
        write_rows(folder / f"{name}.jsonl", next(iter(read_examples(DATA_FOLDER / f"{name}.jsonl")))[:count])
    return folder


def _learn(data: Path, out: Path, **changes: Any) -> Path:
    config = LearnConfig(
        dataset=str(data / "train.jsonl"), prompts=PROMPTS, draws=1, eval_every=9, eval_examples=2, exact=False,
        learner=LearnerSettings(steps=STEPS_RUN, group=GROUP), sampling=Sampling(max_tokens=12), **changes,
    )  # fmt: skip
    return learn(config, out).path


def _evaluate(data: Path, out: Path, **changes: Any) -> Path:
    evaluate(EvaluateConfig(dataset=str(data / "dev.jsonl"), **changes), out)
    return out


@pytest.fixture(scope="module")
def learned(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _learn(data, tmp_path_factory.mktemp("learned") / "run")


@pytest.fixture(scope="module")
def sampled(data: Path, learned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sampled") / "run"
    return _evaluate(data, out, policy=str(learned), draws=2, sampling=Sampling(seed=3))


def _records(run: Path) -> list[Record]:
    return [record for batch in read_batches(run / "records.jsonl", Record) for record in batch.rows]


def _metrics(run: Path) -> list[StepMetrics]:
    return [row for batch in read_batches(run / STEPS, StepMetrics) for row in batch.rows]


def test_the_tokens_of_a_record_are_its_sampled_ids_with_the_recorded_logprobs(sampled: Path) -> None:
    records = _records(sampled)
    xrays = xray_run(sampled, Wanted(show=len(records)))
    assert [(one.id, one.draw) for one in xrays] == [(record.id, record.draw) for record in records]
    for one, record in zip(xrays, records, strict=True):
        drawn = record.completion
        assert drawn is not None
        assert tuple(row.id for row in one.tokens) == drawn.token_ids
        assert "".join(row.piece for row in one.tokens) == drawn.text
        assert [row.logprob for row in one.tokens] == pytest.approx(drawn.token_policy_logprobs, abs=2e-5)
        assert tuple(row.recorded for row in one.tokens) == drawn.token_logprobs
        assert one.tokens[-1].mark == "end"
        assert one.prompt[0] == PromptToken(0, "", "start")


def test_the_reference_of_a_learned_policy_is_what_it_was_learned_from(sampled: Path) -> None:
    (one,) = xray_run(sampled, Wanted(show=1))
    tiny = load_tiny("tiny")
    example = next(iter(read_examples(sampled / "examples.jsonl")))[0]
    (base,) = tiny.logprobs([tiny.prompt_ids(example.prompt)], [[row.id for row in one.tokens]])
    assert one.reference == "tiny"
    assert [row.ref_logprob for row in one.tokens] == pytest.approx(base, abs=2e-5)
    assert all(row.k1 == row.logprob - (row.ref_logprob or 0.0) for row in one.tokens)
    assert any(abs(row.k1 or 0.0) > 1e-4 for row in one.tokens)  # it has learned


def test_a_run_within_a_learning_run_and_a_warmed_up_policy_know_their_reference(
    data: Path, learned: Path, tmp_path: Path
) -> None:
    (one,) = xray_run(learned / "learned", Wanted(show=1))
    assert one.reference == "tiny"
    (base,) = xray_run(learned / "base", Wanted(show=1))
    assert base.reference is None
    warmed = warm_up(WarmupConfig(dataset=str(data / "train.jsonl"), steps=2, batch=4), tmp_path / "warm")
    run = _evaluate(data, tmp_path / "run", policy=warmed.policy, limit=1)
    assert xray_run(run, Wanted())[0].reference == "tiny"


def test_the_advantages_of_leave_one_out_follow_from_the_rewards_of_the_group(learned: Path) -> None:
    records = _records(learned)
    xrays = xray_run(learned, Wanted(show=len(records)))
    assert [one.step for one in xrays] == [n // (PROMPTS * GROUP) for n in range(len(records))]
    for n, one in enumerate(xrays):
        group = records[n - n % GROUP : n - n % GROUP + GROUP]
        shaped = [_shaped(record) for record in group]
        expected = shaped[n % GROUP] - (sum(shaped) - shaped[n % GROUP]) / (GROUP - 1)
        assert [row.advantage for row in one.tokens] == pytest.approx([expected] * len(one.tokens), abs=1e-9)


def _shaped(record: Record, beta: float = 0.02) -> float:
    assert isinstance(record.result, Score)
    assert record.completion is not None
    drawn = record.completion
    assert drawn.logprob is not None
    assert drawn.ref_logprob is not None
    return record.result.reward - beta * (drawn.logprob - drawn.ref_logprob)


def test_in_the_first_step_the_reference_gives_what_was_recorded(learned: Path) -> None:
    for one in xray_run(learned, Wanted(step=0, show=5)):
        assert sum(row.ref_logprob or 0.0 for row in one.tokens) == pytest.approx(one.drawn_logprob, abs=1e-4)
        assert "is gone" in one.notes[0]


def test_a_running_mean_is_followed_through_the_steps_before(data: Path, tmp_path: Path) -> None:
    run = _learn(data, tmp_path / "ema", preset="reinforce", estimator={"baseline": "ema"})
    for step, metrics in enumerate(_metrics(run)):
        (one,) = xray_run(run, Wanted(step=step, show=1))
        assert one.reward is not None
        assert one.tokens[0].advantage == pytest.approx(one.reward - metrics.baseline, abs=1e-12)
    assert _metrics(run)[2].baseline > 0


@pytest.mark.parametrize(
    ("estimator", "why"), [({"baseline": "value"}, "value head"), ({"kl_per": "token"}, "KL term")]
)
def test_advantages_that_do_not_follow_from_the_records_are_not_made_up(
    data: Path, tmp_path: Path, estimator: dict[str, Any], why: str
) -> None:
    (one,) = xray_run(_learn(data, tmp_path / "run", estimator=estimator), Wanted(show=1))
    assert all(row.advantage is None for row in one.tokens)
    assert any(why in note for note in one.notes)


def test_what_the_scorer_parsed_is_marked_where_it_stands(sampled: Path) -> None:
    (one,) = xray_run(sampled, Wanted(code="ok", show=1))
    assert one.parsed is not None
    assert one.scored_span is not None
    assert one.text[slice(*one.scored_span)] == one.parsed
    assert "".join(row.piece for row in one.tokens if row.scored) == one.parsed
    shown = render_xray(one)
    assert f"  → Final: **{one.parsed}**" in shown
    (other,) = xray_run(sampled, Wanted(code="missing_prefix", show=1))
    assert other.scored_span is None
    assert not any(row.scored for row in other.tokens)
    assert "→" not in render_xray(other)


def test_records_are_chosen_by_id_draw_code_and_step(sampled: Path, learned: Path) -> None:
    ids = sorted({record.id for record in _records(sampled)})
    assert [(one.id, one.draw) for one in xray_run(sampled, Wanted(ids=(ids[2],)))] == [(ids[2], 0), (ids[2], 1)]
    assert [(one.id, one.draw) for one in xray_run(sampled, Wanted(ids=(ids[2],), draw=1))] == [(ids[2], 1)]
    assert all(one.verdict == "correct: ok" for one in xray_run(sampled, Wanted(code="ok")))
    assert [one.step for one in xray_run(learned, Wanted(step=2, show=2))] == [2, 2]
    assert render_xrays(xray_run(sampled, Wanted(draw=77))).startswith("nothing to show")
    with pytest.raises(BadInput, match="no such example"):
        xray_run(sampled, Wanted(ids=("missing",)))
    with pytest.raises(BadInput, match="not a learning run"):
        xray_run(sampled, Wanted(step=0))


def test_a_stop_string_and_the_token_limit_are_marked(data: Path, tmp_path: Path) -> None:
    stopped = _evaluate(data, tmp_path / "stop", policy="tiny", draws=8, limit=1, sampling=Sampling(stop=("9",)))
    behind = [row for one in xray_run(stopped, Wanted(show=8)) for row in one.tokens if row.mark == "after the text"]
    assert behind
    assert all(row.piece == "9" for row in behind)
    cut = _evaluate(data, tmp_path / "cut", policy="tiny", limit=1, sampling=Sampling(max_tokens=2))
    (one,) = xray_run(cut, Wanted())
    assert one.tokens[-1].mark == "token limit"


def test_a_rescored_run_is_read_with_the_policy_that_drew_it(sampled: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    rescore_all([sampled], [again], RescoreConfig(scorer="permissive"))
    (one,), (first,) = xray_run(again, Wanted(show=1)), xray_run(sampled, Wanted(show=1))
    assert (one.policy, one.reference, one.text) == (first.policy, first.reference, first.text)
    assert [(row.id, row.k1) for row in one.tokens] == [(row.id, row.k1) for row in first.tokens]
    (again / "config.toml").write_text('rescore = "moved-away"')
    with pytest.raises(BadInput, match="which is not there from here"):
        xray_run(again, Wanted())
    (again / "config.toml").write_text(f'run = "{again}"')
    with pytest.raises(BadInput, match="says no policy"):
        xray_run(again, Wanted())


def _recorded(data: Path, folder: Path, ids: tuple[int, ...] | None, text: str) -> Path:
    """A run on one recorded completion of the first dev example."""
    example = next(iter(read_examples(data / "dev.jsonl")))[0]
    score = Score(0.0, Details("x", Outcome.WRONG, None, "m"))
    folder.mkdir()
    (folder / "records.jsonl").write_bytes(
        encode_lines([Record(example.id, 0, Completion(text, token_ids=ids), score)])
    )
    return _evaluate(data, folder / "run", completions=str(folder / "records.jsonl"), limit=1)


def test_an_odd_tokenisation_is_told_and_a_policy_has_to_be_named_for_recorded_tokens(
    data: Path, tmp_path: Path
) -> None:
    tiny = load_tiny("tiny")
    letters = tuple(tiny.tokenizer.id_of[letter] for letter in "Final: 99")
    run = _recorded(data, tmp_path / "odd", (*letters, tiny.end_id), "Final: 99")
    with pytest.raises(BadInput, match="name the one that wrote its completions with --policy"):
        xray_run(run, Wanted())
    (one,) = xray_run(run, Wanted(), policy="tiny")
    assert one.canonical == 3
    assert "in 3 other tokens" in render_xray(one)


def test_another_tokenizer_is_refused_by_what_the_tokens_spell(data: Path, tmp_path: Path) -> None:
    run = _recorded(data, tmp_path / "other", (20, 21, 22), "Final: 99")
    with pytest.raises(BadInput, match="its token ids spell"):
        xray_run(run, Wanted(), policy="tiny")


def test_records_without_token_ids_are_refused(data: Path, tmp_path: Path) -> None:
    run = _recorded(data, tmp_path / "text", None, "Final: 99")
    with pytest.raises(BadInput, match="hold no token ids"):
        xray_run(run, Wanted(), policy="tiny")


def test_a_policy_with_other_weights_than_the_run_recorded_is_refused(data: Path, tmp_path: Path) -> None:
    tiny, weak, file = load_tiny("tiny"), load_tiny("tiny-weak"), tmp_path / "mine.safetensors"
    tiny.save(file, origin={})
    run = _evaluate(data, tmp_path / "run", policy=str(file), limit=1)
    file.unlink()
    with pytest.raises(BadInput, match="needs the policy"):
        xray_run(run, Wanted())
    weak.save(file, origin={})
    with pytest.raises(BadInput, match="other weights_sha256"):
        xray_run(run, Wanted())


def test_a_config_that_was_cut_short_is_one_message(sampled: Path, learned: Path, tmp_path: Path) -> None:
    damaged = (
        (sampled, 'dataset = "tr', "not TOML"),
        (learned, 'dataset = "tr', "not TOML"),
        (learned, "steps = 1", "not the configuration of a learning run"),
        (sampled, 'policy = "tiny"\nbackend = 3', "backend"),
        (sampled, 'policy = "tiny"\nbackend = {batch = "x"}', "backend"),
    )
    for i, (run, text, said) in enumerate(damaged):
        copy = tmp_path / str(i)
        shutil.copytree(run, copy)
        (copy / "config.toml").write_text(text)
        with pytest.raises(BadInput, match=said):
            xray_run(copy, Wanted())


def test_a_run_cannot_ask_for_code_to_be_trusted(sampled: Path) -> None:
    config = 'policy = "hf:model"\nbackend = {trust_remote_code = true, dtype = "float64"}'
    settings = _backend(sampled, tomllib.loads(config), {})
    assert (settings.trust_remote_code, settings.dtype) == (False, "float64")
    assert _backend(sampled, tomllib.loads(config), {"trust_remote_code": True}).trust_remote_code


HOSTILE = "# head\n**bold** | \x1b[31m\u202e\n| a | b |\nFinal: **9"


def _hostile() -> Xray:
    rows = tuple(
        TokenRow(id=n, piece=sign, start=n, end=n + 1, logprob=-1.0, scored=n == len(HOSTILE) - 1)
        for n, sign in enumerate(HOSTILE)
    )
    return Xray(
        id="\x1b[2J", draw=0, step=None, policy="p\x07", reference=None, text=HOSTILE, verdict="wrong: **x**", reward=0.0,
        parsed="9", scored_span=(len(HOSTILE) - 1, len(HOSTILE)), canonical=None, drawn_logprob=None,
        prompt=(PromptToken(1, "**p**\n"),), tokens=rows, notes=(),
    )  # fmt: skip


def test_hostile_text_moves_no_cursor_and_forges_no_mark() -> None:
    shown = render_xray(_hostile())
    assert all(sign == "\n" or sign.isprintable() for sign in shown)
    lines = shown.split("\n")
    assert not any(line.startswith("#") for line in lines)
    assert [line for line in lines if line.startswith("  →")] == ["  → Final: *⟨U+002A⟩**9**"]
    assert sum("**" in line for line in lines) == 2  # what was parsed, and its token
    table = [line for line in lines if line.startswith("| ")]
    assert len(table) == 2 + len(HOSTILE)


def test_json_of_an_xray_holds_every_number(sampled: Path) -> None:
    (one,) = xray_run(sampled, Wanted(show=1))
    assert msgspec.json.decode(msgspec.json.encode(one), type=Xray) == one
