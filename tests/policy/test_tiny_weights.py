"""Weights files: the hash that was shipped, or a refusal."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from lockedroom.errors import BadInput
from lockedroom.policy.tiny import load_tiny
from lockedroom.policy.tiny.tokenizer import TokenizerFile
from lockedroom.policy.tiny.weights import FOLDER, SHIPPED, load_shipped, load_weights, save_weights

TOKENIZER = TokenizerFile("ab", (("a", "b"),))
CONFIG = {"vocabulary": 4, "context": 8, "width": 4, "layers": 1, "heads": 1, "feed_forward": 8}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_weights(
        path,
        {"wte": np.arange(12, dtype=np.float32).reshape(3, 4)},
        config=CONFIG,
        tokenizer=TOKENIZER,
        origin={"made": "by a test"},
    )
    return path


def edit_header(path: Path, **changes: object) -> None:
    """Change entries of the lab's header document, leaving the tensor bytes as they are."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    head = json.loads(raw[8 : 8 + length])
    document = json.loads(head["__metadata__"]["lockedroom"]) | changes
    head["__metadata__"]["lockedroom"] = json.dumps(document)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


@pytest.mark.parametrize("variant", SHIPPED)
def test_a_shipped_file_has_its_hash_and_is_small(variant: str) -> None:
    weights = load_shipped(variant)

    assert weights.sha256 == SHIPPED[variant]
    assert (FOLDER / f"{variant}.safetensors").stat().st_size <= 1_000_000
    assert weights.header.origin["variant"] == variant


def test_what_was_saved_is_loaded(saved: Path) -> None:
    weights = load_weights(saved)

    assert weights.header.tokenizer == TOKENIZER
    assert weights.header.config == CONFIG
    assert weights.header.origin == {"made": "by a test"}
    assert weights.tensors["wte"].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_saving_twice_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    weights = load_weights(saved)
    again = tmp_path / "again.safetensors"

    save_weights(again, weights.tensors, config=CONFIG, tokenizer=TOKENIZER, origin={"made": "by a test"})

    assert again.read_bytes() == saved.read_bytes()


def test_one_flipped_bit_of_a_tensor_is_refused(saved: Path) -> None:
    raw = bytearray(saved.read_bytes())
    raw[-3] ^= 1
    saved.write_bytes(raw)

    with pytest.raises(BadInput, match="corrupted: the tensors do not match the sha256"):
        load_weights(saved)


def test_a_shipped_file_that_was_changed_is_refused(saved: Path) -> None:
    with pytest.raises(BadInput, match=r"corrupted: sha256 is .* was shipped; reinstall lockedroom"):
        load_weights(saved, expected_sha256=SHIPPED["tiny"])


def test_another_format_version_is_refused(saved: Path) -> None:
    edit_header(saved, format=2)

    with pytest.raises(BadInput, match="have format version 2, this lockedroom reads version 1"):
        load_weights(saved)


def test_a_damaged_header_is_refused(saved: Path) -> None:
    edit_header(saved, config={"width": "wide"})

    with pytest.raises(BadInput, match="header is damaged"):
        load_weights(saved)


def test_an_unknown_header_entry_is_refused(saved: Path) -> None:
    edit_header(saved, quantised=True)

    with pytest.raises(BadInput, match=r"header is damaged.*quantised"):
        load_weights(saved)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"short",
        b"\xff" * 64,
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 22) + b'{"__metadata__": null}',
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 36) + b'{"__metadata__": {"lockedroom": "x"}}',
    ],
)
def test_a_file_that_is_no_weights_file_is_refused(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(raw)

    with pytest.raises(BadInput, match="not weights that lockedroom wrote"):
        load_weights(path)


def test_a_file_that_was_cut_short_is_refused(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-4])

    with pytest.raises(BadInput, match="corrupted"):
        load_weights(saved)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, {"wte": np.array([1, np.nan], dtype=np.float32)}, config=CONFIG, tokenizer=TOKENIZER, origin={})

    with pytest.raises(BadInput, match="wte holds values that are not finite"):
        load_weights(path)


def test_tensors_that_do_not_fit_the_shape_are_refused(saved: Path) -> None:
    with pytest.raises(BadInput, match="tensors do not fit the shape in the header"):
        load_tiny(saved)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nothing.safetensors: cannot be read: No such file"):
        load_tiny(tmp_path / "nothing.safetensors")


def test_an_unknown_variant_lists_those_there_are() -> None:
    with pytest.raises(BadInput, match="no embedded model is named 'huge'; there are tiny, tiny-weak, tiny-hedge"):
        load_tiny("huge")


def test_a_thread_count_below_one_is_refused() -> None:
    with pytest.raises(BadInput, match="threads: 0"):
        load_tiny(threads=0)


def test_a_policy_that_was_saved_is_the_same_policy(tmp_path: Path) -> None:
    from lockedroom.records import Sampling
    from lockedroom.testkit.token_policy import PROMPTS

    policy = load_tiny("tiny-weak")
    policy.save(tmp_path / "copy.safetensors", origin={"copied": True})
    copy = load_tiny(tmp_path / "copy.safetensors")

    assert list(copy.complete(PROMPTS, range(4), Sampling())) == list(policy.complete(PROMPTS, range(4), Sampling()))
    assert copy.spec.identity["weights_sha256"] != policy.spec.identity["weights_sha256"]  # the origin is in the file
