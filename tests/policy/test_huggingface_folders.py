"""What `hf:` names, and one message for each way in which it can be wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_models import save_small

from lockedroom.cli.main import main
from lockedroom.errors import BadInput
from lockedroom.policy.backend import Backend
from lockedroom.policy.huggingface import load_huggingface


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small("llama", tmp_path_factory.mktemp("small"))


@pytest.fixture
def folder(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "model"))


def drop(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such folder or file"):
        load_huggingface(str(tmp_path / "nothing"), Backend())


def test_a_folder_without_config_is_no_model(folder: Path) -> None:
    drop(folder, "config.json")
    with pytest.raises(BadInput, match=r"has no config\.json"):
        load_huggingface(str(folder), Backend())


def test_a_folder_without_tokenizer_is_refused(folder: Path) -> None:
    drop(folder, "tokenizer.json")
    with pytest.raises(BadInput, match="holds no tokenizer"):
        load_huggingface(str(folder), Backend())


def test_pickled_weights_are_refused_and_never_opened(folder: Path) -> None:
    drop(folder, "model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"cposix\nsystem\n(S'touch opened'\ntR.")
    with pytest.raises(BadInput, match=r"holds pytorch_model\.bin but no \.safetensors"):
        load_huggingface(str(folder), Backend())


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.safetensors", b"\x08\0\0\0\0\0\0\0notjson!", "its weights cannot be read"),
        ("model.safetensors", b"", "its weights cannot be read"),
        ("tokenizer.json", b"{", "its tokenizer cannot be read"),
        ("config.json", b"{", "cannot be read"),
        ("config.json", b'{"model_type": "no-such-model"}', "cannot be read"),
    ],
)
def test_a_damaged_file_is_one_message(file: str, content: bytes, message: str, folder: Path) -> None:
    (folder / file).write_bytes(content)
    with pytest.raises(BadInput, match=message):
        load_huggingface(str(folder), Backend())


def test_weights_that_lack_a_tensor_are_refused(folder: Path) -> None:
    """transformers would fill it with random numbers, and only say so in a log."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match=r"lack.*model\.layers\.1\.mlp\.up_proj\.weight"):
        load_huggingface(str(folder), Backend())


def test_code_in_a_folder_is_not_run_unasked(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    with pytest.raises(BadInput, match="cannot be read"):
        load_huggingface(str(folder), Backend())
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        (Backend(dtype="float8"), "--dtype 'float8': use float32"),
        (Backend(device="abacus"), "--device 'abacus'"),
        (Backend(device="cuda:7"), "--device 'cuda:7'"),
        (Backend(device="meta"), "--device 'meta'"),
        (Backend(template="fancy"), "--template 'fancy'"),
        (Backend(template="chat"), "has no chat template"),
        (Backend(batch=0), "--batch 0"),
        (Backend(lora=-1), "--lora -1"),
        (Backend(adapter="nowhere"), "no adapter_config.json there"),
    ],
)
def test_unknown_settings_are_named(backend: Backend, message: str, small: Path) -> None:
    with pytest.raises(BadInput, match=message):
        load_huggingface(str(small), backend)


def test_an_adapter_of_other_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    load_huggingface(str(folder), Backend(lora=2)).save(tmp_path / "adapter", origin={})
    changed = load_huggingface(str(folder), Backend())
    with torch.no_grad():
        changed.parameters()[0].add_(1.0)
    shutil.rmtree(folder)
    changed.save(folder, origin={})
    with pytest.raises(BadInput, match="was trained on weights"):
        load_huggingface(str(tmp_path / "adapter"), Backend())


def test_an_adapter_without_its_base_says_which_it_was(folder: Path, tmp_path: Path) -> None:
    load_huggingface(str(folder), Backend(lora=2)).save(tmp_path / "adapter", origin={})
    shutil.rmtree(folder)
    with pytest.raises(BadInput, match=f"an adapter of {folder}, which cannot be used"):
        load_huggingface(str(tmp_path / "adapter"), Backend())


def test_the_identity_pins_weights_tokenizer_template_and_engine(small: Path) -> None:
    identity = load_huggingface(str(small), Backend()).spec.identity
    assert {"weights_sha256", "tokenizer_sha256", "template_sha256", "transformers", "tokenizers", "torch", "dtype", "device",
            "batch", "threads", "attention"} <= set(identity)  # fmt: skip


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_other_dtypes_sample(dtype: str, small: Path) -> None:
    from lockedroom.records import Example, Sampling

    policy = load_huggingface(str(small), Backend(dtype=dtype, batch=4))
    (drawn,) = policy.complete([Example(id="a", prompt="1+1", expected_answer=2)], range(1), Sampling(max_tokens=4))
    assert drawn.token_logprobs
    assert policy.model.dtype == getattr(torch, dtype)


def test_the_command_line_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokens", "a", "--policy", f"hf:{tmp_path}/nothing"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_without_transformers_the_extra_is_named(small: Path) -> None:
    """In a process where transformers cannot be imported."""
    code = (
        "import sys; sys.modules['transformers'] = None; from lockedroom.cli.main import main;"
        f"sys.exit(main(['tokens', 'a', '--policy', {f'hf:{small}'!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'lockedroom[hf]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from lockedroom.cli.main import build_parser; build_parser();"
        "sys.exit(bool({'torch', 'transformers', 'peft', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
