"""The microscope: a world so small that every number of a learning run can be checked against the exact one.

The learning is `Learner.step`'s, as for a language model; only the policy is a table and the scorer a payoff card.
Shape letters: C contexts, Y completions, N completions of an update, T tokens, K parameters, U updates measured.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lockedroom.errors import BadInput
from lockedroom.jsonl import encode_lines
from lockedroom.learning import bandit as exact
from lockedroom.learning.advantages import baselines
from lockedroom.learning.bandit_worlds import PayoffScorer, World, draw_rounds, find_world, first_policy
from lockedroom.learning.credit import WeightedPolicy, credit_ceiling, credit_weights
from lockedroom.learning.estimator import Estimator
from lockedroom.learning.value_head import predict_values
from lockedroom.loops.attempt import judge
from lockedroom.loops.learning.batch import Draw
from lockedroom.loops.learning.update import Learner, LearnerSettings, StepResult
from lockedroom.policy.tabular import TabularPolicy
from lockedroom.records import Completion, Sampling, Score
from lockedroom.results.microscope.bandit import (
    DRAWS_JSONL,
    FORMAT,
    LARGEST_SEED,
    MOST_COMPLETIONS,
    POLICY_FILE,
    RESULT_JSON,
    RESULT_MD,
    STEPS_JSONL,
    BanditResult,
    BanditSetting,
    BaselineRow,
    BaselineTable,
    DrawLine,
    Measured,
    StepLine,
    find_trouble,
)
from lockedroom.results.microscope.bandit_rendering import render_bandit
from lockedroom.results.microscope.folder import write_microscope
from lockedroom.results.plain_folder import refuse_existing
from lockedroom.results.run_folder import indented_json

COMPARED_DRAWS = 4  # a group in the comparison of baselines: small enough to list, large enough for leave-one-out
WARM_UP = 50  # updates that a running mean or a value head sees before its variance is measured
FASTER = 100.0  # the sabotage of the learning rate
EMA_DECAY = 0.1


class Looked(msgspec.Struct, frozen=True):
    """A finished look, and its folder if there is one."""

    result: BanditResult
    steps: list[StepLine]
    draws: list[DrawLine]
    path: Path | None


def look_at_bandit(setting: BanditSetting, out: Path | None = None, *, command: Sequence[str] = ()) -> Looked:
    """Learn in a micro-world under observation; write the folder `out` if given.

    Raises BadInput for settings that no learning can use.
    """
    started, wall = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    world = find_world(setting.world)
    _check(setting, world)
    if out is not None:
        refuse_existing(out)
    first = first_policy(world)
    policy = WeightedPolicy.over(first, _weights(setting, world))
    learner = make_learner(policy, Estimator(baseline=setting.baseline, ema_decay=EMA_DECAY), setting)
    steps: list[StepLine] = []
    draws: list[DrawLine] = []
    for step in range(setting.steps):
        examples = draw_rounds(world, setting.seed, step, setting.rounds)
        drawn = learner.draw(examples, step)
        draws += _draw_lines(learner, drawn, step)
        before_CY = exact.completion_logprobs(world, policy).detach()
        logits = policy.logits_SV.detach().clone()
        gradient_SV = exact.exact_objective(world, policy)[1]
        done = learner.update(drawn, step)
        moved_SV = policy.logits_SV.detach() - logits
        steps.append(_step_line(world, policy, done, before_CY, gradient_SV=gradient_SV, moved_SV=moved_SV))
    result = _sum_up(setting, world, first, policy, steps)
    if out is not None:
        contents = {
            DRAWS_JSONL: encode_lines(draws),
            STEPS_JSONL: encode_lines(steps),
            RESULT_JSON: indented_json(result),
            RESULT_MD: (render_bandit(result, steps) + "\n").encode(),
        }
        write_microscope(
            out, "bandit", setting, contents, policies={POLICY_FILE: policy}, seed=setting.seed, command=command,
            started=started, seconds=round(time.monotonic() - wall, 3),
        )  # fmt: skip
    return Looked(result, steps, draws, out)


def make_learner(
    policy: TabularPolicy, estimator: Estimator, setting: BanditSetting, rate: float | None = None
) -> Learner:
    """Return the learner of every micro-world: plain gradient ascent, so that each step can be checked by hand."""
    faster = FASTER if setting.sabotage == "learning-rate" else 1.0
    scorer = PayoffScorer()
    settings = LearnerSettings(
        steps=setting.steps,
        learning_rate=setting.learning_rate * faster if rate is None else rate,
        schedule="constant",
        optimizer="sgd",
        group=setting.draws,
        max_grad_norm=math.inf,
    )
    return Learner(
        policy,
        None,
        lambda examples, completions: judge(scorer, examples, completions),
        estimator,
        settings=settings,
        sampling=Sampling(seed=setting.seed),
    )


def _check(setting: BanditSetting, world: World) -> None:
    for name, value, least in (
        ("--draws", setting.draws, 1), ("--rounds", setting.rounds, 1), ("--steps", setting.steps, 1),
        ("--measured", setting.measured, 0), ("--seed", setting.seed, 0),
    ):  # fmt: skip
        if value < least:
            raise BadInput(f"{name} {value}: must be at least {least}")
    if setting.draws * setting.rounds > MOST_COMPLETIONS:
        raise BadInput(f"--draws {setting.draws} --rounds {setting.rounds}: more than {MOST_COMPLETIONS:,} an update")
    if setting.measured == 1:
        raise BadInput("--measured 1: one update has no variance; give 0 for none, or 2 or more")
    if setting.seed > LARGEST_SEED:
        raise BadInput(f"--seed {setting.seed}: must be at most {LARGEST_SEED}")
    if setting.credit != "both" and world.length != 2:
        raise BadInput(f"--credit {setting.credit}: {world.name} has one step; use --world two-step")
    if setting.baseline == "batch-mean" and setting.draws * setting.rounds == 1:
        raise BadInput(
            "--baseline batch-mean: the mean of one reward is that reward, so nothing is left; give --draws 2"
        )


def _weights(setting: BanditSetting, world: World) -> list[float]:
    sign = -1.0 if setting.sabotage == "sign" else 1.0
    weights = credit_weights(setting.credit) if world.length == 2 else (1.0,) * world.length
    return [sign * weight for weight in weights]


def _draw_lines(learner: Learner, drawn: Draw, step: int) -> list[DrawLine]:
    """Say of every draw what was subtracted from its reward, before the baseline learns from it."""
    group = learner.settings.group
    rewards = [one.reward for one in drawn.results if isinstance(one, Score)]
    rewards_PG = torch.tensor(rewards, dtype=torch.float64).view(-1, group)
    scored_PG = torch.ones_like(rewards_PG, dtype=torch.bool)
    baseline_PG, _ = baselines(learner.estimator, rewards_PG, scored_PG, learner.ema)
    values_NT = _values(learner, drawn)
    lines = []
    for n, (completion, reward, baseline) in enumerate(
        zip(drawn.completions, rewards, baseline_PG.ravel().tolist(), strict=True)
    ):
        assert isinstance(completion, Completion), "a table never fails"
        example = drawn.examples[n // group]
        subtracted = [baseline + value for value in values_NT[n, :-1].tolist()]
        probability = math.exp(completion.logprob or 0.0)
        lines.append(
            DrawLine(
                step, example.id, example.prompt, completion.text, probability, reward, subtracted,
                [reward - one for one in subtracted],
            )
        )  # fmt: skip
    return lines


def _values(learner: Learner, drawn: Draw) -> Tensor:
    """Return values_NT that the value head gives the states before it learns from them; 0 without one."""
    group = learner.settings.group
    prompts = [learner.policy.prompt_ids(example.prompt) for example in drawn.examples]
    ids = [one.token_ids or () for one in drawn.completions if isinstance(one, Completion)]
    groups = [ids[i : i + group] for i in range(0, len(ids), group)]
    features_NTC = learner.policy.value_features(prompts, groups)
    if learner.value_head is None:
        return features_NTC.new_zeros(features_NTC.shape[:2])
    return predict_values(learner.value_head, features_NTC)


def _step_line(
    world: World, policy: TabularPolicy, done: StepResult, before_CY: Tensor, *, gradient_SV: Tensor, moved_SV: Tensor
) -> StepLine:
    after_CY = exact.completion_logprobs(world, policy).detach()
    probability_CY = after_CY.exp()
    lengths = float(gradient_SV.norm() * moved_SV.norm())
    return StepLine(
        done.metrics.step,
        done.metrics.reward or 0.0,  # a table never fails, so there is one
        float((probability_CY * exact.mean_rewards(world)).sum(-1).mean()),
        float(gradient_SV.norm()),
        float((gradient_SV * moved_SV).sum()) / lengths if lengths > 1e-12 else None,
        float((probability_CY * (after_CY - before_CY)).sum(-1).mean()),
        float(-(probability_CY * after_CY).sum(-1).mean()),
        probability_CY.tolist(),
    )


def _sum_up(
    setting: BanditSetting, world: World, first: TabularPolicy, policy: TabularPolicy, steps: Sequence[StepLine]
) -> BanditResult:
    start, _ = exact.exact_objective(world, first)
    reachable = credit_ceiling(world, first, setting.credit) if world.length == 2 and len(world.contexts) == 1 else None
    result = BanditResult(
        FORMAT,
        setting,
        world.about,
        list(world.contexts),
        list(world.texts),
        [list(row) for row in world.mean_pays],
        exact.completion_logprobs(world, first).detach().exp().tolist(),
        start,
        steps[-1].expected_reward,
        world.ceiling(),
        world.blind_ceiling(),
        world.ceiling() if reachable is None else reachable,
        _moved(first, policy),
        compare_baselines(setting, world, first),
        [],
    )
    return msgspec.structs.replace(result, findings=find_trouble(result, steps))


def _moved(first: TabularPolicy, policy: TabularPolicy) -> list[float]:
    """Return the largest change of a logit in each step of a completion, over all prompts."""
    shape = policy.shape
    change_PS = (policy.logits_SV - first.logits_SV).detach().abs().amax(-1).view(len(shape.prompts), -1)
    sizes = [len(shape.actions) ** depth for depth in range(shape.length)]
    return [float(part.max()) for part in torch.split(change_PS, sizes, 1)]


def compare_baselines(setting: BanditSetting, world: World, policy: TabularPolicy) -> BaselineTable:
    """Return what each baseline does to the gradient's mean and variance at `policy`, exactly and as measured."""
    draws = exact.list_draws(world, policy)
    batches = exact.list_batches(draws, COMPARED_DRAWS)
    mean, optimal = exact.expected_reward(draws), exact.optimal_baseline(draws)
    one = {b: exact.variance(draws, b) for b in (0.0, mean, optimal)}
    rows: list[BaselineRow] = []
    for name, about in (
        ("none", "nothing is subtracted"),
        ("batch-mean", "the mean of these draws, the own reward included"),
        ("leave-one-out", "the mean of the other draws of the round"),
        ("ema", f"running mean (α = {EMA_DECAY}), at rest"),
        ("value", "E[R given the state before each step], learned"),
        ("b*", "the constant of least variance"),
    ):
        share, variance = _exact_row(name, draws, batches, several_steps=world.length > 1)
        none = rows[0].variance if rows else variance
        ratio = variance / none if variance is not None and none else None
        measured = _measure(setting, world, policy, name) if setting.measured and name != "b*" else None
        rows.append(BaselineRow(name, about, share, variance, ratio, measured))
    squared = exact.mean_squared_score(draws)
    helps = one[mean] <= one[0.0]
    return BaselineTable(COMPARED_DRAWS, optimal, mean, squared, one[0.0], one[mean], one[optimal], helps, rows)


