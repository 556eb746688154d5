"""The tabular policy: conforms to the seams, and its gradients and probabilities are the tables'."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import msgspec
import pytest
import torch

from lockedroom.errors import BadInput
from lockedroom.policy.tabular import END, Shape, TabularPolicy
from lockedroom.records import Completion, FinishReason, Sampling
from lockedroom.testkit import token_policy as checks


class _Ask(msgspec.Struct, frozen=True):
    id: str
    prompt: str


ASKS = [_Ask("one", "x"), _Ask("two", "y"), _Ask("three", "")]


def _policy(*, free_end: bool, length: int = 3, actions: tuple[str, ...] = ("a", "bc")) -> TabularPolicy:
    policy = TabularPolicy(Shape(("x", "y", ""), actions, length, free_end))
    with torch.no_grad():
        policy.logits_SV.copy_(torch.randn(policy.logits_SV.shape, generator=torch.Generator().manual_seed(3)))
    return policy


@pytest.mark.parametrize(
    "check",
    [
        checks.check_order,
        checks.check_determinism,
        checks.check_batch_invariance,
        checks.check_draws_differ,
        checks.check_endings,
        checks.check_truncation,
        checks.check_stop,
        checks.check_logprobs,
        checks.check_greedy,
        checks.check_empty_prompt,
        checks.check_bad_sampling,
    ],
)
def test_it_passes_the_conformance_suite(check: object) -> None:
    assert callable(check)
    check(_policy(free_end=True, length=12), ASKS)


@pytest.mark.parametrize("free_end", [False, True])
def test_the_probabilities_of_all_completions_sum_to_one(free_end: bool) -> None:
    policy = _policy(free_end=free_end)
    listed = policy.completions()
    read = policy.logprobs([policy.prompt_ids("y")] * len(listed), listed)
    assert len(set(listed)) == len(listed)
    assert math.fsum(math.exp(math.fsum(one)) for one in read) == pytest.approx(1, abs=1e-12)


def test_a_certain_end_costs_nothing_and_is_one_token_of_the_completion() -> None:
    policy = _policy(free_end=False)
    for completion in policy.complete(ASKS, range(20), Sampling()):
        assert isinstance(completion, Completion)
        assert completion.token_ids is not None
        assert completion.token_logprobs is not None
        assert completion.finish_reason is FinishReason.STOP
        assert completion.token_ids[-1] == END
        assert len(completion.token_ids) == 4
        assert completion.token_logprobs[-1] == 0


def test_draws_are_as_frequent_as_they_are_probable() -> None:
    policy = _policy(free_end=True, length=1)
    drawn = [c.text for c in policy.complete([_Ask("many", "x")], range(4000), Sampling())]
    for text, probability in zip(
        ["", "a", "bc"], policy.completion_probabilities(["x"], [["", "a", "bc"]], Sampling())[0], strict=True
    ):
        noise = math.sqrt(probability.total * (1 - probability.total) / 4000)
        assert abs(drawn.count(text) / 4000 - probability.total) < 4.5 * noise


def test_a_text_probability_sums_over_its_tokenisations() -> None:
    policy = _policy(free_end=True, length=3, actions=("a", "aa"))
    (found,) = policy.completion_probabilities(["x"], [["aa"]], Sampling())[0]
    ways = [(2, END), (1, 1, END)]
    exact = [math.exp(math.fsum(policy.logprobs([policy.prompt_ids("x")], [way])[0])) for way in ways]
    assert found.total == pytest.approx(math.fsum(exact), abs=1e-15)
    assert found.canonical == pytest.approx(exact[0], abs=1e-15)
    assert found.truncated == 0


@pytest.mark.parametrize("sampling", [Sampling(max_tokens=2), Sampling(stop=("b",)), Sampling(temperature=0.5)])
def test_the_probabilities_of_all_texts_sum_to_one_however_completions_end(sampling: Sampling) -> None:
    policy = _policy(free_end=True)
    texts = ["".join(chosen) for n in range(4) for chosen in itertools.product(("a", "bc"), repeat=n)]
    texts += ["b", "ab", "aab"] if not sampling.stop else []
    found = policy.completion_probabilities(["x"], [texts], sampling)[0]
    assert math.fsum(one.total for one in found) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("free_end", [False, True])
def test_the_training_pass_has_the_gradient_that_finite_differences_find(free_end: bool) -> None:
    policy = _policy(free_end=free_end)
    listed = policy.completions()
    prompt = policy.prompt_ids("y")
    sampling = Sampling(temperature=0.7)

    def weighted() -> torch.Tensor:
        given = policy.training_pass([prompt], [listed], sampling)
        return (given.logprobs_NT.sum(-1) * torch.arange(len(listed), dtype=torch.float64)).sum()

    (gradient_SV,) = torch.autograd.grad(weighted(), policy.parameters())
    for row, column in itertools.product(*map(range, gradient_SV.shape)):
        with torch.no_grad():
            policy.logits_SV[row, column] += 1e-6
            up = weighted()
            policy.logits_SV[row, column] -= 2e-6
            down = weighted()
            policy.logits_SV[row, column] += 1e-6
        assert float(gradient_SV[row, column]) == pytest.approx(float(up - down) / 2e-6, abs=1e-6)


@pytest.mark.parametrize("free_end", [False, True])
def test_recomputed_logprobs_are_those_recorded_at_sampling_to_the_last_bit(free_end: bool) -> None:
    policy = _policy(free_end=free_end)
    for sampling in (Sampling(), Sampling(temperature=0.5, top_k=2)):
        drawn = list(policy.complete(ASKS, range(4), sampling))
        groups = [[drawn[4 * p + g].token_ids or () for g in range(4)] for p in range(3)]
        given = policy.training_pass([policy.prompt_ids(ask.prompt) for ask in ASKS], groups, sampling)
        for row, completion in zip(given.logprobs_NT.tolist(), drawn, strict=True):
            recorded = completion.token_logprobs or ()
            assert row[: len(recorded)] == pytest.approx(recorded, abs=1e-15)
            assert set(row[len(recorded) :]) <= {0.0}


def test_the_vocabulary_of_a_training_pass_has_no_nan_where_a_token_can_never_come() -> None:
    policy = _policy(free_end=False)
    given = policy.training_pass([policy.prompt_ids("x")], [policy.completions()], Sampling())
    assert bool(given.vocabulary_RV.isfinite().all())
    assert float((given.vocabulary_RV.detach().exp().sum(-1) - 1).abs().max()) < 1e-12


def test_a_frozen_copy_does_not_move_when_the_policy_is_trained() -> None:
    policy = _policy(free_end=True)
    reference = policy.frozen_copy()
    before = reference.logits_SV.clone()
    with torch.no_grad():
        policy.logits_SV.add_(1)
    assert torch.equal(reference.logits_SV, before)
    assert not reference.logits_SV.requires_grad


def test_another_step_draws_other_completions_and_the_same_step_the_same() -> None:
    policy = _policy(free_end=True)
    at = [[c.token_ids for c in policy.complete(ASKS, range(8), Sampling(), step=step)] for step in (0, 1, 1)]
    assert at[0] != at[1]
    assert at[1] == at[2]


def test_a_saved_table_opens_as_it_was_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    policy = _policy(free_end=True)
    first = policy.save(tmp_path / "a.safetensors", origin={"seed": 1})
    assert first == policy.save(tmp_path / "b.safetensors", origin={"seed": 1})
    again = TabularPolicy.load(tmp_path / "a.safetensors")
    assert torch.equal(again.logits_SV, policy.logits_SV)
    assert again.shape == policy.shape
    raw = (tmp_path / "a.safetensors").read_bytes()
    for damaged in (raw[:-5], raw[:9], b"", b"x" * 40, raw.replace(b"lockedroom.tabular/1", b"lockedroom.tabular/9")):
        (tmp_path / "c.safetensors").write_bytes(damaged)
        with pytest.raises(BadInput):
            TabularPolicy.load(tmp_path / "c.safetensors")


@pytest.mark.parametrize(
    "shape",
    [
        Shape((), ("a",), 1),
        Shape(("x", "x"), ("a",), 1),
        Shape(("x",), (), 1),
        Shape(("x",), ("a", ""), 1),
        Shape(("x",), ("a", "a"), 1),
        Shape(("x",), ("a",), 0),
        Shape(("x",), ("a", "b", "c", "d"), 400),
    ],
)
def test_a_table_of_no_sensible_shape_is_refused(shape: Shape) -> None:
    with pytest.raises(BadInput, match="tabular policy"):
        TabularPolicy(shape)


def test_an_unknown_prompt_or_text_is_refused() -> None:
    policy = _policy(free_end=True)
    with pytest.raises(BadInput, match="knows no others"):
        policy.prompt_ids("z")
    with pytest.raises(BadInput, match="position 1"):
        policy.encode("az")
