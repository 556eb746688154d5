"""The loss: micro-batches, clipping, masks, lengths, and numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lockedroom.learning.advantages import estimate_advantages
from lockedroom.learning.estimator import PRESETS, Estimator, make_estimator
from lockedroom.learning.kl import entropy_per_state, exact_per_state
from lockedroom.learning.objective import PolicyLoss, exact_penalty, policy_loss

NAN = float("nan")
CLIP = Estimator(clip_low=0.2, clip_high=0.2)


def _batch() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Eight completions of lengths 1 to 4: log-probabilities new, old and of the reference, mask, rewards of two prompts."""
    generator = torch.Generator().manual_seed(1)
    new_NT, old_NT, ref_NT = -torch.rand(3, 8, 4, generator=generator, dtype=torch.float64)
    mask_NT = torch.arange(4) < torch.tensor([1, 2, 3, 4, 4, 2, 1, 3]).unsqueeze(-1)
    rewards_PG = torch.tensor([[1.0, 0, 0, 1], [0, 0, 0.5, 0]], dtype=torch.float64)
    return new_NT, old_NT, ref_NT, mask_NT, rewards_PG


def _slope(estimator: Estimator, cuts: int, *, outside: float = 0.0) -> Tensor:
    """Return the gradient in the log-probabilities, the batch cut into micro-batches; `outside` stands outside the mask."""
    new_NT, old_NT, ref_NT, mask_NT, rewards_PG = _batch()
    new_NT, old_NT, ref_NT = (x.where(mask_NT, outside) for x in (new_NT, old_NT, ref_NT))
    done = estimate_advantages(
        estimator, rewards_PG, torch.ones_like(rewards_PG).bool(), mask_NT,
        k1_NT=old_NT - ref_NT, values_NT=ref_NT, passed_PG=rewards_PG >= 1,
    )  # fmt: skip
    new_NT.requires_grad_()
    for rows in torch.arange(8).chunk(cuts):
        policy_loss(
            estimator, new_NT[rows], old_NT[rows], done.advantages_NT[rows], done.mask_NT[rows],
            completions=done.completions, tokens=done.tokens, max_tokens=4,
            ref_logprobs_NT=ref_NT[rows], kl_exact_NT=new_NT[rows].where(mask_NT[rows], 0.0).square(),
        ).loss.backward()  # type: ignore[no-untyped-call]  # fmt: skip
    assert new_NT.grad is not None
    return new_NT.grad


ALL = [
    *PRESETS.values(),
    *(make_estimator({"kl": kl, "beta": 0.3, "kl_per": per, "normalisation": norm})
      for kl in ("k1-in-loss", "k2-in-loss", "k3-in-loss", "k3-ratio-in-loss", "exact-in-loss")
      for per in ("token", "completion")
      for norm in ("tokens", "max-tokens")),
]  # fmt: skip


@pytest.mark.parametrize("estimator", ALL)
@pytest.mark.parametrize("cuts", [2, 4, 8])
def test_the_gradient_does_not_depend_on_how_a_batch_is_cut(estimator: Estimator, cuts: int) -> None:
    assert torch.allclose(_slope(estimator, 1), _slope(estimator, cuts), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("estimator", ALL)
def test_what_stands_outside_the_mask_is_never_read(estimator: Estimator) -> None:
    clean_NT, other_NT = _slope(estimator, 1), _slope(estimator, 1, outside=NAN)
    assert torch.equal(clean_NT, other_NT)
    assert float(clean_NT[~_batch()[3]].abs().max()) == 0


def _one(estimator: Estimator, ratio: float, advantage: float) -> tuple[float, PolicyLoss]:
    new_NT = torch.tensor([[-1.0]], dtype=torch.float64, requires_grad=True)
    old_NT = new_NT.detach() - torch.tensor(ratio, dtype=torch.float64).log()
    advantages_NT, mask_NT = torch.full((1, 1), advantage, dtype=torch.float64), torch.ones(1, 1, dtype=torch.bool)
    done = policy_loss(estimator, new_NT, old_NT, advantages_NT, mask_NT, completions=1, tokens=1)
    (slope,) = torch.autograd.grad(done.loss, new_NT)
    return float(-slope), done


@pytest.mark.parametrize(
    ("advantage", "ratio", "push", "clipped"),
    [(1.0, 1.5, 0.0, 1), (1.0, 0.5, 0.5, 0), (-1.0, 1.5, -1.5, 0), (-1.0, 0.5, 0.0, 1), (1.0, 1.0, 1.0, 0)],
)
def test_clipping_stops_what_went_too_far_and_never_the_way_back(
    advantage: float, ratio: float, push: float, clipped: int
) -> None:
    found, done = _one(CLIP, ratio, advantage)
    assert found == pytest.approx(push)
    assert int(done.clipped) == clipped
    assert float(done.ratio_sum) == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("advantage", "ratio", "push"), [(1.0, 1.4, 1.4), (1.0, 1.6, 0.0), (-1.0, 0.8, 0.0), (-1.0, 0.95, -0.95)]
)
def test_each_side_is_clipped_at_its_own_bound(advantage: float, ratio: float, push: float) -> None:
    assert _one(Estimator(clip_low=0.1, clip_high=0.5), ratio, advantage)[0] == pytest.approx(push)


