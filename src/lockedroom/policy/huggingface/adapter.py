"""Adapters (LoRA and its kin): a new one on a model, or one that `peft` saved, whole and for this model."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import peft
import torch

from lockedroom.errors import BadInput
from lockedroom.policy.huggingface.source import ADAPTER_CONFIG, adapter_settings
from lockedroom.visible import visible

ADAPTER_SEED = 0  # a new adapter starts as the base model (its second matrix is 0); its first is drawn from this seed


def new_adapter(model: Any, rank: int) -> Any:
    """Return the model with a LoRA adapter on every linear layer but the last; only the adapter asks for gradients.

    The update is scaled by 2 (alpha = 2·rank), without dropout. Hu et al. 2021, "LoRA".
    """
    config = peft.LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GPT-2 stores its matrices the other way round, which peft notes and handles
        torch.manual_seed(ADAPTER_SEED)
        return peft.get_peft_model(model, config)


def saved_adapter(model: Any, folder: Path) -> Any:
    """Return the model with a folder's adapter, whose weights ask for gradients.

    Raises BadInput for one that does not belong to this model, or that this `peft` knows in part only: peft would leave out what
    it cannot place, and go on with random numbers where the file has none.
    """
    config = peft.PeftConfig.from_pretrained(str(folder))
    _refuse_unknown(config, folder)
    of_base = {id(parameter) for parameter in model.parameters()}
    ends = [layer.weight for layer in (model.get_input_embeddings(), model.get_output_embeddings())]
    before = {id(weight): weight.detach().clone() for weight in ends}  # peft may save them beside an adapter
    model = peft.PeftModel.from_pretrained(model, str(folder), is_trainable=True)
    loaded: Any = peft.set_peft_model_state_dict(model, peft.load_peft_weights(str(folder), device="cpu"))
    named = list(model.named_parameters(remove_duplicate=False))  # some are shared between layers
    missing = set(loaded.missing_keys)
    given = {id(parameter) for name, parameter in named if name not in missing}
    absent = sorted(name for name, parameter in named if parameter.requires_grad and id(parameter) not in given)
    beyond = sorted(loaded.unexpected_keys)
    if absent or beyond:
        what = (
            f"lacks {len(absent)} of its weights" if absent else f"holds {len(beyond)} weights that have no place there"
        )
        raise BadInput(
            f"{folder}: this adapter does not fit the model: it {what}, {(absent or beyond)[0]} among them; name the base model "
            "that it was trained on, or restore its files"
        )
    for name, parameter in named:  # peft would save what is learned next without such weights
        frozen = id(parameter) in of_base & given and not parameter.requires_grad
        if frozen and not torch.equal(parameter, before.get(id(parameter), torch.empty(0))):
            raise BadInput(
                f"{folder}: this adapter replaces weights of its base model that it does not train, {name} among them; merge it "
                "into the model (merge_and_unload), and save that"
            )
    return model


def _refuse_unknown(config: Any, folder: Path) -> None:
    if config.is_prompt_learning:
        raise BadInput(
            f"{folder}: a {config.peft_type.value} adapter, which puts vectors of its own before every prompt; only adapters of "
            "weights, such as LoRA, are supported"
        )
    fields = {field.name for field in dataclasses.fields(config)}
    unknown = sorted(name for name, value in adapter_settings(folder).items() if value and name not in fields)
    if unknown:
        raise BadInput(
            f"{folder / ADAPTER_CONFIG}: sets {visible(', '.join(unknown), 200)}, which peft {peft.__version__} does not know and would "
            "leave out; install a newer peft"
        )
