"""Guided search on a language model so small that everything can be listed."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable

import pytest

from lockedroom.errors import BadInput
from lockedroom.policy.tiny.guided import Guided, Language, beam_search, sample_viable
from lockedroom.policy.tiny.policy import TinyPolicy
from lockedroom.records import Example, FinishReason, Sampling
from lockedroom.testkit.micro_model import micro_policy

ASKED = [Example(id="x", prompt="ab", expected_answer=0)]


def language(policy: TinyPolicy, viable: Callable[[str], bool], complete: Callable[[str], bool]) -> Language:
    return Language(policy.tokenizer.pieces, lambda texts: list(map(viable, texts)), complete)


def draw(policy: TinyPolicy, spoken: Language, draws: int, limit: int = 4) -> list[Guided]:
    return sample_viable(policy, ASKED, range(draws), Sampling(max_tokens=limit), spoken)


def only_a(policy: TinyPolicy) -> Language:
    """Any number of a's up to three, at least one."""
    return language(policy, lambda text: set(text) <= {"a"} and len(text) <= 3, lambda text: len(text) >= 1)


def test_constrained_draws_are_in_the_language() -> None:
    policy = micro_policy()
    found = draw(policy, only_a(policy), 200, limit=6)
    assert {one.text for one in found} <= {"a", "aa", "aaa"}
    assert len({one.text for one in found}) == 3
    assert all(one.finish_reason is FinishReason.STOP for one in found)


def test_constrained_draws_follow_the_renormalised_policy() -> None:
    policy = micro_policy()
    found = draw(policy, only_a(policy), 4000)
    share = Counter(one.text for one in found)["a"] / 4000
    expected = math.exp(next(one.logprob for one in found if one.text == "a"))
    assert share == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 4000))


def test_an_unconstrained_language_gives_the_samplers_own_draws() -> None:
    policy = micro_policy()
    found = draw(policy, language(policy, lambda _: True, lambda _: True), 50)
    plain = list(policy.complete(ASKED, range(50), Sampling(max_tokens=4)))
    assert [one.token_ids for one in found] == [one.token_ids for one in plain]
    assert all(one.logprob == pytest.approx(math.fsum(one.policy_logprobs)) for one in found)


def test_a_draw_does_not_depend_on_those_beside_it() -> None:
    policy = micro_policy()
    many = draw(policy, only_a(policy), 20)
    alone = sample_viable(policy, ASKED, range(7, 8), Sampling(max_tokens=4), only_a(policy))
    assert alone == [many[7]]


def test_dead_ends_are_backed_out_of_and_paid_for() -> None:
    policy = micro_policy()
    trap = language(policy, lambda text: text in ("a", "aa", "b"), lambda text: text in ("a", "aa"))
    found = draw(policy, trap, 100)
    assert {one.text for one in found} <= {"a", "aa"}
    assert any(one.redraws == 1 for one in found)
    assert all(one.tokens == len(one.token_ids) + one.redraws for one in found)  # the dead text "b" is one token long


def test_a_language_without_completions_is_refused() -> None:
    policy = micro_policy()
    with pytest.raises(BadInput, match="no completion of this policy is viable"):
        draw(policy, language(policy, lambda text: text in ("a", "b"), lambda _: False), 5)


def test_a_wide_beam_finds_the_most_probable_viable_path() -> None:
    policy = micro_policy()
    spoken = only_a(policy)
    (found,) = beam_search(policy, ASKED, 8, Sampling(max_tokens=4), spoken)
    a = policy.tokenizer.id_of["a"]
    paths = [(*itertools.repeat(a, times), policy.end_id) for times in (1, 2, 3)]
    prompt = policy.prompt_ids("ab")
    scores = {path: math.fsum(row) for path, row in zip(paths, policy.logprobs([prompt] * 3, paths), strict=True)}
    assert found.token_ids == max(scores, key=lambda path: scores[path])
    assert found.logprob == pytest.approx(max(scores.values()), abs=1e-6)


def test_a_beam_of_one_without_a_language_is_greedy() -> None:
    policy = micro_policy()
    (found,) = beam_search(policy, ASKED, 1, Sampling(max_tokens=5), None)
    (greedy,) = policy.complete(ASKED, range(1), Sampling(max_tokens=5, temperature=0.0))
    assert not isinstance(greedy, str)
    assert found.token_ids == getattr(greedy, "token_ids", None)
    assert found.tokens == len(found.token_ids)


def test_the_token_limit_cuts_a_search_and_says_so() -> None:
    policy = micro_policy()
    endless = language(policy, lambda text: set(text) <= {"a"}, lambda _: False)
    assert {one.finish_reason for one in draw(policy, endless, 5, limit=3)} == {FinishReason.LENGTH}
    (found,) = beam_search(policy, ASKED, 2, Sampling(max_tokens=3), endless)
    assert found.finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize(
    ("sampling", "message"), [(Sampling(stop=("a",)), "stop strings"), (Sampling(temperature=-1.0), "temperature")]
)
def test_settings_that_a_search_cannot_have_are_refused(sampling: Sampling, message: str) -> None:
    policy = micro_policy()
    with pytest.raises(BadInput, match=message):
        sample_viable(policy, ASKED, range(1), sampling, only_a(policy))


def test_a_beam_needs_a_width() -> None:
    with pytest.raises(BadInput, match="--width 0"):
        beam_search(micro_policy(), ASKED, 0, Sampling(), None)
