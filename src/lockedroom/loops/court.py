"""The court holds its session: built-in estimators and a person's own functions before the same exact gradient."""

from __future__ import annotations

import contextlib
import inspect
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from lockedroom.errors import BadInput
from lockedroom.jsonl import open_for_reading
from lockedroom.learning import enumeration as world_facts
from lockedroom.learning.advantages import estimate_advantages
from lockedroom.learning.court import (
    Batches,
    Finding,
    Judge,
    all_batches,
    batch_tensors,
    builtin_judge,
    drawn_batches,
    every_combination,
    gradients,
    judge,
)
from lockedroom.learning.court_worlds import bandit_world, large_world, second_update, text_world
from lockedroom.learning.estimator import GROUP_BASELINES, PRESETS, Estimator, biased
from lockedroom.learning.foreign import (
    CALLED_WITH,
    GIVES_ADVANTAGES,
    SHAPES,
    Foreign,
    Rows,
    Shape,
    Unusable,
    foreign_advantages,
    foreign_slope,
    foreign_slopes,
)
from lockedroom.learning.objective import policy_loss
from lockedroom.learning.probes import faults
from lockedroom.results.court import SEVERITY, Combination, CourtResult, Judged, WorldFacts, worst
from lockedroom.visible import visible

if TYPE_CHECKING:
    from torch import Tensor

GROUP, LARGE_GROUP = 2, 4
BETA = 0.1  # of the rows that show one KL term each
FEWEST_SAMPLES, MOST_SAMPLES = 100, 100_000
FOREIGN_ROUNDING = 1e-5  # a person's function may compute in float32
TIMED_PROMPTS, TIMED_GROUP, TIMED_TOKENS = 64, 8, 8

Case = tuple[str, Estimator | Foreign]


def hold_court(
    asked: Sequence[Case], *, beta: float = 0.0, samples: int = 2000, seed: int = 0, cost: bool = True
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

    def judged(name: str, case: Estimator | Foreign) -> Judged:
        if isinstance(case, Foreign):
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


def judge_foreign(foreign: Foreign, batches: Sequence[Batches], *, beta: float, cost: bool) -> Judged:
    """Return the verdict on a person's function; what it raises or returns amiss makes it BROKEN, with one message."""
    findings: list[Finding] = []
    try:
        for one in batches:
            given = batch_tensors(one)
            whole_BD = gradients(one, foreign_slopes(foreign, given))
            plain_BD = None
            if beta > 0 and foreign.shape not in GIVES_ADVANTAGES:
                plain_BD = whole_BD - gradients(one, foreign_slopes(foreign, given, rewarded=False))
            findings.append(judge(one, whole_BD, beta, plain_BD=plain_BD, rounding=FOREIGN_ROUNDING))
        wrong = faults(foreign)
        spent = timed(lambda: _foreign_update(foreign)) if cost else None
    except Unusable as error:
        return Judged(
            name=foreign.name,
            verdict="BROKEN",
            said=str(error),
            beta=beta,
            findings=tuple(findings),
            shape=foreign.shape,
        )
    main = worst(findings)
    verdict = max([main.verdict, *(one.verdict for one in wrong)], key=SEVERITY.index)
    said = [main.said] if main.verdict != "UNBIASED" or not wrong else []
    return Judged(
        name=foreign.name, verdict=verdict, said="; ".join([*said, *(one.said for one in wrong)]), beta=beta,
        findings=tuple(findings), shape=foreign.shape, milliseconds=spent,
    )  # fmt: skip


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
        (estimator.epochs > 1, f"{estimator.epochs} updates a batch"),
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


def load_foreign(name: str, shape: str, keywords: Mapping[str, Any]) -> Foreign:
    """Return the function that `path/to/file.py:function` names. Raises BadInput when there is none that can be called so.

    The file runs in this process, so it is trusted as any import is.
    """
    path, _, function = name.rpartition(":")
    if not path.endswith(".py") or not function.isidentifier():
        raise BadInput(f"--module {visible(name, 120)!r}: name your function as path/to/file.py:function")
    known = [one for one in SHAPES if one == shape]
    if not known:
        raise BadInput(f"--shape {visible(shape, 60)!r}: known are {', '.join(SHAPES)}")
    with open_for_reading(Path(path)) as file:
        source = file.read()
    found = _imported(path, source).get(function)
    if not callable(found):
        raise BadInput(f"{path}: no function {function!r} in this file")
    _check_call(f"{path}:{function}", known[0], found, keywords)
    return Foreign(name, known[0], found, dict(keywords))


def _imported(path: str, source: bytes) -> dict[str, Any]:
    module = types.ModuleType("lockedroom_court_module")
    module.__file__ = path
    sys.modules[module.__name__] = module  # dataclasses look their module up
    with contextlib.redirect_stdout(sys.stderr):
        try:
            exec(
                compile(source, path, "exec", dont_inherit=True), module.__dict__
            )  # running the person's file is the point
        except (Exception, SystemExit) as error:  # noqa: BLE001  # a person's code may raise anything; they get one message
            line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
            raise BadInput(
                f"{path}{line}: importing it raised {type(error).__name__}: {visible(str(error), 200)}; fix the file"
            ) from None
    return module.__dict__


def _check_call(where: str, shape: Shape, function: Callable[..., Any], keywords: Mapping[str, Any]) -> None:
    positions, names = CALLED_WITH[shape]
    try:
        signature = inspect.signature(function)
    except ValueError:
        return  # some functions written in C do not tell theirs
    try:
        signature.bind(*[None] * positions, **dict.fromkeys(names), **keywords)
    except TypeError as error:
        wanted = ", ".join(f"{one}=" for one in names) or f"{positions} by position"
        raise BadInput(
            f"{where}{visible(str(signature), 300)} cannot be called as --shape {shape} calls it ({wanted}): {error}; wrap it "
            "in a function that can, or pass more arguments with --with NAME=VALUE"
        ) from None


def timed(update: Callable[[], object]) -> float:
    """Return the CPU time of one update in milliseconds, the least of three after a first."""
    update()
    spent = []
    for _ in range(3):
        began = time.process_time()
        update()
        spent.append(time.process_time() - began)
    return 1000 * min(spent)


def _timed_rows() -> tuple[Rows, Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = TIMED_PROMPTS * TIMED_GROUP
    logprobs_NT = -torch.rand(rows, TIMED_TOKENS, generator=generator, dtype=torch.float64)
    lengths_N1 = torch.randint(1, TIMED_TOKENS + 1, (rows, 1), generator=generator)
    mask_NT = torch.arange(TIMED_TOKENS) < lengths_N1
    rewards_PG = (torch.rand(TIMED_PROMPTS, TIMED_GROUP, generator=generator) < 0.4).double()
    return Rows(logprobs_NT, logprobs_NT, logprobs_NT - 0.1, rewards_PG.flatten() - 0.4, mask_NT), rewards_PG


def _builtin_update(estimator: Estimator) -> None:
    rows, rewards_PG = _timed_rows()
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


def _foreign_update(foreign: Foreign) -> None:
    rows, rewards_PG = _timed_rows()
    if foreign.shape in GIVES_ADVANTAGES:
        foreign_advantages(foreign, rewards_PG, rows.mask_NT)
    else:
        foreign_slope(foreign, rows)
