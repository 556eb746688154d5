"""What a person declares about recorded completions."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from lockedroom.errors import BadInput
from lockedroom.policy.declared import UNDECLARED, read_declared


def _sidecar(folder: Path, text: str | bytes) -> Path:
    raw = text if isinstance(text, bytes) else text.encode()
    (folder / "answers.meta.toml").write_bytes(raw)
    return folder / "answers.jsonl"


def test_what_nobody_declared_is_undeclared(tmp_path: Path) -> None:
    declared = read_declared(tmp_path / "answers.jsonl")
    assert set(declared.sampling.values()) | set(declared.prompts.values()) == {UNDECLARED}
    assert set(declared.sampling) == {"temperature", "top_k", "top_p", "max_tokens", "stop", "seed_scheme"}
    assert declared.policy == {}


def test_the_sidecar_is_read_and_a_declaration_wins_over_it(tmp_path: Path) -> None:
    path = _sidecar(tmp_path, '[policy]\nmodel = "m"\n[sampling]\ntemperature = 0.5\ntop_k = 40\n')
    declared = read_declared(path, ["sampling.temperature=0.8", "prompts.template={prompt}"])
    assert (declared.sampling["temperature"], declared.sampling["top_k"]) == (0.8, 40)
    assert declared.prompts["template"] == "{prompt}"
    assert declared.policy == {"model": "m"}


def test_the_number_of_draws_is_counted_not_believed(tmp_path: Path) -> None:
    assert "draws" not in read_declared(_sidecar(tmp_path, "[sampling]\ndraws = 99\n")).sampling


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("sampling.temperature=0.8", 0.8),
        ("sampling.temperature=1e-5", 1e-05),
        ("sampling.temperature = 1", 1),
        ("sampling.temperature='0.8'", "0.8"),
        ('sampling.temperature=["a", "b"]', ["a", "b"]),
        ("sampling.temperature=true", True),
        ("sampling.temperature=unknown to me", "unknown to me"),
        ("sampling.temperature=a=b", "a=b"),
        ("sampling.temperature=2024-01-01", "2024-01-01"),
        ("sampling.temperature=2024-01-01 10:00:00", "2024-01-01T10:00:00"),
        ("sampling.temperature=1\nother = 2", "1\nother = 2"),
    ],
)
def test_a_declared_value_is_toml_or_else_text(tmp_path: Path, text: str, value: object) -> None:
    found = read_declared(tmp_path / "a.jsonl", [text]).sampling["temperature"]
    assert found == value
    assert msgspec.json.decode(msgspec.json.encode(found)) == found


@pytest.mark.parametrize(
    "text", ["", "temperature=0.8", "sampling=0.8", "sampling.=0.8", "colour.temperature=1", "sampling.temperature",
             "sampling.temperature=", "sampling.temperature=  "]
)  # fmt: skip
def test_a_declaration_of_another_form_is_refused_with_the_right_form(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInput, match=r"SECTION\.KEY=VALUE"):
        read_declared(tmp_path / "a.jsonl", [text])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sampling\n", "not TOML"),
        (b"\xff", "not TOML"),
        ("[colours]\n", "unknown entry 'colours'"),
        ("sampling = 1\n", "unknown entry 'sampling'"),
        ("[sampling]\ntemperature = nan\n", "finite number"),
        ("[policy]\nx = {y = [inf]}\n", "finite number"),
    ],
)
def test_a_sidecar_that_cannot_be_used_is_named(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        read_declared(_sidecar(tmp_path, text))
    assert "answers.meta.toml" in str(caught.value)


def test_a_folder_in_place_of_the_sidecar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "answers.meta.toml").mkdir()
    with pytest.raises(BadInput, match="a folder"):
        read_declared(tmp_path / "answers.jsonl")
