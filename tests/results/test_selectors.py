"""Selectors: what each picks, how ties fall, and that rewards reach only those whose name says so."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lockedroom.errors import BadInput
from lockedroom.protocols import JudgedSelector, Prompt
from lockedroom.records import Completion, Details, Failure, FailureCode, Outcome, Score
from lockedroom.results.selection.picking import Asked, check_ns, groups_of, make_pool, pick
from lockedroom.results.selection.selectors import BY_LOGPROB, NAMES, Ties, builtin_selector, parser, ranks_within
from lockedroom.testkit.selections import records_of

ASKED = Asked("e1", "What is 1 + 1?")
PARSE = parser("final-int")
RIGHT = Score(1.0, Details("ok", Outcome.CORRECT, "2", ""))
WRONG = Score(0.0, Details("wrong_answer", Outcome.WRONG, "3", ""))
CRASHED = Failure(FailureCode.SCORER_RAISED, "boom")


def chosen(name: str, completions: list[Completion], results: list[Score | Failure] | None = None) -> int:
    selector = builtin_selector(name, seed=0, beta=0.5, parse=PARSE)
    assert selector is not None
    if isinstance(selector, JudgedSelector):
        return selector.select_judged(ASKED, completions, results or [])
    return selector.select(ASKED, completions)


def test_only_selectors_that_say_so_can_be_given_a_verdict() -> None:
    told = {name for name in (*NAMES, "proxy:permissive")
            if isinstance(builtin_selector(name, seed=0, beta=0.1, parse=PARSE), JudgedSelector)}  # fmt: skip
    assert told == {"best-of-n", "kl-regularized", "rejection-sampling", "proxy:permissive"}


def test_a_selector_is_not_shown_the_expected_answer() -> None:
    assert Asked.__struct_fields__ == ("id", "prompt")


def test_best_of_n_takes_the_greatest_reward() -> None:
    assert chosen("best-of-n", [Completion("a"), Completion("b")], [WRONG, RIGHT]) == 1


def test_best_of_n_puts_a_failure_below_every_reward() -> None:
    assert chosen("best-of-n", [Completion("a"), Completion("b")], [CRASHED, WRONG]) == 1


def test_best_of_n_with_failures_only_falls_back_on_the_tie_break() -> None:
    assert chosen("best-of-n", [Completion("bb"), Completion("a")], [CRASHED, CRASHED]) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Completion("bbb", logprob=-1.0), Completion("a", logprob=-2.0)),
        (Completion("b", logprob=-1.0), Completion("aa", logprob=-1.0)),
        (Completion("a", logprob=-1.0), Completion("b", logprob=-1.0)),
        (Completion("b", logprob=-9.0), Completion("a")),
    ],
    ids=["the more probable", "the shorter", "the lexicographically first", "the one with a logprob"],
)
def test_ties_fall_the_same_way_in_either_order(first: Completion, second: Completion) -> None:
    assert first_of([1.0, 1.0], [first, second]) == 0
    assert first_of([1.0, 1.0], [second, first]) == 1


def test_identical_completions_tie_to_the_first_drawn() -> None:
    assert first_of([0.0, 0.0, 0.0], [Completion("")] * 3) == 0


def test_ranks_are_a_permutation_with_the_best_at_zero() -> None:
    assert ranks_within([0.0, 2.0, None, 1.0], BY_LOGPROB.places("e", [Completion("x")] * 4)) == [2, 0, 3, 1]


def test_logprob_and_its_mean_a_token_can_disagree() -> None:
    short = Completion("a", logprob=-2.0, token_ids=(1,))
    long = Completion("b", logprob=-3.0, token_ids=(1, 2, 3))
    assert chosen("logprob", [short, long]) == 0
    assert chosen("mean-logprob", [short, long]) == 1


def test_a_majority_outvotes_the_most_probable() -> None:
    texts = [Completion("Final: 3", logprob=-0.1), Completion("Final: 2", logprob=-5.0), Completion("Final: 2\n", -4.0)]
    assert chosen("majority-vote", texts) == 2


def test_votes_weighted_by_probability_can_overturn_the_majority() -> None:
    texts = [Completion("Final: 3", logprob=-0.1), Completion("Final: 2", logprob=-5.0), Completion("Final: 2\n", -4.0)]
    assert chosen("weighted-vote", texts) == 0


def test_what_does_not_parse_has_no_vote() -> None:
    assert chosen("majority-vote", [Completion("?"), Completion("?"), Completion("Final: 7")]) == 2


def test_a_vote_without_any_answer_falls_back_on_the_tie_break() -> None:
    assert chosen("majority-vote", [Completion("??"), Completion("?")]) == 1


def test_parsing_does_not_depend_on_the_right_answer() -> None:
    # permissive reports the *expected* number where it stands; for a vote that would be the verdict itself
    assert parser("permissive")("41 or 42") == "41"


def test_weighted_votes_of_very_long_completions_do_not_underflow() -> None:
    assert chosen("weighted-vote", [Completion("Final: 1", -9000.0), Completion("Final: 2", -8000.0)]) == 1


def test_kl_regularized_weighs_reward_against_drift() -> None:
    near = Completion("a", logprob=-1.0, ref_logprob=-1.0)
    far = Completion("b", logprob=-1.0, ref_logprob=-4.0)
    assert chosen("kl-regularized", [far, near], [RIGHT, WRONG]) == 1  # 1 − .5·3 < 0
    close = Completion("b", logprob=-1.0, ref_logprob=-2.0)
    assert chosen("kl-regularized", [close, near], [RIGHT, WRONG]) == 0  # 1 − .5·1 > 0


def test_rejection_sampling_takes_the_first_pass_or_the_last_draw() -> None:
    three = [Completion("a"), Completion("b"), Completion("c")]
    assert chosen("rejection-sampling", three, [WRONG, RIGHT, RIGHT]) == 1
    assert chosen("rejection-sampling", three, [WRONG, WRONG, CRASHED]) == 2


def test_random_belongs_to_seed_and_id() -> None:
    many = [Completion(str(i)) for i in range(50)]
    selector = builtin_selector("random", seed=3, beta=0.1, parse=PARSE)
    assert selector is not None
    assert not isinstance(selector, JudgedSelector)
    picks = {selector.select(Asked(f"e{i}", ""), many) for i in range(40)}
    assert len(picks) > 20
    assert selector.select(ASKED, many) == selector.select(Asked("e1", "another prompt"), many)


@pytest.mark.parametrize("name", ["logprob", "mean-logprob", "weighted-vote"])
def test_a_log_without_logprobs_is_refused_by_selectors_that_need_them(name: str) -> None:
    with pytest.raises(BadInput, match=r"e1.*logprob"):
        chosen(name, [Completion("a"), Completion("b")])


@pytest.mark.parametrize("name", ["logprob", "weighted-vote"])
def test_a_log_of_negative_log_likelihoods_is_refused_where_it_would_choose(name: str) -> None:
    with pytest.raises(BadInput, match="above 0"):
        chosen(name, [Completion("a", logprob=5.0), Completion("b", logprob=1.0)], [RIGHT, WRONG])


def test_a_mean_over_tokens_needs_token_ids() -> None:
    with pytest.raises(BadInput, match="token ids"):
        chosen("mean-logprob", [Completion("a", logprob=-1.0), Completion("b", logprob=-1.0)])


def test_kl_regularized_needs_reference_logprobs() -> None:
    with pytest.raises(BadInput, match="ref_logprob"):
        chosen("kl-regularized", [Completion("a", logprob=-1.0)], [RIGHT])


@pytest.mark.parametrize("bad", [2, -1, True, 1.0, None, "0"])
def test_a_selector_that_returns_no_position_is_refused(bad: object) -> None:
    class Odd:
        def select(self, asked: object, completions: object) -> int:
            return bad  # type: ignore[return-value]  # the point of the test

    with pytest.raises(BadInput, match="position"):
        pick(Odd(), make_pool(*records_of("e1", ["a", "b"])), (2,))


@pytest.mark.parametrize("name", ["best-of-n", "logprob", "majority-vote"])
def test_picks_by_group_are_those_of_the_selector_asked_group_by_group(name: str) -> None:
    texts = [("Final: 2", -3.0), ("Final: 3", -1.0), ("x", -0.5), ("Final: 3", -2.0), ("Final: 2", -2.0), ("", -4.0)]
    example, records, told = records_of("e1", [Completion(text, logprob) for text, logprob in texts])
    selector = builtin_selector(name, seed=0, beta=0.1, parse=PARSE)
    assert selector is not None
    found = pick(selector, make_pool(example, records, told), (1, 2, 3, 6)).picks
    for n, row in zip((1, 2, 3, 6), found, strict=True):
        for start, picked in zip(groups_of(6, n), row, strict=True):
            part = [record.completion for record in records[start : start + n] if record.completion]
            assert picked == start + chosen(name, part, list(told[start : start + n]))


def test_draws_without_a_completion_are_not_shown() -> None:
    example, records, told = records_of("e1", [None, "a", None, None])
    assert pick(Last(), make_pool(example, records, told), (2, 4)).picks == [[1, 2], [1]]


class Last:
    def select(self, asked: Prompt, completions: Sequence[Completion]) -> int:
        return len(completions) - 1


def test_groups_leave_out_what_does_not_divide() -> None:
    assert list(groups_of(8, 3)) == [0, 3]
    assert list(groups_of(8, 8)) == [0]


@pytest.mark.parametrize("ns", [(9,), (0,), (2, 1), (1, 1)])
def test_numbers_of_draws_that_cannot_be_are_refused(ns: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match="--n"):
        check_ns(ns, 8)


def test_without_n_the_powers_of_two_and_all_draws_are_taken() -> None:
    assert check_ns((), 10) == (1, 2, 4, 8, 10)
    assert check_ns((), 1) == (1,)


def test_an_unknown_parser_is_refused() -> None:
    with pytest.raises(BadInput, match="--parse"):
        parser("mine.py:score")


def first_of(values: Sequence[float | None], completions: Sequence[Completion], ties: Ties = BY_LOGPROB) -> int:
    return ranks_within(values, ties.places("e", completions)).index(0)


def test_a_tie_break_by_length_does_not_look_at_the_policy() -> None:
    probable_and_long, short = Completion("Final: 7 or 8", logprob=-0.1), Completion("7", logprob=-9.0)
    assert first_of([1.0, 1.0], [probable_and_long, short]) == 0
    assert first_of([1.0, 1.0], [probable_and_long, short], Ties("shorter")) == 1


def test_a_random_tie_break_knows_nothing_of_the_completions_and_is_fair() -> None:
    picked = [Ties("random", 3).places(f"e{i}", [Completion("a"), Completion("b")]).index(0) for i in range(400)]
    swapped = [Ties("random", 3).places(f"e{i}", [Completion("b"), Completion("a")]).index(0) for i in range(400)]
    assert picked == swapped
    assert 160 < sum(picked) < 240
    assert picked != [Ties("random", 4).places(f"e{i}", [Completion("a")] * 2).index(0) for i in range(400)]


def test_a_tie_break_never_overrules_a_value() -> None:
    values, completions = [0.0, 1.0, 0.5], [Completion("x"), Completion("a long one"), Completion("y")]
    assert {first_of(values, completions, Ties(rule)) for rule in ("logprob", "random", "shorter")} == {1}
