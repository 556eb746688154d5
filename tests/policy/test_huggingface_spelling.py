"""Exact probabilities for every kind of tokenizer that decodes token by token, against every completion there is."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lockedroom.errors import BadInput
from lockedroom.policy.backend import Backend
from lockedroom.policy.huggingface import load_huggingface
from lockedroom.policy.huggingface.policy import HuggingFacePolicy
from lockedroom.policy.tiny.sample import first_stop
from lockedroom.records import Sampling

SPECIALS = ("<unk>", "<s>", "</s>")
PIECES = ("▁", "a", "b", "▁a", "▁▁", "ab", "b▁", "<0x0A>", "<0x20>", "<0xC3>", "<0xA9>", "<0x61>")
UNDERLINE = decoders.Replace("▁", " ")
KINDS = {
    "llama-2": decoders.Sequence([UNDERLINE, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]),
    "gemma": decoders.Sequence([UNDERLINE, decoders.ByteFallback(), decoders.Fuse()]),
    "t5": decoders.Metaspace(prepend_scheme="always"),
    "never": decoders.Metaspace(prepend_scheme="never"),
}
PROMPT, LIMIT = "ab", 3


def save(folder: Path, decoder: Any) -> Path:
    """A model of a dozen tokens, whose probabilities are far from even."""
    raw = Tokenizer(models.BPE({piece: i for i, piece in enumerate((*SPECIALS, *PIECES))}, [("a", "b"), ("▁", "a")],
                               unk_token="<unk>", byte_fallback=True))  # fmt: skip
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.decoder = decoder
    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=raw, unk_token="<unk>", bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    torch.manual_seed(1)
    config: Any = LlamaConfig
    shape = config(vocab_size=len(SPECIALS) + len(PIECES), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                   num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64, initializer_range=0.7,
                   eos_token_id=2, bos_token_id=1)  # fmt: skip
    LlamaForCausalLM(shape).save_pretrained(folder)
    return folder


def opened(folder: Path, decoder: Any) -> HuggingFacePolicy:
    return load_huggingface(str(save(folder, decoder)), Backend(batch=8))


def completions(policy: HuggingFacePolicy, stops: tuple[str, ...]) -> Iterator[tuple[tuple[int, ...], str, bool]]:
    """Yield every completion without <unk> and <s>: its tokens, its text, and whether it was cut by the limit."""
    end = policy.end_id
    waiting: list[tuple[int, ...]] = [()]
    while waiting:
        path = waiting.pop()
        for token in range(end, len(SPECIALS) + len(PIECES)):
            ids = (*path, token)
            text = policy.decode(ids)
            whole = text if token == end or len(ids) == LIMIT else text.rstrip("\ufffd")
            cut = first_stop(whole, stops)
            if cut is not None or token == end or len(ids) == LIMIT:
                yield ids, text[:cut], cut is None and token != end
            else:
                waiting.append(ids)


@pytest.mark.parametrize("stops", [(), ("\n",), ("b", " a")], ids=("no stop", "newline", "two stops"))
@pytest.mark.parametrize("kind", KINDS)
def test_a_texts_probability_is_the_sum_over_all_completions_that_have_it(
    kind: str, stops: tuple[str, ...], tmp_path: Path
) -> None:
    policy = opened(tmp_path, KINDS[kind])
    every = list(completions(policy, stops))
    sampling = Sampling(max_tokens=LIMIT, stop=stops)
    logs = policy.logprobs([policy.prompt_ids(PROMPT)] * len(every), [ids for ids, _, _ in every], sampling)
    total: dict[str, float] = defaultdict(float)
    truncated: dict[str, float] = defaultdict(float)
    for (_, text, cut), log in zip(every, logs, strict=True):
        total[text] += math.exp(sum(log))
        truncated[text] += cut * math.exp(sum(log))
    texts = sorted(text for text in total if "\ufffd" not in text)
    assert {"", "a", *("é" for _ in range(kind in ("llama-2", "gemma")))} <= {*texts}
    (found,) = policy.completion_probabilities([PROMPT], [texts], sampling)
    for text, one in zip(texts, found, strict=True):
        assert one.total == pytest.approx(total[text], rel=1e-4), text
        assert one.truncated == pytest.approx(truncated[text], rel=1e-4, abs=1e-5 * total[text]), text
        assert one.canonical <= one.total * (1 + 1e-9)


def test_what_is_left_out_is_little_of_the_text_and_not_of_another(tmp_path: Path) -> None:
    """The canonical tokens may spell another text, be too many, or be ones after which nothing ends: texts were given 0."""
    policy = opened(tmp_path, KINDS["never"])
    head = policy.model.lm_head.weight
    with torch.no_grad():
        head.copy_(torch.randn(head.shape, generator=torch.Generator().manual_seed(1)) * 0.5)
    every = list(completions(policy, ()))
    sampling = Sampling(max_tokens=LIMIT)
    logs = policy.logprobs([policy.prompt_ids(PROMPT)] * len(every), [ids for ids, _, _ in every], sampling)
    total: dict[str, float] = defaultdict(float)
    for (_, text, _), log in zip(every, logs, strict=True):
        total[text] += math.exp(sum(log))
    texts = sorted(text for text in total if "\ufffd" not in text and total[text] > 1e-12)
    (found,) = policy.completion_probabilities([PROMPT], [texts], sampling)
    for text, one in zip(texts, found, strict=True):
        assert one.total == pytest.approx(total[text], rel=1e-4, abs=0), text


def test_the_first_space_that_a_tokenizer_drops_is_no_other_text(tmp_path: Path) -> None:
    """`▁a` and `a` begin the same text, and so they do where an end token follows a lone `▁`."""
    policy = opened(tmp_path, KINDS["llama-2"])
    spelled = policy.decode([4]), policy.decode([6]), policy.decode([3])
    assert spelled == ("a", "a", "")
    (one,) = policy.completion_probabilities([PROMPT], [["a"]], Sampling(max_tokens=LIMIT))[0:1]
    assert one[0].total > one[0].canonical > 0


@pytest.mark.parametrize(
    ("decoder", "named"),
    [
        (decoders.WordPiece(), "WordPiece"),
        (decoders.Sequence([UNDERLINE, decoders.Strip(" ", 1, 0)]), r"Replace\+Strip"),
        (decoders.Sequence([UNDERLINE, decoders.Fuse(), decoders.Strip(" ", 2, 0)]), r"Replace\+Fuse\+Strip"),
        (decoders.Sequence([decoders.Replace(Regex("▁+"), " "), decoders.Fuse()]), r"Replace\+Fuse"),
        (decoders.CTC(), "CTC"),
    ],
    ids=("wordpiece", "strip each", "strip two", "pattern", "ctc"),
)
def test_a_tokenizer_that_decodes_otherwise_is_refused(decoder: Any, named: str, tmp_path: Path) -> None:
    policy = opened(tmp_path, decoder)
    with pytest.raises(BadInput, match=f"decodes by {named}, so the tokenisations of a text cannot be listed"):
        policy.completion_probabilities([PROMPT], [["a"]], Sampling(max_tokens=LIMIT))


def test_a_reading_that_the_tokenizer_does_not_share_is_refused(tmp_path: Path) -> None:
    """Its decoder says `Metaspace` and the tokenizer decodes something else: nothing is summed on a guess."""
    policy = opened(tmp_path, KINDS["t5"])
    shown = policy.codec.tokenizer.decode

    policy.codec.tokenizer.decode = lambda ids, **more: shown(ids, **more).replace("ba", "BA")
    with pytest.raises(BadInput, match="decodes otherwise than token by token"):
        policy.completion_probabilities([PROMPT], [["a"]], Sampling(max_tokens=LIMIT))


@pytest.mark.parametrize("kind", ["llama-2", "t5"])
def test_tokens_show_what_each_adds_to_the_text(kind: str, tmp_path: Path) -> None:
    """The space that the tokenizer puts in front, and drops again, is part of no piece."""
    tokens = opened(tmp_path, KINDS[kind]).tokens("b a")
    assert "".join(token.piece for token in tokens) == "b a"
    assert (tokens[0].piece, tokens[0].end) == ("", 0)
    assert [token.start for token in tokens] == [0, *(token.end for token in tokens[:-1])]
