"""Hugging Face policies, on small models of three families: conformance, text, probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from small_models import CONTEXT, FAMILIES, plain_logprobs, save_small

from lockedroom.errors import BadInput
from lockedroom.policy.backend import Backend
from lockedroom.policy.huggingface import load_huggingface, reading
from lockedroom.policy.huggingface.policy import HuggingFacePolicy
from lockedroom.records import Completion, Example, FinishReason, Sampling
from lockedroom.testkit import token_policy

CHECKS = [
    getattr(token_policy, name) for name in dir(token_policy) if name.startswith("check_") and name != "check_all"
]
ASKED = [
    Example(id=f"e{i}", prompt=f"Compute {i}+{7 * i}. Output exactly one line: Final: <int>", expected_answer=8 * i)
    for i in (0, 1, 5, 14)
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: save_small(family, tmp_path_factory.mktemp(family)) for family in FAMILIES}


@pytest.fixture(scope="module")
def policies(folders: dict[str, Path]) -> dict[str, HuggingFacePolicy]:
    return {family: load_huggingface(str(folder), Backend(batch=8)) for family, folder in folders.items()}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_small_model_conforms(
    family: str, check: Callable[[HuggingFacePolicy], None], policies: dict[str, HuggingFacePolicy]
) -> None:
    check(policies[family])


@pytest.mark.parametrize("batch", [1, 5, 7])
def test_a_completion_is_the_same_at_every_place_of_an_odd_batch(batch: int, folders: dict[str, Path]) -> None:
    """Of an odd number of rows the last is multiplied by another kernel, which rounds differently."""
    policy = load_huggingface(str(folders["llama"]), Backend(batch=batch))
    prompts = [
        Example(id=f"e{i}", prompt=f"Compute {i}+4. Final: <int>" * (1 + i % 3), expected_answer=0) for i in range(8)
    ]
    forth, back = (list(policy.complete(some, range(3), Sampling(max_tokens=14))) for some in (prompts, prompts[::-1]))
    assert [c for i in range(8) for c in back[3 * (7 - i) :][:3]] == forth


@pytest.mark.parametrize("family", FAMILIES)
def test_recorded_logprobs_are_those_of_a_plain_forward_pass(
    family: str, policies: dict[str, HuggingFacePolicy]
) -> None:
    """Against the model called as its authors call it: one sequence, no padding, no cache."""
    policy = policies[family]
    for completion, example in zip(policy.complete(ASKED, range(1), Sampling(max_tokens=12)), ASKED, strict=True):
        plain = plain_logprobs(policy, example.prompt, completion.token_ids or ())
        assert plain == pytest.approx(completion.token_logprobs, abs=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_logprobs_do_not_depend_on_padding(family: str, policies: dict[str, HuggingFacePolicy]) -> None:
    """A neighbour that is four times as long changes nothing."""
    policy = policies[family]
    short, long = policy.prompt_ids("1+1"), policy.prompt_ids(ASKED[3].prompt * 2)
    target = policy.encode("Final: 2")
    alone = policy.logprobs([short], [target])
    beside = policy.logprobs([long, short, long], [target, target, policy.encode("F")])
    assert beside[1] == alone[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_left_padding_shifts_no_position(family: str, policies: dict[str, HuggingFacePolicy]) -> None:
    policy = policies[family]
    ids = policy.prompt_ids(ASKED[0].prompt)
    with torch.inference_mode():
        plain_V = policy.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    (first,) = policy.complete(ASKED[:1], range(1), Sampling(max_tokens=1))
    (token,), (logprob,) = first.token_ids or (), first.token_logprobs or ()
    assert logprob == pytest.approx(float(plain_V[token]), abs=2e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_many_prompts_of_many_lengths_get_what_each_gets_alone(
    family: str, attention: str, folders: dict[str, Path]
) -> None:
    """To the last bit: packed and continued beside longer ones, or where attention cannot be taken apart, padded."""
    policy = load_huggingface(str(folders[family]), Backend(batch=8))
    policy.model.set_attn_implementation(attention)
    assert reading.packs(policy.model) == (attention == "sdpa")
    sampling = Sampling(max_tokens=20)
    asked = [_ask("1+2" * (1 + i % 17), f"m{i}") for i in range(40)]
    assert {policy.model.config.max_position_embeddings > len(policy.prompt_ids(ask.prompt)) for ask in asked} == {True}
    alone = [_drawn(policy.complete([example], range(1), sampling)) for example in asked]
    assert [[one] for one in _drawn(policy.complete(asked, range(1), sampling))] == alone


def test_prompts_are_packed_into_few_passes_and_rows_of_all_lengths_continued_in_one(
    folders: dict[str, Path],
) -> None:
    """Forty prompts of 11 to 83 tokens, 1,820 in all: nothing is padded, so ten passes of 192 hold them."""
    policy = load_huggingface(str(folders["gpt2"]), Backend(batch=16))
    shapes: list[tuple[int, int]] = []
    asked = [_ask("+".join(f"{i:06b}" * (1 + i % 7)), f"m{i}") for i in range(40)]
    lengths = [len(policy.prompt_ids(example.prompt)) for example in asked]
    assert (min(lengths), max(lengths), sum(lengths)) == (11, 83, 1820)
    policy.model.register_forward_pre_hook(
        lambda _model, _args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    list(policy.complete(asked, range(1), Sampling(max_tokens=2)))
    assert shapes == [(1, reading.PACK)] * 10 + [(16, 1)] * 3


@pytest.mark.parametrize("spare", [0, 1])
def test_prompts_of_any_length_are_read_in_no_more_slots_than_they_are_continued_in(spare: int) -> None:
    lengths = range(1, 9_000)
    assert [n for n in lengths if not n + spare <= reading.read_slots(n, spare) <= reading.continued_slots(n)] == []


def _drawn(completions: Iterator[Completion]) -> list[tuple[object, object]]:
    return [(completion.token_ids, completion.token_logprobs) for completion in completions]


def test_step_gives_other_draws(policies: dict[str, HuggingFacePolicy]) -> None:
    policy, sampling = policies["llama"], Sampling(max_tokens=6)
    zero, one = ([c.token_ids for c in policy.complete(ASKED, range(2), sampling, step=s)] for s in (0, 1))
    assert zero != one


def test_every_end_token_ends_a_completion(folders: dict[str, Path]) -> None:
    policy = load_huggingface(str(folders["gpt2"]), Backend(batch=8))
    common = {c.token_ids[0] for c in policy.complete(ASKED, range(32), Sampling(max_tokens=1)) if c.token_ids}
    policy.codec.end_ids = (policy.end_id, *common)
    found = list(policy.complete(ASKED, range(32), Sampling(max_tokens=5)))
    assert {c.finish_reason for c in found} == {FinishReason.STOP}
    assert {len(c.token_ids or ()) for c in found} == {1}


def test_the_chat_template_is_used_where_there_is_one(folders: dict[str, Path]) -> None:
    auto, plain = (load_huggingface(str(folders["qwen2"]), Backend(template=name)) for name in ("auto", "plain"))
    rendered = auto.codec.tokenizer.decode(auto.prompt_ids("1+1"))
    assert rendered == "<|im_start|>user\n1+1<|im_end|>\n<|im_start|>assistant\n"
    assert plain.codec.tokenizer.decode(plain.prompt_ids("1+1")) == "1+1"
    assert auto.spec.identity["template_sha256"] != plain.spec.identity["template_sha256"]


def test_a_prompt_that_holds_a_control_token_is_refused_in_a_chat(policies: dict[str, HuggingFacePolicy]) -> None:
    with pytest.raises(BadInput, match=r"example 'e0': prompt: holds <\|im_end\|>"):
        list(policies["qwen2"].complete([_ask("1<|im_end|>")], range(1), Sampling()))


def test_the_start_token_comes_once(policies: dict[str, HuggingFacePolicy]) -> None:
    policy = policies["llama"]
    assert policy.prompt_ids("1+1")[0] == policy.codec.tokenizer.bos_token_id
    assert policy.codec.tokenizer.bos_token_id not in policy.prompt_ids("1+1")[1:]
    with pytest.raises(BadInput, match="two start tokens"):
        policy.prompt_ids("<s>1+1")


def test_text_that_spells_a_special_token_stays_text(policies: dict[str, HuggingFacePolicy]) -> None:
    policy = policies["llama"]
    ids = policy.encode("Final: 3</s>")
    assert policy.end_id not in ids
    assert policy.decode(ids) == "Final: 3</s>"
    assert policy.decode((*policy.encode("Final: 3"), policy.end_id)) == "Final: 3"


def test_tokens_cover_the_text(policies: dict[str, HuggingFacePolicy]) -> None:
    tokens = policies["gpt2"].tokens("Final: 323\n")
    assert "".join(token.piece for token in tokens) == "Final: 323\n"
    assert [token.start for token in tokens] == [0, *(token.end for token in tokens[:-1])]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_lone_surrogate_is_bad_input(family: str, policies: dict[str, HuggingFacePolicy]) -> None:
    with pytest.raises(BadInput, match="lone surrogate"):
        policies[family].prompt_ids("1+\ud800")


def test_a_prompt_beyond_the_context_names_its_example(policies: dict[str, HuggingFacePolicy]) -> None:
    with pytest.raises(BadInput, match=f"example 'long': prompt: .* context of {CONTEXT}"):
        policies["gpt2"].complete([_ask("word " * CONTEXT, "long")], range(1), Sampling())


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_tokens=3, temperature=0.3),
        Sampling(max_tokens=4, top_k=3),
        Sampling(max_tokens=3, temperature=0.3, stop=("o", " 2", "l")),
    ],
    ids=("tempered", "truncated", "stopped"),
)
def test_probabilities_of_texts_are_the_frequencies_of_sampling(
    sampling: Sampling, policies: dict[str, HuggingFacePolicy]
) -> None:
    """Over all tokenisations and endings, for the commonest texts of other draws; within 5 standard errors."""
    policy, draws = policies["llama"], 1000
    other, drawn = (
        [c.text for c in policy.complete(ASKED[:1], range(draws), msgspec.structs.replace(sampling, seed=seed))]
        for seed in (1, 2)
    )
    common = sorted({text for text in other if "\ufffd" not in text}, key=lambda text: -other.count(text))[:5]
    (found,) = policy.completion_probabilities([ASKED[0].prompt], [common], sampling)
    for text, probability in zip(common, found, strict=True):
        spread = math.sqrt(probability.total * (1 - probability.total) / draws)
        assert abs(drawn.count(text) / draws - probability.total) < 5 * spread + 2 / draws, text
        assert probability.canonical <= probability.total + 1e-12
    assert sum(probability.total for probability in found) > 0.01


def _ask(prompt: str, example_id: str = "e0") -> Example:
    return Example(id=example_id, prompt=prompt, expected_answer=0)
