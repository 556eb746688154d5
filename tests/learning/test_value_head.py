"""The learned baseline: it fits what is linear, forgets slowly, and never reads outside the mask."""

from __future__ import annotations

import pytest
import torch

from lockedroom.learning.value_head import new_value_head, predict_values, updated_value_head, value_loss


def _data(rows: int = 64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    features_NTC = torch.randn(rows, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask_NT = torch.arange(3) < torch.arange(rows).remainder(3).add(1).unsqueeze(-1)
    return features_NTC, features_NTC @ torch.tensor([1.0, -2.0, 0.5, 0.0]).double() + 0.3, mask_NT


def test_a_new_head_predicts_nothing() -> None:
    features_NTC, _, _ = _data()
    assert float(predict_values(new_value_head(4), features_NTC).abs().max()) == 0


def test_a_linear_return_is_learned_at_once() -> None:
    features_NTC, returns_NT, mask_NT = _data()
    head = updated_value_head(new_value_head(4), features_NTC, returns_NT, mask_NT, ridge=1e-9)
    assert float(value_loss(predict_values(head, features_NTC), returns_NT, mask_NT)) < 1e-12


def test_an_update_lowers_the_loss_on_what_it_saw() -> None:
    features_NTC, returns_NT, mask_NT = _data()
    head = new_value_head(4)
    before = value_loss(predict_values(head, features_NTC), returns_NT, mask_NT)
    after_head = updated_value_head(head, features_NTC, returns_NT, mask_NT)
    assert float(value_loss(predict_values(after_head, features_NTC), returns_NT, mask_NT)) < 0.01 * float(before)


def test_a_batch_without_tokens_changes_nothing() -> None:
    features_NTC, returns_NT, mask_NT = _data()
    head = updated_value_head(new_value_head(4), features_NTC, returns_NT, mask_NT)
    assert updated_value_head(head, features_NTC, returns_NT, mask_NT & False) is head
    assert float(value_loss(returns_NT, returns_NT + 1, mask_NT & False)) == 0


def test_what_stands_outside_the_mask_is_neither_learned_nor_measured() -> None:
    features_NTC, returns_NT, mask_NT = _data()
    nan_NT = returns_NT.where(mask_NT, float("nan"))
    clean, other = (updated_value_head(new_value_head(4), features_NTC, r, mask_NT) for r in (returns_NT, nan_NT))
    assert torch.equal(clean.weights_D, other.weights_D)
    assert bool(value_loss(predict_values(clean, features_NTC), nan_NT, mask_NT).isfinite())


def test_old_batches_fade() -> None:
    features_NTC, returns_NT, mask_NT = _data()
    head = updated_value_head(new_value_head(4), features_NTC, returns_NT, mask_NT)
    for _ in range(60):
        head = updated_value_head(head, features_NTC, returns_NT + 1, mask_NT)
    error = value_loss(predict_values(head, features_NTC), returns_NT + 1, mask_NT)
    assert float(error) < 1e-3


def test_features_without_variation_do_not_stop_it() -> None:
    ones_NTC = torch.ones(4, 2, 3)
    head = updated_value_head(new_value_head(3), ones_NTC, torch.full((4, 2), 0.7), torch.ones(4, 2).bool())
    assert predict_values(head, ones_NTC).mean().item() == pytest.approx(0.7, abs=0.01)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_the_ridge_is_relative_to_the_size_of_the_features(size: float) -> None:
    features_NTC, returns_NT, mask_NT = _data()
    head = updated_value_head(new_value_head(4), size * features_NTC, returns_NT, mask_NT, ridge=0.1)
    gram_DD = head.gram_DD + 0.1 * head.gram_DD.diagonal().mean() * torch.eye(5, dtype=torch.float64)
    assert torch.allclose(gram_DD @ head.weights_D, head.moments_D)
