"""What `hf:` names, and one message for each way in which it can be wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from small_models import save_small

from lockedroom.cli.main import main
from lockedroom.errors import BadInput
from lockedroom.policy.backend import Backend
from lockedroom.policy.huggingface import load_huggingface
from lockedroom.policy.huggingface.policy import HuggingFacePolicy
from lockedroom.records import Sampling


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
    with pytest.raises(BadInput, match=f"an adapter of {folder}, which is not there; restore"):
        load_huggingface(str(tmp_path / "adapter"), Backend())


def test_an_adapter_finds_its_base_from_any_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    load_huggingface(folder.name, Backend(lora=2)).save(tmp_path / "adapter", origin={})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_huggingface("../adapter", Backend()).spec.identity["adapter_sha256"]


def test_a_base_that_is_gone_is_not_looked_for_on_the_hub(folder: Path, tmp_path: Path) -> None:
    """Some base/model, saved with a path from a folder that is not this one, is spelled like an id of the hub."""
    load_huggingface(str(folder), Backend(lora=2)).save(tmp_path / "adapter", origin={})
    file = tmp_path / "adapter" / "lockedroom.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base": "base/model"}))
    with pytest.raises(BadInput, match="an adapter of base/model, which is not there; restore"):
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


def _without_tokenizer(folder: Path) -> None:
    drop(folder, "tokenizer.json")


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _cut_short(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def _untouched(_: Path) -> None:
    pass


REFUSED: list[tuple[Callable[[Path], object], tuple[str, ...], str]] = [
    (shutil.rmtree, (), "no such folder or file"),
    (_without_tokenizer, (), "holds no tokenizer"),
    (_pickled, (), "only safetensors are read"),
    (_cut_short, (), "its weights cannot be read"),
    (_untouched, ("--dtype", "float7"), "--dtype 'float7'"),
    (_untouched, ("--device", "abacus"), "--device 'abacus'"),
    (_untouched, ("--device", "cuda:7"), "--device 'cuda:7'"),
    (_untouched, ("--template", "chat"), "has no chat template"),
    (_untouched, ("--adapter", "nowhere"), "no adapter_config.json there"),
    (_untouched, ("--batch", "0"), "--batch 0"),
    (_untouched, ("--max-tokens", "1000"), "context of 112"),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: " ".join((case[0].__name__.strip("_"), *case[1])))
@pytest.mark.parametrize("as_json", [False, True], ids=("plain", "json"))
def test_evaluate_refuses_what_it_cannot_open_in_one_line(
    case: tuple[Callable[[Path], object], tuple[str, ...], str],
    as_json: bool,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    harm, flags, said = case
    harm(folder)
    dataset = tmp_path / "asked.jsonl"
    dataset.write_text('{"id": "a", "prompt": "Compute 1+1.", "expected_answer": 2}\n')
    command = [
        "evaluate",
        "--policy",
        f"hf:{folder}",
        "--dataset",
        str(dataset),
        "--out",
        str(tmp_path / "run"),
        *flags,
    ]
    assert main([*command, "--json"] if as_json else command) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert said in err


def test_a_hub_that_does_not_answer_is_asked_once(tmp_path: Path) -> None:
    """A real server that is always unavailable; transformers alone would ask it for file after file, again and again."""
    asked: list[str] = []

    class Unavailable(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(503)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Unavailable) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = _ask_hub(f"http://127.0.0.1:{server.server_port}", tmp_path)
        server.shutdown()
    assert done.returncode == 2
    assert "hf:some/model: no such folder, and the hub cannot be asked (" in done.stderr
    assert "HF_HUB_OFFLINE=1" in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path for path in asked if "some/model" in path] == ["/api/models/some/model"]


def test_offline_the_hub_is_not_asked_and_what_is_not_cached_is_named(tmp_path: Path) -> None:
    done = _ask_hub("http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert "hf:some/model: its tokenizer cannot be read" in done.stderr
    assert done.stderr.count("\n") == 1


def _ask_hub(endpoint: str, cache: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0"} | settings
    command = [sys.executable, "-m", "lockedroom", "tokens", "a", "--policy", "hf:some/model"]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_a_policy_is_the_same_wherever_its_folder_lies(folder: Path, tmp_path: Path) -> None:
    before = load_huggingface(str(folder), Backend()).spec
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.move(folder, tmp_path / "elsewhere")
    assert load_huggingface(str(moved), Backend()).spec == before


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


def test_weights_that_do_not_fit_the_configuration_are_named_with_both_sizes(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 96}))
    with pytest.raises(
        BadInput, match=r"do not fit its config\.json: model\.layers\.0\.mlp\.\w+\.weight is .*48.* in the file"
    ):
        load_huggingface(str(folder), Backend())


def test_code_in_a_folder_is_not_run_and_the_flag_that_would_run_it_is_named(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    own = {"model_type": "zork", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config | own))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    with pytest.raises(BadInput, match="read that code, and give --trust-remote-code to run it"):
        load_huggingface(str(folder), Backend())
    assert not (tmp_path / "ran").exists()


def test_a_token_that_the_tokenizer_has_and_the_model_not_is_named(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    beyond = len(tokenizer)
    tokenizer.add_tokens(["zork"])
    tokenizer.save_pretrained(folder)
    policy = load_huggingface(str(folder), Backend())
    with pytest.raises(
        BadInput, match=rf"example 'e': prompt: holds the token zork \(id {beyond}\), which the tokenizer has"
    ):
        policy.prompt_ids("a zork", "e")
    with pytest.raises(BadInput, match="holds the token zork"):
        policy.logprobs([policy.prompt_ids("a")], [policy.encode("zork")])
    (found,) = policy.completion_probabilities(["a"], [["a"]], Sampling(max_tokens=3))
    assert found[0].total > 0


@pytest.fixture
def chatting(tmp_path: Path) -> Callable[[str], HuggingFacePolicy]:
    def opened(template: str) -> HuggingFacePolicy:
        folder = save_small("qwen2", tmp_path / "chatting")
        (folder / "chat_template.jinja").write_text(template)
        return load_huggingface(str(folder), Backend())

    return opened


def test_a_template_that_asks_for_the_day_is_told_the_same_one_always(
    chatting: Callable[[str], HuggingFacePolicy],
) -> None:
    policy = chatting(
        "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% endif %}: {{ messages[0].content }}"
    )
    assert policy.decode(policy.prompt_ids("1+1")) == "01 Jan 2026: 1+1"
    assert policy.spec.identity["template_day"] == "2026-01-01"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ 'hello' }}", "renders it without its text, as hello"),
        ("{{ messages + 1 }}", "cannot render it: can only concatenate list"),
        ("{{ raise_exception('no users') }}", "cannot render it: no users"),
        ("{% for", "cannot render it: unexpected 'end"),
    ],
)
def test_a_template_that_cannot_show_a_prompt_is_refused(
    template: str, said: str, chatting: Callable[[str], HuggingFacePolicy]
) -> None:
    with pytest.raises(BadInput, match=f"the chat template of .*{said}"):
        chatting(template).prompt_ids("1+1")


def test_a_new_adapter_on_an_adapter_is_refused_instead_of_left_out(small: Path, tmp_path: Path) -> None:
    made = load_huggingface(str(small), Backend(lora=2))
    made.save(tmp_path / "adapter", origin={})
    assert load_huggingface(str(tmp_path / "adapter"), Backend(lora=2)).spec.identity["adapter_sha256"]
    with pytest.raises(
        BadInput, match=r"--lora 4: .*adapter is an adapter already \(of rank 2\), and learning goes on"
    ):
        load_huggingface(str(tmp_path / "adapter"), Backend(lora=4))
    with pytest.raises(BadInput, match="--lora 4: "):
        load_huggingface(str(small), Backend(lora=4, adapter=str(tmp_path / "adapter")))


def test_a_torn_adapter_is_named_by_its_own_folder(small: Path, tmp_path: Path) -> None:
    load_huggingface(str(small), Backend(lora=2)).save(tmp_path / "adapter", origin={})
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:300])
    with pytest.raises(BadInput, match=rf"its adapter cannot be read: .*; check {tmp_path / 'adapter'}$"):
        load_huggingface(str(small), Backend(adapter=str(tmp_path / "adapter")))
