"""Loop A on the embedded model: live sampling, exact pass rates, reading tokens."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from lockedroom.errors import BadInput, Tampered
from lockedroom.jsonl import encode_lines, read_batches
from lockedroom.loops.evaluate import Evaluated, evaluate
from lockedroom.loops.evaluating.configuration import EvaluateConfig
from lockedroom.loops.microscope.reading import read_spellings, read_texts
from lockedroom.loops.opening.policy import open_token_policy
from lockedroom.policy.backend import Backend
from lockedroom.policy.tiny import DATA_FOLDER
from lockedroom.records import Example, FinishReason, Record, Sampling, Score
from lockedroom.results.evaluation.exact import EXACT_JSON, ExactExample, sum_up
from lockedroom.results.verify import verify
from lockedroom.scorer.builtin import find_builtin

DEV = str(DATA_FOLDER / "dev.jsonl")
PROMPT = "Compute 25+87. Output exactly one line: Final: <int>"


def live(
    out: Path, *, workers: int = 1, limit: int = 40, draws: int = 3, exact: bool = False, **sampling: object
) -> Evaluated:
    settings = msgspec.convert(sampling, Sampling)
    config = EvaluateConfig(dataset=DEV, policy="tiny", limit=limit, draws=draws, exact=exact, sampling=settings)
    return evaluate(config, out, workers=workers)


def records_of(run: Path) -> list[Record]:
    return [record for batch in read_batches(run / "records.jsonl", Record) for record in batch.rows]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "backend", "says"),
    [
        ("tiny", {"concurrency": 4}, "--concurrency: it has no effect with an embedded model"),
        ("tiny", {"lora": 4}, "--lora"),
        ("hf:nowhere", {"retries": 1}, "--retries: it has no effect with a Hugging Face model"),
        ("http://127.0.0.1:1/v1#m", {"adapter": "folder"}, "--adapter: it has no effect with a server"),
        ("http://127.0.0.1:1/v1#m", {"trust_remote_code": True}, "--trust-remote-code"),
        ("scripted:x", {"batch": 4}, "--batch: it has no effect with a scripted policy"),
        (None, {"device": "cuda"}, "--device: it has no effect with --completions"),
    ],
)
def test_a_setting_that_would_change_nothing_is_refused(
    tmp_path: Path, name: str | None, backend: dict[str, object], says: str
) -> None:
    config = EvaluateConfig(
        dataset=DEV, policy=name, completions=None if name else DEV, backend=msgspec.convert(backend, Backend)
    )
    with pytest.raises(BadInput, match="leave out " + says):
        evaluate(config, tmp_path / "run")


def test_a_live_run_verifies_and_says_what_sampled_it(tmp_path: Path) -> None:
    done = live(tmp_path / "run", temperature=0.7, top_k=20, max_tokens=12)
    assert verify(done.path).rescored == 120
    room, policy = done.manifest.room, done.manifest.policy
    assert room.sampling["temperature"] == 0.7
    assert room.sampling["top_k"] == 20
    assert "seed" not in room.sampling
    assert policy.identity["weights_sha256"]
    assert policy.identity["threads"] == 1


def test_the_room_holds_a_hash_of_the_prompts_that_anyone_can_recompute(tmp_path: Path) -> None:
    done = live(tmp_path / "run", limit=5)
    lines = (done.path / "examples.jsonl").read_text("utf-8").splitlines()
    text = "".join(json.dumps(json.loads(line)["prompt"], ensure_ascii=False) + "\n" for line in lines)
    assert done.manifest.room.prompts["sha256"] == hashlib.sha256(text.encode()).hexdigest()


def test_two_workers_draw_the_same_bytes_as_one(tmp_path: Path) -> None:
    live(tmp_path / "one")
    live(tmp_path / "two", workers=2)
    assert sha256(tmp_path / "one" / "records.jsonl") == sha256(tmp_path / "two" / "records.jsonl")


def test_more_draws_keep_the_earlier_ones(tmp_path: Path) -> None:
    live(tmp_path / "three", draws=3)
    live(tmp_path / "five", draws=5)
    five = {(record.id, record.draw): record for record in records_of(tmp_path / "five")}
    assert all(five[record.id, record.draw] == record for record in records_of(tmp_path / "three"))


def test_truncation_is_its_own_count(tmp_path: Path) -> None:
    done = live(tmp_path / "run", max_tokens=2)
    cut = [
        record
        for record in records_of(done.path)
        if record.completion and record.completion.finish_reason is FinishReason.LENGTH
    ]
    assert done.summary.truncated == len(cut) > 60
    assert done.summary.finish_reason_known == 120


def test_every_record_keeps_ids_and_both_logprobs_of_every_token(tmp_path: Path) -> None:
    done = live(tmp_path / "run", temperature=0.5)
    for record in records_of(done.path):
        drawn = record.completion
        assert drawn is not None
        assert drawn.token_ids is not None
        assert drawn.token_logprobs is not None
        assert drawn.token_policy_logprobs is not None
        assert len(drawn.token_ids) == len(drawn.token_logprobs) == len(drawn.token_policy_logprobs) > 0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_sampled_interval_covers_the_exact_pass_rate(tmp_path: Path, seed: int) -> None:
    done = live(tmp_path / "run", limit=100, draws=8, exact=True, seed=seed)
    assert done.exact is not None
    assert done.exact.sampled is not None
    assert abs(done.exact.sampled.value - done.exact.pass_at_1) < 0.05
    assert done.exact.sampled.covers
    assert 0.3 < done.exact.pass_at_1 < 0.45
    assert done.exact.canonical < done.exact.pass_at_1


def test_exact_pass_at_k_rises_and_starts_at_pass_at_1(tmp_path: Path) -> None:
    done = live(tmp_path / "run", exact=True)
    assert done.exact is not None
    curve = [done.exact.pass_at_k[k] for k in sorted(done.exact.pass_at_k)]
    assert curve[0] == pytest.approx(done.exact.pass_at_1)
    assert curve == sorted(curve)


def test_exact_means_that_do_not_follow_from_their_rows_are_tampering(tmp_path: Path) -> None:
    done = live(tmp_path / "run", exact=True)
    raw = (done.path / EXACT_JSON).read_text().replace('"pass_at_1": 0.', '"pass_at_1": 0.9')
    (done.path / EXACT_JSON).write_text(raw)
    with pytest.raises(Tampered, match=r"exact\.json"):
        verify(done.path)


def test_exact_and_sampled_agree_on_a_worked_case() -> None:
    rows = [ExactExample("a", 0.5, 0.5, 0.0), ExactExample("b", 1.0, 0.9, 0.1)]
    exact = sum_up(rows, 0.75, 4, 0.95)
    assert exact.pass_at_1 == 0.75
    assert exact.pass_at_k[2] == pytest.approx((0.75 + 1.0) / 2)
    assert exact.canonical == pytest.approx(0.7)
    assert exact.sampled is not None
    # sqrt(.5 * .5 / 4) / 2 = .125
    assert exact.sampled.high - exact.sampled.value == pytest.approx(1.959964 * 0.125, abs=1e-6)


def test_exact_refuses_a_policy_without_probabilities(tmp_path: Path) -> None:
    config = EvaluateConfig(dataset=DEV, policy="scripted:Final: 1", exact=True, limit=3)
    with pytest.raises(BadInput, match="gives no probabilities"):
        evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_exact_refuses_a_scorer_that_cannot_list_what_it_accepts(tmp_path: Path) -> None:
    config = EvaluateConfig(dataset=DEV, policy="tiny", scorer="permissive", exact=True, limit=3)
    with pytest.raises(BadInput, match="cannot list"):
        evaluate(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_settings_that_are_no_distribution_are_refused_before_anything_is_drawn(
    tmp_path: Path, settings: dict[str, float], message: str
) -> None:
    config = EvaluateConfig(dataset=DEV, policy="tiny", limit=4, sampling=msgspec.convert(settings, Sampling))
    with pytest.raises(BadInput, match=message):
        evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run" / "manifest.json").exists()


def test_a_prompt_the_tokenizer_cannot_read_names_its_example(tmp_path: Path) -> None:
    dataset = tmp_path / "d.jsonl"
    dataset.write_bytes(
        encode_lines(
            [Example(id="ok", prompt="1+1", expected_answer=2), Example(id="e-acute", prompt="é", expected_answer=2)]
        )
    )
    with pytest.raises(BadInput, match=r"e-acute.*U\+00E9"):
        evaluate(EvaluateConfig(dataset=str(dataset), policy="tiny"), tmp_path / "run")


def test_recorded_completions_cannot_be_given_a_temperature(tmp_path: Path) -> None:
    done = live(tmp_path / "run")
    config = EvaluateConfig(dataset=DEV, limit=40, completions=str(done.path), sampling=Sampling(temperature=0.1))
    with pytest.raises(BadInput, match="drawn already"):
        evaluate(config, tmp_path / "again")


def test_the_completions_of_a_run_can_be_judged_again(tmp_path: Path) -> None:
    first = live(tmp_path / "run")
    again = evaluate(EvaluateConfig(dataset=DEV, limit=40, completions=str(first.path)), tmp_path / "again")
    assert again.summary == first.summary


def test_texts_are_ranked_by_probability_and_odd_ones_are_explained() -> None:
    policy = open_token_policy("tiny", threads=1)
    readings = read_texts(policy, ["113", "Final: 112", "é"], PROMPT, Sampling())
    assert [reading.text for reading in readings] == ["Final: 112", "113", "é"]
    assert readings[0].probability is not None
    assert readings[0].canonical is not None
    assert readings[0].canonical <= readings[0].probability <= 1
    assert readings[2].problem is not None


def test_the_format_tax_is_the_unpaid_share_of_the_right_number() -> None:
    policy, scorer = open_token_policy("tiny", threads=1), find_builtin("final-int")
    assert scorer is not None
    readings, tax = read_spellings(
        policy, scorer, Example(id="x", prompt=PROMPT, expected_answer="112"), [], Sampling()
    )
    paid = sum(reading.probability or 0.0 for reading in readings if reading.accepted)
    assert tax.accepted == pytest.approx(paid)
    assert tax.tax == pytest.approx(1 - tax.accepted / tax.any_spelling)
    assert tax.tax is not None
    assert 0.3 < tax.tax < 0.8
    assert {reading.text for reading in readings if reading.accepted} == {"Final: 112", "Final: 112\n"}


def test_scores_of_a_live_run_come_from_the_scorer(tmp_path: Path) -> None:
    scorer = find_builtin("final-int")
    assert scorer is not None
    done = live(tmp_path / "run", limit=10)
    examples = {row.id: row for batch in read_batches(done.path / "examples.jsonl", Example) for row in batch.rows}
    for record in records_of(done.path):
        assert record.completion is not None
        assert isinstance(record.result, Score)
        assert record.result == scorer.score(examples[record.id], record.completion.text)
