"""The token X-ray of Hugging Face runs: bytes, special tokens, adapters; and the format tax of such a policy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_models import FAMILIES, save_small

from lockedroom.cli.main import main
from lockedroom.dataset.load import read_examples
from lockedroom.errors import BadInput
from lockedroom.jsonl import read_batches
from lockedroom.loops.evaluate import evaluate
from lockedroom.loops.evaluating.configuration import EvaluateConfig
from lockedroom.loops.learning.warmup import WarmupConfig, warm_up
from lockedroom.loops.microscope.xray import Wanted, xray_run
from lockedroom.policy.backend import Backend
from lockedroom.policy.huggingface import load_huggingface
from lockedroom.policy.spans import spell
from lockedroom.policy.tiny import DATA_FOLDER
from lockedroom.records import Record, Sampling
from lockedroom.results.microscope.xray import render_xray
from lockedroom.testkit.small_run import write_rows

PROMPT = "Compute 25+8. Output exactly one line: Final: <int>"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = save_small("qwen2", tmp_path_factory.mktemp("models") / "qwen2")
    return folder


def test_a_hugging_face_run_shows_bytes_special_tokens_and_an_adapter_its_base(small: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "dev.jsonl", next(iter(read_examples(DATA_FOLDER / "dev.jsonl")))[:4])
    warmed = warm_up(
        WarmupConfig(dataset=str(data), policy=f"hf:{small}", steps=2, batch=4, backend=Backend(lora=2)),
        tmp_path / "warm",
    )
    run = tmp_path / "run"
    asked = EvaluateConfig(
        dataset=str(data), policy=warmed.policy, limit=2, draws=4, sampling=Sampling(max_tokens=12, seed=1)
    )
    evaluate(asked, run)
    records = [record for batch in read_batches(run / "records.jsonl", Record) for record in batch.rows]
    xrays = xray_run(run, Wanted(show=8))
    for one, record in zip(xrays, records, strict=True):
        drawn = record.completion
        assert drawn is not None
        assert "".join(row.piece for row in one.tokens) == drawn.text
        assert [row.logprob for row in one.tokens] == pytest.approx(drawn.token_policy_logprobs, abs=5e-5)
        assert one.reference == f"hf:{small}"
        assert one.prompt[0].mark == "start"  # <|im_start|>
        assert {"end", "special"} <= {token.mark for token in one.prompt}
        assert all(ord(sign) >= 32 for line in render_xray(one).split("\n") for sign in line)
    assert any(row.mark == "part of a character" for one in xrays for row in one.tokens)
    with pytest.raises(BadInput, match="another tokenizer"):
        xray_run(run, Wanted(), reference="tiny")


def test_pieces_join_to_the_text_whatever_the_tokens_are(small: Path) -> None:
    policy = load_huggingface(str(small), Backend(), threads=1)
    ids = (*policy.encode("né €🙂 x"), policy.end_id, 200, 3, 201)
    pieces = spell(policy.decode, ids)
    assert "".join(piece for piece, _, _ in pieces) == policy.decode(ids)
    assert [start for _, start, _ in pieces][1:] == [end for _, _, end in pieces][:-1]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_format_tax_of_a_model_of_any_family_follows_from_its_readings(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_small(family, tmp_path / family)
    capsys.readouterr()
    arguments = ["tokens", "--policy", f"hf:{tmp_path / family}", "--prompt", PROMPT, "--answer", "33"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    by_text = {one["text"]: one["probability"] for one in found["readings"] if one["problem"] is None}
    tax = found["format_tax"]
    assert tax["accepted"] == pytest.approx(by_text["Final: 33"] + by_text["Final: 33\n"], rel=1e-12)
    assert tax["any_spelling"] == pytest.approx(sum(by_text.values()), rel=1e-12)
    assert tax["tax"] == pytest.approx(1 - tax["accepted"] / tax["any_spelling"])
    assert main(arguments) == 0
    assert "the format tax is" in capsys.readouterr().out
