"""Adapters that `peft` saved: opened whole and for their own base, or refused; what peft leaves out it says in a warning alone."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import make_model, make_tokenizer, save_small
from transformers import AutoModelForCausalLM

from lockedroom.errors import BadInput
from lockedroom.policy.backend import Backend
from lockedroom.policy.huggingface import load_huggingface

of: Any = peft
AUTO: Any = AutoModelForCausalLM
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
LORA: dict[str, Any] = {"task_type": "CAUSAL_LM", "r": 2, "target_modules": ["q_proj"]}
# peft asks transformers by a name that it is about to drop
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
IDS = [[5, 6, 7, 8, 9]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small("llama", tmp_path_factory.mktemp("base"))


def adapter(base: Path, folder: Path, config: Any) -> list[list[float]]:
    """Write an adapter that changes what the base says, and return what both together say."""
    torch.manual_seed(1)
    model = of.get_peft_model(AUTO.from_pretrained(base), config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it saves the embeddings too
        model.save_pretrained(folder)
    return says(model.eval())


@torch.inference_mode()
def says(model: Any) -> list[list[float]]:
    found: list[list[float]] = model(input_ids=torch.tensor(IDS)).logits[0].tolist()
    return found


KINDS: dict[str, dict[str, Any]] = {
    "dora": {"use_dora": True},
    "rank-stabilised, with dropout": {"use_rslora": True, "lora_dropout": 0.3},
    "whole layers": {"modules_to_save": ["lm_head", "embed_tokens"]},
    "single tokens": {"trainable_token_indices": [5, 6]},
    "biases": {"bias": "all"},
    "embeddings": {"target_modules": ["q_proj", "embed_tokens"], "init_lora_weights": False},
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_of_peft_is_opened_whole_and_saved_whole(kind: str, base: Path, tmp_path: Path) -> None:
    said = adapter(base, tmp_path / "adapter", of.LoraConfig(**(LORA | KINDS[kind])))
    policy = load_huggingface(str(tmp_path / "adapter"), Backend())
    assert says(policy.model) == said
    policy.save(tmp_path / "again", origin={})
    assert says(load_huggingface(str(tmp_path / "again"), Backend()).model) == said


def test_an_adapter_of_a_deeper_or_shallower_model_is_refused(base: Path, tmp_path: Path) -> None:
    """peft leaves the other layers out, or at random."""
    tokenizer = make_tokenizer("llama")
    deeper = make_model("llama", len(tokenizer), int(tokenizer.eos_token_id)).config
    deeper.num_hidden_layers = 3
    deeper.layer_types = None
    AUTO.from_config(deeper).save_pretrained(tmp_path / "deeper")
    tokenizer.save_pretrained(tmp_path / "deeper")
    for name, trained_on in (("of-base", base), ("of-deeper", tmp_path / "deeper")):
        adapter(trained_on, tmp_path / name, of.LoraConfig(**LORA))
    lacks = r"does not fit the model: it lacks 2 of its weights, \S+layers\.2\.self_attn\.q_proj\.lora_A"
    with pytest.raises(BadInput, match=lacks):
        load_huggingface(str(tmp_path / "deeper"), Backend(adapter=str(tmp_path / "of-base")))
    beyond = r"does not fit the model: it holds 2 weights that have no place there, \S+layers\.2\.self_attn"
    with pytest.raises(BadInput, match=beyond):
        load_huggingface(str(base), Backend(adapter=str(tmp_path / "of-deeper")))


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("lm_head.weight", "its adapter cannot be read: .*lm_head.weight"),
        ("layers.0.self_attn.q_proj.lora_B.weight", "does not fit the model: it lacks 1 of its weights"),
    ],
)
def test_an_adapter_without_one_of_its_tensors_is_refused(lost: str, said: str, base: Path, tmp_path: Path) -> None:
    adapter(base, tmp_path, of.LoraConfig(**LORA, modules_to_save=["lm_head"]))
    tensors = {name: tensor for name, tensor in load_file(tmp_path / WEIGHTS).items() if not name.endswith(lost)}
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(BadInput, match=said):
        load_huggingface(str(tmp_path), Backend())


def test_an_adapter_that_brings_weights_of_its_base_is_refused(base: Path, tmp_path: Path) -> None:
    """What it learned next was saved without them: another policy than the one that was measured."""
    adapter(base, tmp_path, of.LoraConfig(**LORA))
    tensors = load_file(tmp_path / WEIGHTS)
    tensors["base_model.model.model.embed_tokens.weight"] = torch.zeros(320, 32)
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(BadInput, match=r"replaces weights of its base model that it does not train, \S+embed_tokens"):
        load_huggingface(str(tmp_path), Backend())


def test_an_adapter_of_vectors_before_the_prompt_is_named(base: Path, tmp_path: Path) -> None:
    adapter(base, tmp_path, of.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(BadInput, match="a PROMPT_TUNING adapter, which puts vectors of its own before every prompt"):
        load_huggingface(str(tmp_path), Backend())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"zork": 1}, r"adapter_config\.json: sets zork, which peft .* does not know and would leave out"),
        ({"zork": None}, None),
        ("{", r"adapter_config\.json: damaged: .*; restore the file, or save the adapter again"),
        ("[]", r"adapter_config\.json: damaged: Expected `object`"),
    ],
    ids=("unknown setting", "unknown setting that is off", "torn", "no object"),
)
def test_a_configuration_that_peft_reads_in_part_is_refused(
    change: dict[str, object] | str, said: str | None, base: Path, tmp_path: Path
) -> None:
    adapter(base, tmp_path, of.LoraConfig(**LORA))
    file = tmp_path / CONFIG
    file.write_text(change if isinstance(change, str) else json.dumps(json.loads(file.read_text()) | change))
    if said is None:
        assert load_huggingface(str(tmp_path), Backend()).spec.identity["adapter_sha256"]
        return
    with pytest.raises(BadInput, match=said):
        load_huggingface(str(tmp_path), Backend())


def test_a_tensor_of_another_size_is_named_with_both(base: Path, tmp_path: Path) -> None:
    adapter(base, tmp_path, of.LoraConfig(**LORA))
    tensors = load_file(tmp_path / WEIGHTS)
    name = sorted(tensors)[0]
    save_file(tensors | {name: torch.zeros(7, 7)}, tmp_path / WEIGHTS)
    with pytest.raises(BadInput, match=r"its adapter cannot be read: .* size mismatch for \S+lora_A.*\[7, 7\]"):
        load_huggingface(str(tmp_path), Backend())
