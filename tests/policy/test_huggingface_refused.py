"""Folders that transformers opens with a part left out, or not at all: one message each, and nothing guessed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from small_models import make_tokenizer, save_small

from lockedroom.cli.main import main
from lockedroom.errors import BadInput
from lockedroom.policy.backend import Backend
from lockedroom.policy.huggingface import load_huggingface

of: Any = transformers


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small("llama", tmp_path_factory.mktemp("small"))


@pytest.fixture
def folder(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "model"))


def setting(file: str, **values: object) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        found = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(found | values))

    return write


def text(file: str, content: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / file).write_text(content)

    return write


def tensor(name: str, value: torch.Tensor) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        file = folder / "model.safetensors"
        save_file(load_file(file) | {name: value}, file, metadata={"format": "pt"})

    return write


TEMPLATES = [{"name": "rag", "template": "{{ messages[0].content }}"}, {"name": "tools", "template": "x"}]
REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "fewer layers": (
        setting("config.json", num_hidden_layers=1),
        r"which describes a model without model\.layers\.1\.input_layernorm\.weight, … \(9 such\)",
    ),
    "a bias that is not configured": (
        tensor("model.layers.0.self_attn.q_proj.bias", torch.ones(32)),
        r"which describes a model without model\.layers\.0\.self_attn\.q_proj\.bias",
    ),
    "quantised": (
        setting("config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        r"its weights are quantised \(gptq\); only plain ones are supported, or a \.gguf file",
    ),
    "quantised by a package that is not there": (
        setting("config.json", quantization_config={"quant_method": "torchao", "quant_type": {}}),
        r"its weights are quantised \(torchao\)",
    ),
    "torn generation_config": (
        text("generation_config.json", "{"),
        r"its generation_config\.json cannot be read: .*not a valid JSON",
    ),
    "an end token that is a word": (
        setting("generation_config.json", eos_token_id="</s>"),
        r"its generation_config\.json names </s> as eos_token_id; give token ids",
    ),
    "several templates": (
        setting("tokenizer_config.json", chat_template=TEMPLATES),
        "it has chat templates rag, tools and none named default; use --template plain",
    ),
    "a template that is a number": (
        setting("tokenizer_config.json", chat_template=5),
        "its chat template cannot be used: it has no text for it; use --template plain",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_folder_of_which_a_part_would_be_left_out_is_refused_in_one_line(
    kind: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harm, said = REFUSED[kind]
    harm(folder)
    with pytest.raises(BadInput, match=said):
        load_huggingface(str(folder), Backend())
    assert main(["tokens", "a", "--policy", f"hf:{folder}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_end_tokens_are_all_that_the_files_name_and_the_model_knows(folder: Path) -> None:
    setting("generation_config.json", eos_token_id=[7, 5, -1, 99999])(folder)
    setting("config.json", eos_token_id=-1)(folder)
    policy = load_huggingface(str(folder), Backend())
    assert policy.end_ids == (policy.codec.tokenizer.eos_token_id, 7, 5)


def test_another_head_beside_the_model_is_left_alone(folder: Path) -> None:
    """A value head, as trainers save them, changes nothing of what the model says."""
    before = load_huggingface(str(folder), Backend()).logprobs([[5, 6]], [[7]])
    tensor("v_head.summary.weight", torch.zeros(1, 32))(folder)
    assert load_huggingface(str(folder), Backend()).logprobs([[5, 6]], [[7]]) == before


def test_a_template_named_default_is_used(folder: Path) -> None:
    setting("tokenizer_config.json", chat_template=[TEMPLATES[1], {**TEMPLATES[0], "name": "default"}])(folder)
    policy = load_huggingface(str(folder), Backend())
    assert policy.codec.chat
    assert policy.decode(policy.prompt_ids("1+1")) == "1+1"


def test_a_sharded_model_is_opened_and_a_lost_shard_is_named(folder: Path) -> None:
    before = load_huggingface(str(folder), Backend())
    (folder / "model.safetensors").unlink()
    before.model.save_pretrained(folder, max_shard_size="40KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert load_huggingface(str(folder), Backend()).logprobs([[5, 6]], [[7]]) == before.logprobs([[5, 6]], [[7]])
    shards[1].unlink()
    with pytest.raises(BadInput, match=rf"its weights cannot be read: .*{shards[1].name}"):
        load_huggingface(str(folder), Backend())


def test_an_encoder_decoder_is_named_as_such(tmp_path: Path) -> None:
    tokenizer = make_tokenizer("gpt2")
    tokenizer.save_pretrained(tmp_path)
    shape = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1, "num_heads": 4}
    of.T5ForConditionalGeneration(of.T5Config(vocab_size=len(tokenizer), **shape)).save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="a model of type t5; only causal transformers"):
        load_huggingface(str(tmp_path), Backend())
