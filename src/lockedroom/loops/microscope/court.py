"""The court holds its session: built-in estimators and a person's own functions before the same exact gradient."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import torch

from lockedroom.errors import BadInput
from lockedroom.learning import enumeration as world_facts
from lockedroom.learning.advantages import estimate_advantages
from lockedroom.learning.court import (
    Batches,
    Judge,
    all_batches,
    builtin_judge,
    drawn_batches,
    every_combination,
)
from lockedroom.learning.court_worlds import bandit_world, large_world, second_update, text_world
from lockedroom.learning.estimator import GROUP_BASELINES, PRESETS, Estimator, biased
from lockedroom.learning.objective import policy_loss
from lockedroom.loops.microscope.court_foreign import Named, judge_foreign
from lockedroom.loops.microscope.court_timing import TIMED_TOKENS, timed, timed_rows
from lockedroom.results.microscope.court import Combination, CourtResult, Judged, WorldFacts, worst
from lockedroom.wording import counted

if TYPE_CHECKING:
    from torch import Tensor

GROUP, LARGE_GROUP = 2, 4
BETA = 0.1  # of the rows that show one KL term each
FEWEST_SAMPLES, MOST_SAMPLES = 100, 100_000

Case = Estimator | Named


def hold_court(
    asked: Sequence[tuple[str, Case]], *, beta: float = 0.0, samples: int = 2000, seed: int = 0, cost: bool = True
) -> CourtResult:
    """Judge what is asked, with the presets beside it; or, asked nothing, every built-in choice and combination.

    beta: weight of KL in the J that a person's function is compared with. samples: batches drawn in the large world.
    Raises BadInput for a number of samples that says nothing or takes hours, and for a seed out of range.
    """
    if not FEWEST_SAMPLES <= samples <= MOST_SAMPLES:
        raise BadInput(f"--samples {samples}: expected {FEWEST_SAMPLES} to {MOST_SAMPLES:,} batches")
    if not 0 <= seed < 2**63:
        raise BadInput(f"--seed {seed}: expected 0 or more, below 2^63")
    began = time.process_time()
    worlds = (bandit_world(), text_world(), large_world())
    fresh = (
        all_batches(worlds[0], GROUP),
        all_batches(worlds[1], GROUP),
        drawn_batches(worlds[2], LARGE_GROUP, samples, seed),
    )
    reused = all_batches(second_update(worlds[1]), GROUP)
    judges, reuse = [builtin_judge(batches) for batches in fresh], builtin_judge(reused)

    def judged(name: str, case: Case) -> Judged:
        if isinstance(case, Named):
            return judge_foreign(case, fresh, beta=beta, cost=cost)
        return judge_builtin(name, case, judges if case.epochs == 1 else [*judges, reuse], cost=cost)

    beside = list(PRESETS.items()) if asked else [*PRESETS.items(), *one_choice_each()]
    return CourtResult(
        asked=tuple(judged(name, case) for name, case in asked),
        builtin=tuple(judged(name, case) for name, case in beside),
        combinations=() if asked else judge_combinations(judges[:2]),
        worlds=tuple(facts_of(batches) for batches in fresh),
        samples=samples,
        seed=seed,
        cpu_seconds=time.process_time() - began,
    )


def one_choice_each() -> list[tuple[str, Estimator]]:
    """Return every choice alone, beside leave-one-out without KL: what each row shows is that choice."""
    plain = Estimator(baseline="leave-one-out")
    base = msgspec.structs.replace
    baselines = ("none", "batch-mean", "group-mean", "ema", "leave-one-out", "value")
    terms = ("k1-in-reward", "k1-in-loss", "k2-in-loss", "k3-in-loss", "k3-ratio-in-loss", "exact-in-loss")
    rows = [(f"baseline = {one}", base(plain, baseline=one)) for one in baselines]
    rows.append(("scale = group-std", base(plain, scale="group-std")))
    for term in terms:
        rows.append((f"kl = {term}", base(plain, kl=term, beta=BETA)))
        rows.append((f"kl = {term}, kl_per = token", base(plain, kl=term, kl_per="token", beta=BETA)))
    rows += [
        (f"normalisation = {one}", base(plain, normalisation=one)) for one in ("tokens", "per-completion", "max-tokens")
    ]
    rows.append(("epochs = 2", base(plain, epochs=2)))
    rows.append(("epochs = 2, clip = 0.2", base(plain, epochs=2, clip_low=0.2, clip_high=0.2)))
    return rows


def judge_builtin(name: str, estimator: Estimator, judges: Sequence[Judge], *, cost: bool) -> Judged:
    """Return the verdict on a built-in estimator: the worst of the worlds."""
    findings = tuple(judge_of(estimator) for judge_of in judges)
    main = worst(findings)
    return Judged(
        name=name,
        verdict=main.verdict,
        said=main.said,
        beta=estimator.beta,
        findings=findings,
        estimator=estimator,
        reasons=biased(estimator),
        needs=needs(estimator),
        milliseconds=timed(lambda: _builtin_update(estimator)) if cost else None,
    )


def judge_combinations(judges: Sequence[Judge]) -> tuple[Combination, ...]:
    """Return the verdict on every combination of built-in choices, by enumeration alone."""
    found = []
    for estimator in every_combination(BETA):
        main = worst([judge_of(estimator) for judge_of in judges])
        found.append(Combination(estimator=estimator, verdict=main.verdict, said=main.said, reasons=biased(estimator)))
    return tuple(found)


def needs(estimator: Estimator) -> tuple[str, ...]:
    """Return what an estimator costs beside its arithmetic."""
    named = (
        (estimator.kl != "none", "reference"),
        (estimator.kl == "exact-in-loss", "whole vocabulary"),
        (estimator.baseline == "value", "value head"),
        (estimator.baseline in GROUP_BASELINES, "groups of 2 or more"),
        (estimator.epochs > 1, f"{counted(estimator.epochs, 'update')} a batch"),
    )
    return tuple(text for holds, text in named if holds)


def facts_of(batches: Batches) -> WorldFacts:
    """Return the exact numbers of a world."""
    world = batches.world
    policy_XM = world_facts.logprobs(world.listed, world.logits_XSV)
    ref_XM = world_facts.logprobs(world.listed, world.ref_logits_XSV)
    passed_XM = world.rewards_XM >= 1
    ks = (1, 2, 4, 8)
    return WorldFacts(
        name=world.name,
        prompts=len(policy_XM),
        completions=policy_XM.shape[1],
        mean_reward=float(world_facts.objective(world, world.logits_XSV)),
        kl=float(world_facts.reverse_kl(policy_XM, ref_XM).mean()),
        forward_kl=float(world_facts.reverse_kl(ref_XM, policy_XM).mean()),
        entropy=float(world_facts.entropy(policy_XM).mean()),
        pass_at={k: float(world_facts.pass_at_k(policy_XM, passed_XM, k)) for k in ks},
        best_of={n: float((_best(policy_XM, world.rewards_XM, n) * world.rewards_XM).sum(-1).mean()) for n in ks},
        baselines=world_facts.baseline_facts(world),
    )


def _best(policy_XM: Tensor, rewards_XM: Tensor, n: int) -> Tensor:
    return world_facts.best_of_n(policy_XM, rewards_XM, n).exp()


def _builtin_update(estimator: Estimator) -> None:
    rows, rewards_PG = timed_rows()
    given = rows.logprobs_NT.clone().requires_grad_()
    scored_PG = torch.ones_like(rewards_PG, dtype=torch.bool)
    done = estimate_advantages(
        estimator, rewards_PG, scored_PG, rows.mask_NT,
        k1_NT=rows.old_NT - rows.ref_NT, values_NT=rows.ref_NT, passed_PG=rewards_PG >= 1,
    )  # fmt: skip
    loss = policy_loss(
        estimator, given, rows.old_NT, done.advantages_NT, done.mask_NT,
        completions=done.completions, tokens=done.tokens, max_tokens=TIMED_TOKENS,
        ref_logprobs_NT=rows.ref_NT, kl_exact_NT=given.square(),
    ).loss  # fmt: skip
    loss.backward()  # type: ignore[no-untyped-call]  # PyTorch leaves it untyped