def _exact_row(
    name: str, draws: exact.Draws, batches: exact.Batches | None, *, several_steps: bool
) -> tuple[float | None, float | None]:
    """Return share of ∇J and variance of the estimator from a group, by listing every group."""
    if batches is None or (name == "value" and several_steps):  # a value before each step is no constant of the draw
        return None, None
    rewards_BG = torch.from_numpy(batches.reward_BG)
    scored_BG = torch.ones_like(rewards_BG, dtype=torch.bool)
    extra = 0.0
    if name in ("batch-mean", "leave-one-out"):
        # Every listed batch is one group: its batch mean is its group mean.
        estimator = Estimator(baseline="group-mean" if name == "batch-mean" else "leave-one-out")
        baseline_BG = baselines(estimator, rewards_BG, scored_BG, 0.0)[0].numpy()
    elif name == "value":
        by_context = exact.mean_by_context(draws)
        baseline_BG = np.asarray([by_context[int(c)] for c in batches.context_B])[:, None]
    else:
        constant = {"none": 0.0, "ema": exact.expected_reward(draws), "b*": exact.optimal_baseline(draws)}[name]
        baseline_BG = np.full((1, 1), constant)
        if name == "ema":  # the running mean is itself random, and independent of the draws it is subtracted from
            spread = exact.running_mean_variance(batches, EMA_DECAY)
            extra = spread * exact.mean_squared_score(draws) / batches.reward_BG.shape[1]
    found = exact.moments(batches, batches.reward_BG - baseline_BG)
    return exact.share_of_gradient(found.mean_K, exact.gradient(draws)), found.variance + extra