def test_the_token_limit_divides_whatever_the_longest_completion_was() -> None:
    def slope(max_tokens: int) -> float:
        new_NT = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
        done = policy_loss(
            Estimator(normalisation="max-tokens"), new_NT, new_NT.detach(), torch.ones(1, 2), torch.ones(1, 2).bool(),
            completions=1, tokens=2, max_tokens=max_tokens,
        )  # fmt: skip
        (slope_NT,) = torch.autograd.grad(done.loss, new_NT)
        return float(slope_NT[0, 0])

    assert (slope(2), slope(8)) == pytest.approx((-1 / 2, -1 / 8))


def test_tokens_outside_the_mask_are_in_no_count() -> None:
    logprobs_NT, mask_NT = torch.zeros(2, 3, dtype=torch.float64), torch.tensor([[1, 1, 0], [1, 0, 0]]).bool()
    done = policy_loss(CLIP, logprobs_NT, logprobs_NT - 1, torch.ones(2, 3), mask_NT, completions=2, tokens=3)
    assert (int(done.clipped), int(done.tokens)) == (3, 3)
    assert float(done.ratio_sum) == pytest.approx(3 * math.e)


def test_the_exact_penalty_charges_a_token_with_the_kl_of_the_states_after_it() -> None:
    """Not with that of the state in which it was chosen: that has no part in expectation, and only adds noise."""
    estimator = Estimator(kl="exact-in-loss", kl_per="completion", beta=1.0)
    logprobs_NT = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    penalty = exact_penalty(estimator, logprobs_NT, torch.tensor([[0.5, 0.25, 2.0]], dtype=torch.float64))
    (slope_NT,) = torch.autograd.grad(penalty.sum(), logprobs_NT)
    assert slope_NT.tolist() == [[2.25, 2.0, 0.0]]


def test_at_ratio_one_clipping_and_reuse_change_nothing() -> None:
    assert _one(CLIP, 1.0, 0.7)[0] == _one(Estimator(), 1.0, 0.7)[0] == _one(Estimator(epochs=3), 1.0, 0.7)[0]


def test_reuse_without_clipping_weighs_by_the_ratio() -> None:
    assert _one(Estimator(epochs=2), 1.5, 1.0)[0] == pytest.approx(1.5)


def _by_length(estimator: Estimator) -> tuple[float, float]:
    """Return the gradient per token of two equally rewarded completions of lengths 2 and 20."""
    new_NT = torch.zeros(2, 20, dtype=torch.float64, requires_grad=True)
    mask_NT = torch.arange(20) < torch.tensor([[2], [20]])
    done = policy_loss(
        estimator, new_NT, new_NT.detach(), torch.ones(2, 20), mask_NT, completions=2, tokens=22, max_tokens=20
    )
    (slope_NT,) = torch.autograd.grad(done.loss, new_NT)
    return float(slope_NT[0, 0]), float(slope_NT[1, 19])


def test_equal_rewards_have_equal_gradients_per_token_at_any_length() -> None:
    for normalisation in ("completions", "tokens", "max-tokens"):
        short, long = _by_length(make_estimator({"normalisation": normalisation}))
        assert short == long


def test_a_mean_per_completion_pays_a_short_answer_ten_times_as_much_per_token() -> None:
    short, long = _by_length(Estimator(normalisation="per-completion"))
    assert short == pytest.approx(10 * long)


def test_the_end_token_is_trained_once_and_padding_after_it_never() -> None:
    """Where pad = eos a mask made by comparing ids loses the end token or trains the padding; ours comes from lengths."""
    slope_NT = _slope(Estimator(), 1)
    lengths = [1, 2, 3, 4, 4, 2, 1, 3]
    for row, (length, advantage) in enumerate(zip(lengths, [1, 0, 0, 1, 0, 0, 0.5, 0], strict=True)):
        assert slope_NT[row].tolist() == pytest.approx([-advantage / 8] * length + [0.0] * (4 - length))


def test_an_exact_kl_needs_no_sampled_tokens_probability() -> None:
    logits_RV = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logprobs_RV = logits_RV.log_softmax(-1)
    assert bool((exact_per_state(logprobs_RV, logprobs_RV.roll(1, -1)) > 0).all())
    assert float(exact_per_state(logprobs_RV, logprobs_RV).abs().max()) == 0


def test_the_entropy_of_a_state_is_that_of_its_distribution() -> None:
    logprobs_RV = torch.tensor([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]], dtype=torch.float64).log()
    assert entropy_per_state(logprobs_RV).tolist() == pytest.approx([math.log(4), 0.0])


def test_an_impossible_token_counts_nothing_in_the_exact_kl() -> None:
    logprobs_RV = torch.tensor([[0.5, 0.5, 0.0]], dtype=torch.float64).log().requires_grad_()
    ref_RV = torch.tensor([[0.25, 0.25, 0.5]], dtype=torch.float64).log()
    kl_R = exact_per_state(logprobs_RV, ref_RV)
    (slope_RV,) = torch.autograd.grad(kl_R.sum(), logprobs_RV)
    assert float(kl_R.detach()) == pytest.approx(torch.log(torch.tensor(2.0)).item())
    assert bool(slope_RV.isfinite().all())
