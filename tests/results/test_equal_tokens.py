"""Selection against learning: how many draws of the base policy one learned draw is worth, and when training is repaid."""

from __future__ import annotations

from lockedroom.results.learning.rendering import equal_sentences
from lockedroom.results.learning.summary import BASE, LEARNED, Change, CurveChange, Deployed, EqualTokens, equal_tokens


def found(before: list[float], after: float, training: int = 1000) -> EqualTokens:
    """pass@1, 2, 4, … of the base policy against pass@1 of the learned one; 10 tokens a completion, 5 examples."""
    curve = [
        CurveChange(2**i, Change(rate, after if i == 0 else 1.0, 0.0, None, None)) for i, rate in enumerate(before)
    ]
    deployed = [Deployed(name, "none", 1, 10.0, 0.5, None, None) for name in (BASE, LEARNED)]
    return equal_tokens(curve, deployed, training, examples=5)


def test_four_draws_as_good_as_one_are_repaid_by_three_saved() -> None:
    equal = found([0.2, 0.4, 0.6], 0.6)
    assert (equal.n, equal.budget_n, equal.break_even) == (4, 20, 1000 / 30)
    assert equal_sentences(equal)[0].startswith("4 draws of the base policy and a perfect selector")
    assert "after 33 examples" in equal_sentences(equal)[0]


def test_a_policy_that_did_not_get_better_is_never_repaid() -> None:
    equal = found([0.5, 0.7], 0.4)
    assert (equal.n, equal.break_even) == (1, None)
    assert equal_sentences(equal)[0] == (
        "one draw of the base policy is as good as one of the learned policy: training saves no draws."
    )


def test_what_no_number_of_draws_reaches_is_said() -> None:
    equal = found([0.2, 0.3], 0.9)
    assert (equal.n, equal.break_even) == (None, None)
    assert equal_sentences(equal)[0].startswith("no number of draws on the curve")


def test_a_budget_of_one_draw_is_in_the_singular() -> None:
    assert "they are 1 draw an example" in equal_sentences(found([0.2, 0.4], 0.4, training=40))[1]