def _measure(setting: BanditSetting, world: World, policy: TabularPolicy, baseline: str) -> Measured:
    """Return what the learner's own gradients do: many updates at a learning rate of 0, so that the policy stands still."""
    estimator = msgspec.convert({"baseline": baseline, "ema_decay": EMA_DECAY}, Estimator)
    still = TabularPolicy(policy.shape, name=policy.spec.name)
    still.logits_SV.data.copy_(policy.logits_SV.data)
    alike = msgspec.structs.replace(setting, draws=COMPARED_DRAWS, rounds=1)
    learner = make_learner(still, estimator, alike, rate=0.0)
    warm = WARM_UP if baseline in ("ema", "value") else 0
    rows: list[NDArray[np.float64]] = []
    for update in range(warm + setting.measured):
        # Steps before 0 are nobody else's: the same seed gives these updates other rounds and draws than the run's.
        step = -1 - update
        learner.step(draw_rounds(world, setting.seed, step, 1), step)
        assert still.logits_SV.grad is not None, "an update has just been made"
        rows.append(-still.logits_SV.grad.flatten().numpy().copy())
    gradient_K = exact.exact_objective(world, still)[1].flatten().numpy()
    return _measured(np.stack(rows[warm:]), gradient_K)


def _measured(estimate_UK: NDArray[np.float64], gradient_K: NDArray[np.float64]) -> Measured:
    U = len(estimate_UK)
    squared_U = ((estimate_UK - estimate_UK.mean(0)) ** 2).sum(-1) * U / max(U - 1, 1)
    share_U = estimate_UK @ gradient_K / max(float((gradient_K**2).sum()), 1e-300)
    error = 1 / math.sqrt(U)
    return Measured(
        U, float(squared_U.mean()), float(squared_U.std()) * error, float(share_U.mean()), float(share_U.std()) * error
    )
