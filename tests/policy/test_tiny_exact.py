"""Exact text probabilities against brute force: every token path of a micro-model, listed."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import pytest
import torch

from lockedroom.errors import BadInput
from lockedroom.policy.tiny import load_tiny
from lockedroom.policy.tiny.exact import build_trie, completion_probabilities
from lockedroom.policy.tiny.policy import TinyPolicy
from lockedroom.policy.tiny.sample import first_stop, sampled_logprobs
from lockedroom.policy.tiny.tokenizer import END
from lockedroom.records import Sampling
from lockedroom.testkit.micro_model import micro_policy
from lockedroom.testkit.token_policy import PROMPTS

MERGES = (("a", "b"), ("ab", "a"), ("b", "b"))
POLICY = micro_policy("ab", MERGES)
SETTINGS = [
    Sampling(max_tokens=4),
    Sampling(max_tokens=1),
    Sampling(max_tokens=4, temperature=0.6),
    Sampling(max_tokens=4, top_k=3),
    Sampling(max_tokens=4, top_p=0.8, temperature=1.3),
    Sampling(max_tokens=4, temperature=0.0),
    Sampling(max_tokens=4, stop=("ba",)),
    Sampling(max_tokens=3, stop=("bb", "a")),
    Sampling(max_tokens=4, stop=("aba",), top_k=3),
]


def brute_force(policy: TinyPolicy, prompt: str, sampling: Sampling) -> dict[str, tuple[float, float, float]]:
    """Follow every token path of the sampler's rules and add up (total, canonical, truncated) per returned text."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    start = policy.prompt_ids(prompt)
    assert sampling.max_tokens is not None

    def follow(path: tuple[int, ...], probability: float) -> None:
        logits = policy.model(torch.tensor([[*start, *path]]))[0, -1:].detach()
        for token, logprob in enumerate(sampled_logprobs(logits, sampling)[0].tolist()):
            p, longer = probability * math.exp(logprob), (*path, token)
            text = policy.decode(longer)
            cut = first_stop(text, sampling.stop)
            over = token == END or cut is not None
            if over or len(longer) == sampling.max_tokens:
                ids = tuple(i for i in longer if i != END)
                shares = (p, p * (policy.encode(text) == ids), p * (not over))
                for i, share in enumerate(shares):
                    sums[text[:cut]][i] += share
            elif p > 0:
                follow(longer, p)

    follow((), 1.0)
    return {text: (total, canonical, truncated) for text, (total, canonical, truncated) in sums.items()}


@pytest.mark.parametrize("sampling", SETTINGS, ids=str)
@pytest.mark.parametrize("prompt", ["", "ab", "bbaab"])
def test_probabilities_equal_brute_force(prompt: str, sampling: Sampling) -> None:
    expected = brute_force(POLICY, prompt, sampling)

    found = completion_probabilities(POLICY, [prompt], [list(expected)], sampling)[0]

    for (text, sums), probability in zip(expected.items(), found, strict=True):
        assert (probability.total, probability.canonical, probability.truncated) == pytest.approx(sums, abs=1e-13), text


@pytest.mark.parametrize("sampling", SETTINGS, ids=str)
def test_all_texts_together_have_probability_one(sampling: Sampling) -> None:
    assert sampling.max_tokens is not None
    longest = 3 * sampling.max_tokens
    texts = ["".join(letters) for n in range(longest + 1) for letters in itertools.product("ab", repeat=n)]

    found = [
        completion_probabilities(POLICY, ["b"], [texts[i : i + 500]], sampling)[0] for i in range(0, len(texts), 500)
    ]

    assert sum(p.total for part in found for p in part) == pytest.approx(1, abs=1e-11)


def test_texts_up_to_a_length_have_probability_below_one() -> None:
    texts = ["".join(letters) for n in range(6) for letters in itertools.product("ab", repeat=n)]

    total = sum(p.total for p in completion_probabilities(POLICY, ["a"], [texts], Sampling())[0])

    assert 0.1 < total < 1


def test_asking_together_gives_what_asking_apart_gives() -> None:
    prompts, texts = ["", "ab", "b" * 12, "a"], [["a", "ab"], ["bb"], ["", "aba", "b"], []]

    together = completion_probabilities(POLICY, prompts, texts, Sampling(max_tokens=3))

    apart = [
        [completion_probabilities(POLICY, [prompt], [[text]], Sampling(max_tokens=3))[0][0] for text in asked]
        for prompt, asked in zip(prompts, texts, strict=True)
    ]
    for row, alone in zip(together, apart, strict=True):
        for one, other in zip(row, alone, strict=True):
            assert one.total == pytest.approx(other.total, rel=1e-12)
            assert one.canonical == pytest.approx(other.canonical, rel=1e-12)


def test_a_text_that_holds_a_stop_string_is_never_returned() -> None:
    found = completion_probabilities(POLICY, ["a"], [["aba", "bb"]], Sampling(max_tokens=4, stop=("ba",)))[0]

    assert found[0].total == 0
    assert found[1].total > 0


def test_a_text_with_two_tokenisations_has_two_paths() -> None:
    levels = build_trie(POLICY.tokenizer, ["ab"], (), 16)

    assert [len(level.tokens) for level in levels] == [1, 2, 1]  # "", then a | ab, then a·b
    assert [(token, canonical) for level in levels for _, token, _, canonical in level.endings] == [
        (END, True),
        (END, False),
    ]


def test_a_text_with_too_many_tokenisations_is_refused() -> None:
    long = micro_policy("ab", MERGES, context=64)

    with pytest.raises(BadInput, match="more than 20,000 ways"):
        completion_probabilities(long, ["a"], [["ab" * 20]], Sampling())


def test_the_same_text_twice_is_refused() -> None:
    with pytest.raises(BadInput, match="given twice"):
        completion_probabilities(POLICY, ["a"], [["b", "b"]], Sampling())


@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(temperature=0.7, top_k=9), Sampling(stop=("\n",), max_tokens=9)], ids=str
)
def test_sampled_frequencies_agree_with_exact_probabilities(sampling: Sampling) -> None:
    policy, draws = load_tiny(), 3000
    texts = [["Final: 3", "Final: 3\n", "3", "Final:3"]] * 2
    prompts = [PROMPTS[0], PROMPTS[0]]

    found = completion_probabilities(policy, [p.prompt for p in prompts], texts, sampling)[0]
    sampled = [c.text for c in policy.complete(prompts[:1], range(draws), sampling)]

    for text, probability in zip(texts[0], found, strict=True):
        p = probability.total
        deviation = math.sqrt(max(p * (1 - p), 1e-9) / draws)
        assert abs(sampled.count(text) / draws - p) <= 4.5 * deviation + 1e-9, (text, p)


def test_odd_tokenisations_hold_some_of_the_probability() -> None:
    found = completion_probabilities(load_tiny(), [PROMPTS[0].prompt], [["Final: 3"]], Sampling())[0][0]

    assert 0.9 * found.total < found.canonical < found.total
