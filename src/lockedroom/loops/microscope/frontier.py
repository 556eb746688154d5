"""The KL frontier of a world that can be listed: what is best, what is learned, what selection gets without learning.

The learned policies come from the same `Learner` as every other; where they stand is then computed exactly.
Shape letters: C contexts (the X of `learning.frontier`), Y completions (its M).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from torch import Tensor

from lockedroom.learning.bandit import completion_logprobs, mean_rewards
from lockedroom.learning.bandit_worlds import PayoffScorer, World, find_world, first_policy
from lockedroom.learning.enumeration import best_of_n, optimum
from lockedroom.learning.estimator import Estimator
from lockedroom.learning.frontier import best_of_n_bound, greatest_objective, place, reward_at_kl
from lockedroom.loops.attempt import judge
from lockedroom.loops.learning.update import Learner, LearnerSettings
from lockedroom.policy.tabular import TabularPolicy
from lockedroom.records import Example, Sampling
from lockedroom.results.microscope.folder import write_microscope
from lockedroom.results.microscope.frontier import (
    FORMAT,
    RESULT_JSON,
    RESULT_MD,
    BestOfN,
    CurvePoint,
    FrontierResult,
    FrontierSetting,
    Learned,
    break_even,
    check_setting,
    render_frontier,
)
from lockedroom.results.plain_folder import refuse_existing
from lockedroom.results.run_folder import indented_json

CURVE = [math.exp(2.0 - 0.12 * i) for i in range(50)]  # β from 7.4 to 0.02


def completions_of(setting: FrontierSetting) -> int:
    """Return how many completions tracing draws in all. Raises BadInput for unusable settings."""
    check_setting(setting)
    return len(setting.betas) * setting.steps * setting.draws * len(find_world(setting.world).contexts)


def trace_frontier(
    setting: FrontierSetting,
    out: Path | None = None,
    *,
    command: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
) -> FrontierResult:
    """Learn at each β, place everything exactly, write the folder `out` if given. Raises BadInput for unusable settings."""
    started, wall = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    check_setting(setting)
    world = find_world(setting.world)
    if out is not None:
        refuse_existing(out)
    reference = first_policy(world)
    ref_CY = completion_logprobs(world, reference).detach()
    rewards_CY = mean_rewards(world)
    learned, policies = [], {}
    for beta in setting.betas:
        policy, tokens = learn_at(world, setting, beta, progress)
        learned.append(_placed(world, policy, ref_CY, beta, tokens))
        policies[f"policy-beta-{beta:g}.safetensors"] = policy
    best = [_best(ref_CY, rewards_CY, n) for n in setting.ns]
    answer = world.length + 1
    result = FrontierResult(
        FORMAT,
        setting,
        world.about,
        answer,
        place(ref_CY, ref_CY, rewards_CY).reward,
        world.ceiling(),
        [_on_curve(ref_CY, rewards_CY, beta) for beta in CURVE],
        learned,
        best,
        [break_even(one, best, answer) for one in learned],
    )
    if out is not None:
        contents = {RESULT_JSON: indented_json(result), RESULT_MD: (render_frontier(result) + "\n").encode()}
        write_microscope(
            out, "frontier", setting, contents, policies=policies, seed=setting.seed, command=command, started=started,
            seconds=round(time.monotonic() - wall, 3),
        )  # fmt: skip
    return result


def learn_at(
    world: World, setting: FrontierSetting, beta: float, progress: Callable[[int], None] | None = None
) -> tuple[TabularPolicy, int]:
    """Return the policy learned with KL weight β, and the tokens sampled for it.

    At the optimum R − β·log(π/π_ref) is the same for all completions, so with a leave-one-out baseline the gradient's noise
    vanishes there, and what is learned comes to rest on the closed form.
    """
    policy, scorer = first_policy(world), PayoffScorer()
    learner = Learner(
        policy,
        policy.frozen_copy(),
        lambda examples, completions: judge(scorer, examples, completions),
        Estimator(baseline="leave-one-out", kl="k1-in-reward", beta=beta),
        settings=LearnerSettings(
            steps=setting.steps, learning_rate=setting.learning_rate, group=setting.draws, max_grad_norm=math.inf
        ),
        sampling=Sampling(seed=setting.seed),
    )
    rounds = [
        Example(id=context, prompt=context, expected_answer=dict(zip(world.texts, pays, strict=True)))
        for context, pays in zip(world.contexts, world.mean_pays, strict=True)
    ]
    tokens = 0
    for step in range(setting.steps):
        tokens += learner.step(rounds, step).metrics.tokens
        if progress is not None:
            progress(len(rounds) * setting.draws)
    return policy, tokens


def _placed(world: World, policy: TabularPolicy, ref_CY: Tensor, beta: float, tokens: int) -> Learned:
    rewards_CY = mean_rewards(world)
    at = place(completion_logprobs(world, policy).detach(), ref_CY, rewards_CY)
    best = place(optimum(ref_CY, rewards_CY, beta), ref_CY, rewards_CY)
    objective, greatest = at.reward - beta * at.kl, greatest_objective(ref_CY, rewards_CY, beta)
    return Learned(beta, at.reward, at.kl, best.reward, best.kl, objective, greatest, greatest - objective, tokens)


def _best(ref_CY: Tensor, rewards_CY: Tensor, n: int) -> BestOfN:
    at = place(best_of_n(ref_CY, rewards_CY, n), ref_CY, rewards_CY)
    return BestOfN(n, at.reward, at.kl, best_of_n_bound(n), reward_at_kl(ref_CY, rewards_CY, at.kl))


def _on_curve(ref_CY: Tensor, rewards_CY: Tensor, beta: float) -> CurvePoint:
    return CurvePoint(beta, *msgspec.structs.astuple(place(optimum(ref_CY, rewards_CY, beta), ref_CY, rewards_CY)))
