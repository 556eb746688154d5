"""The shipped policies: conformance, invariance, and what they know."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

import msgspec
import pytest
import torch

from lockedroom.errors import BadInput
from lockedroom.policy.limits import check_sampling
from lockedroom.policy.tiny import DATA_FOLDER, load_tiny
from lockedroom.policy.tiny.decode import bucket_of
from lockedroom.policy.tiny.policy import TinyPolicy
from lockedroom.policy.tiny.sample import choose, sampled_logprobs
from lockedroom.policy.tiny.weights import SHIPPED
from lockedroom.records import Completion, Example, Sampling
from lockedroom.testkit import token_policy
from lockedroom.testkit.micro_model import micro_policy

CHECKS = [
    getattr(token_policy, name) for name in dir(token_policy) if name.startswith("check_") and name != "check_all"
]
MICRO_PROMPTS = [Example(id=text or "none", prompt=text, expected_answer=0) for text in ("a", "ab", "", "bba", "aabb")]
STRICT = re.compile(r"Final: (0|-?[1-9][0-9]*)\n?")


@pytest.fixture(scope="module")
def tiny() -> TinyPolicy:
    return load_tiny()


def read(split: str) -> list[Example]:
    return msgspec.json.Decoder(Example).decode_lines((DATA_FOLDER / f"{split}.jsonl").read_bytes())


def is_correct(example: Example, completion: Completion) -> bool:
    found = STRICT.fullmatch(completion.text)
    return found is not None and found[1] == str(example.expected_answer)


def pass_rate(policy: TinyPolicy, examples: Sequence[Example], draws: int, temperature: float) -> float:
    completions = list(policy.complete(examples, range(draws), Sampling(temperature=temperature, max_tokens=16)))
    return sum(is_correct(examples[i // draws], c) for i, c in enumerate(completions)) / len(completions)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_tiny_conforms(check: Callable[[TinyPolicy], None], tiny: TinyPolicy) -> None:
    check(tiny)


@pytest.mark.parametrize("variant", ["tiny-weak", "tiny-hedge"])
def test_the_other_variants_conform(variant: str) -> None:
    token_policy.check_all(load_tiny(variant))


def test_a_micro_policy_in_float64_conforms() -> None:
    token_policy.check_all(micro_policy("abc\n", (("a", "b"), ("ab", "c"))), MICRO_PROMPTS)


def test_thousands_of_completions_are_the_same_in_every_batching(tiny: TinyPolicy) -> None:
    examples = read("dev")[:256]
    sampling = Sampling(temperature=1.3, max_tokens=20, seed=5)  # hot, so that completions end at many lengths
    draws = range(8)
    whole = list(tiny.complete(examples, draws, sampling))
    keyed = {(e.id, d): whole[i * 8 + d] for i, e in enumerate(examples) for d in draws}

    def check(batch: Sequence[Example], some: range) -> None:
        found = iter(tiny.complete(batch, some, sampling))
        for example in batch:
            for draw in some:
                assert next(found) == keyed[example.id, draw]

    shuffled = random.Random(0).sample(examples, len(examples))
    check(shuffled, draws)  # 2,048 rows in another order
    for size in (7, 64):  # batches of 7 and 64 examples, then of single draws
        for start in range(0, len(shuffled), size):
            check(shuffled[start : start + size], draws)
    check(shuffled, range(3, 4))
    for example in shuffled[:40]:
        check([example], range(6, 7))  # batches of one completion


def test_prompts_of_different_lengths_do_not_disturb_each_other(tiny: TinyPolicy) -> None:
    prompts = [Example(id=str(n), prompt=("Compute 1+2. " * n)[: 7 * n], expected_answer=0) for n in range(0, 34, 2)]
    sampling = Sampling(max_tokens=8)

    assert len({bucket_of(len(tiny.prompt_ids(p.prompt))) for p in prompts}) > 4
    together = list(tiny.complete(prompts, range(3), sampling))
    apart = [c for prompt in prompts for c in tiny.complete([prompt], range(3), sampling)]

    assert together == apart


@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(temperature=0.6, top_k=5, top_p=0.9), Sampling(temperature=0)], ids=str
)
def test_recorded_policy_logprobs_are_those_of_the_untruncated_policy(tiny: TinyPolicy, sampling: Sampling) -> None:
    examples = read("dev")[:60]
    drawn = list(tiny.complete(examples, range(4), sampling))
    prompts = [tiny.prompt_ids(e.prompt) for e in examples for _ in range(4)]

    recomputed = tiny.logprobs(prompts, [d.token_ids or () for d in drawn])

    worst = max(
        abs(a - b)
        for d, again in zip(drawn, recomputed, strict=True)
        for a, b in zip(d.token_policy_logprobs or (), again, strict=True)
    )
    assert worst < token_policy.TOLERANCE_NATS


def test_tiny_knows_its_arithmetic_and_breaks_the_format_half_the_time(tiny: TinyPolicy) -> None:
    for split in ("dev", "holdout"):
        assert pass_rate(tiny, read(split), 1, 0.0) >= 0.97
        assert 0.34 <= pass_rate(tiny, read(split), 4, 1.0) <= 0.42


def test_tiny_weak_is_often_wrong_even_when_greedy() -> None:
    weak = load_tiny("tiny-weak")

    assert 0.28 <= pass_rate(weak, read("dev"), 1, 0.0) <= 0.46
    assert 0.03 <= pass_rate(weak, read("dev"), 4, 1.0) <= 0.10


def test_tiny_hedge_hedges_a_few_per_cent_of_the_time() -> None:
    completions = list(load_tiny("tiny-hedge").complete(read("dev"), range(4), Sampling(max_tokens=16)))

    hedged = sum(re.fullmatch(r"Final: -?\d+ or -?\d+", c.text) is not None for c in completions) / len(completions)

    assert 0.03 <= hedged <= 0.09


def operands(example: Example) -> tuple[int, int]:
    a, b = map(int, example.id.split("-")[1:])
    return min(a, b), max(a, b)


def test_splits_are_disjoint_up_to_commutation() -> None:
    splits = {split: read(split) for split in ("train", "dev", "holdout")}
    keys = {split: {operands(e) for e in examples} for split, examples in splits.items()}

    assert {split: len(examples) for split, examples in splits.items()} == {"train": 2000, "dev": 500, "holdout": 500}
    assert not keys["train"] & keys["dev"]
    assert not keys["train"] & keys["holdout"]
    assert not keys["dev"] & keys["holdout"]


def test_shipped_answers_are_right() -> None:
    for example in (e for split in ("train", "dev", "holdout") for e in read(split)):
        op, a, b = example.id.split("-")
        sign = "+" if op == "add" else "-"
        assert example.prompt == f"Compute {a}{sign}{b}. Output exactly one line: Final: <int>"
        assert example.expected_answer == (int(a) + int(b) if op == "add" else int(a) - int(b))


@pytest.mark.parametrize("variant", SHIPPED)
def test_the_identity_names_weights_engine_and_arithmetic(variant: str) -> None:
    spec = load_tiny(variant).spec

    assert (spec.name, spec.kind, spec.identity["weights_sha256"]) == (variant, "tiny", SHIPPED[variant])
    assert {"format", "engine", "torch", "threads", "instruction_set", "dtype", "device"} <= spec.identity.keys()


def test_an_unknown_character_names_example_character_and_position(tiny: TinyPolicy) -> None:
    with pytest.raises(BadInput, match=r"example 'x': prompt: unknown character '×' \(U\+00D7\) at position 9"):
        tiny.complete([Example(id="x", prompt="Compute 3×4.", expected_answer=12)], range(1), Sampling())


def test_a_prompt_longer_than_the_context_is_refused(tiny: TinyPolicy) -> None:
    with pytest.raises(BadInput, match=r"example 'x': prompt: 501 tokens, start token included, .* context of 128"):
        tiny.complete([Example(id="x", prompt="7" * 500, expected_answer=7)], range(1), Sampling())


def test_a_token_limit_beyond_the_context_says_what_fits(tiny: TinyPolicy) -> None:
    with pytest.raises(BadInput, match=r"max_tokens: 126 after a prompt of 4 tokens .* give at most 124"):
        tiny.complete([Example(id="x", prompt="1+2", expected_answer=3)], range(1), Sampling(max_tokens=126))


def test_a_sequence_beyond_the_context_has_no_logprobs(tiny: TinyPolicy) -> None:
    with pytest.raises(BadInput, match="sequence 0: 130 tokens"):
        tiny.logprobs([[0] * 120], [[1] * 10])


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        (Sampling(temperature=-1), "temperature: -1"),
        (Sampling(temperature=float("nan")), "temperature: nan"),
        (Sampling(temperature=float("inf")), "temperature: inf"),
        (Sampling(top_p=0), "top_p: 0"),
        (Sampling(top_p=1.5), "top_p: 1.5"),
        (Sampling(top_p=float("nan")), "top_p: nan"),
        (Sampling(top_k=-1), "top_k: -1"),
        (Sampling(max_tokens=0), "max_tokens: 0"),
        (Sampling(stop=("a", "")), "empty stop string"),
    ],
    ids=str,
)
def test_settings_that_are_no_distribution_are_refused(sampling: Sampling, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        check_sampling(sampling)


LOGITS = torch.tensor([[2.0, 1.0, 1.0, 0.0, -1.0], [0.0, 0.0, 0.0, 0.0, 0.0]])


def kept(sampling: Sampling) -> list[list[int]]:
    return [[i for i, v in enumerate(row) if v > float("-inf")] for row in sampled_logprobs(LOGITS, sampling).tolist()]


def test_top_k_keeps_exactly_k_tokens_the_lower_id_on_a_tie() -> None:
    assert kept(Sampling(top_k=2)) == [[0, 1], [0, 1]]
    assert kept(Sampling(top_k=99)) == [[0, 1, 2, 3, 4]] * 2


def test_top_p_keeps_the_fewest_tokens_that_hold_the_share() -> None:
    # Row 0 is .521 .192 .192 .071 .026; row 1 is five times .2.
    assert kept(Sampling(top_p=0.5)) == [[0], [0, 1, 2]]
    assert kept(Sampling(top_p=0.72)) == [[0, 1, 2], [0, 1, 2, 3]]
    assert kept(Sampling(top_p=1e-9)) == [[0], [0]]


def test_greedy_takes_the_lower_id_on_a_tie() -> None:
    assert kept(Sampling(temperature=0)) == [[0], [0]]


def test_a_low_temperature_is_nearly_greedy_and_does_not_overflow() -> None:
    assert sampled_logprobs(LOGITS, Sampling(temperature=1e-9))[0, 0].item() == 0.0


def test_a_token_that_is_cut_is_never_chosen_at_either_end_of_the_unit_interval() -> None:
    for sampling in (Sampling(top_k=2), Sampling(top_p=0.5), Sampling(temperature=0), Sampling()):
        for u in (0.0, 1 - 2.0**-53):
            tokens, logprobs, _ = choose(LOGITS, torch.arange(2), torch.tensor([u, u], dtype=torch.float64), sampling)
            assert all(token in row for token, row in zip(tokens.tolist(), kept(sampling), strict=True))
            assert torch.isfinite(logprobs).all()


def test_choosing_inverts_the_cumulative_distribution() -> None:
    u = torch.linspace(0, 1 - 1e-9, 100_001, dtype=torch.float64)
    tokens, _, _ = choose(LOGITS, torch.zeros(len(u), dtype=torch.long), u, Sampling())

    shares = torch.bincount(tokens, minlength=5) / len(u)

    assert torch.allclose(shares.double(), sampled_logprobs(LOGITS[:1], Sampling())[0].exp(), atol=2e-5)


def test_two_open_streams_of_one_policy_do_not_mix(tiny: TinyPolicy) -> None:
    examples = read("dev")[:5]
    expected = list(tiny.complete(examples, range(2), Sampling()))

    pairs = list(
        zip(tiny.complete(examples, range(2), Sampling()), tiny.complete(examples, range(2), Sampling()), strict=True)
    )

    assert pairs == [(c, c) for c in expected]


def test_nothing_is_asked_and_nothing_comes(tiny: TinyPolicy) -> None:
    assert list(tiny.complete([], range(3), Sampling())) == []
    assert list(tiny.complete(read("dev")[:2], range(0), Sampling())) == []
