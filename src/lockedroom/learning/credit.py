"""Credit assignment: which step's choice is told that it earned the reward, and with which sign.

∇J = E[A·Σ_t ∇log π(y_t | x, y_<t)]: with one reward at the end, every step's term carries the same advantage. Switching a
step's credit off drops its term, so the parameters that decide this step get no gradient, whatever is earned. A weight of
−1 is the sign error that every implementer makes once.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from lockedroom.learning.bandit_worlds import World
from lockedroom.policy.tabular import TabularPolicy
from lockedroom.protocols import TrainingPass
from lockedroom.records import Sampling

CREDITS = ("both", "first", "second")


class WeightedPolicy(TabularPolicy):
    """A table that multiplies the gradient of step t's log-probability by `weights[t]`; values and sampling stay as they are."""

    weights: tuple[float, ...]

    @classmethod
    def over(cls, policy: TabularPolicy, weights: Sequence[float]) -> WeightedPolicy:
        """Return a policy that begins where another is."""
        made = cls(policy.shape, name=policy.spec.name)
        made.weights = tuple(weights)
        made.logits_SV.data.copy_(policy.logits_SV.data)
        return made

    def training_pass(
        self,
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[Sequence[int]]],
        sampling: Sampling,
    ) -> TrainingPass:
        given = super().training_pass(prompt_ids, completion_ids, sampling)
        fixed_NT = given.logprobs_NT.detach()
        weight_T = fixed_NT.new_tensor([*self.weights, 1.0][: fixed_NT.shape[1]])
        weighted_NT = fixed_NT + weight_T * (given.logprobs_NT - fixed_NT)
        return msgspec.structs.replace(given, logprobs_NT=weighted_NT)


def credit_weights(credit: str) -> tuple[float, float]:
    """Return what the gradients of the two steps are multiplied by."""
    return float(credit != "second"), float(credit != "first")


def credit_ceiling(world: World, policy: TabularPolicy, credit: str) -> float:
    """Return the greatest E[R] of a two-step world's policy that may change only the steps with credit.

    The other step stays as it is in `policy`.
    """
    if credit == "both":
        return world.ceiling()
    first_A, second_AA = step_probabilities(policy, world.contexts[0])
    A = len(world.actions)
    means_Y = world.mean_pays[0]
    mean_AA = [means_Y[a * A : (a + 1) * A] for a in range(A)]
    if credit == "first":
        return max(sum(p * r for p, r in zip(second_AA[a], mean_AA[a], strict=True)) for a in range(A))
    return sum(first_A[a] * max(mean_AA[a]) for a in range(A))


def step_probabilities(policy: TabularPolicy, prompt: str) -> tuple[list[float], list[list[float]]]:
    """Return π(first action) and π(second action | first action)."""
    probability_RV = policy.table().detach().softmax(-1)
    prompt_ids = policy.prompt_ids(prompt)
    actions = range(1, policy.shape.vocabulary)
    first: list[float] = probability_RV[policy.state(prompt_ids, ())][1:].tolist()
    return first, [probability_RV[policy.state(prompt_ids, (action,))][1:].tolist() for action in actions]
