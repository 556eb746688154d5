"""The court: is the expected gradient of an estimator the gradient of J, and at what variance?

Letters: B batches, X prompts (each once in a batch), G completions of each, N = X·G rows, T tokens, D parameters (the
logits of all states of all prompts). Where all batches can be listed, expectations are exact sums; else they are means of
drawn batches, with an interval that accuses falsely in at most 1 of 1,000 cases.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec
import torch

from lockedroom.learning import enumeration, kl
from lockedroom.learning.advantages import token_advantages
from lockedroom.learning.enumeration import MicroWorld
from lockedroom.learning.estimator import Estimator
from lockedroom.learning.objective import policy_loss

if TYPE_CHECKING:
    from torch import Tensor

Verdict = Literal["UNBIASED", "BIASED", "BROKEN"]
EXACT = 1e-9  # relative; float64 enumeration is good to 1e-13
TWO_SIDED_999 = 3.2905  # standard normal quantile
EMA = 0.3  # a running mean from earlier batches


class Batches(msgspec.Struct, frozen=True):
    """Batches of a world, and what their gradients are compared with.

    rows_BN: which completion of its prompt each row is. weights_B: probability of each batch. reward_D, kl_D: the exact
    gradients of E[R] and of −KL. best_variance: trace of the variance of a batch of REINFORCE with the best constant
    baseline of each prompt.
    """

    world: MicroWorld
    group: int
    rows_BN: Tensor
    weights_B: Tensor
    exact: bool
    reward_D: Tensor
    kl_D: Tensor
    best_variance: float

    def target(self, beta: float) -> Tensor:
        """Return ∇J, shape D."""
        return self.reward_D + beta * self.kl_D


def _batches(world: MicroWorld, group: int, rows_BN: Tensor, weights_B: Tensor, *, exact: bool) -> Batches:
    reward_XSV = enumeration.exact_gradient(world)
    kl_XSV = enumeration.exact_gradient(world, 1.0) - reward_XSV
    prompts = len(reward_XSV)
    noise = sum(
        facts.second_best - float((prompts * gradient_SV).square().sum())
        for facts, gradient_SV in zip(enumeration.baseline_facts(world), reward_XSV, strict=True)
    )
    return Batches(
        world, group, rows_BN, weights_B, exact, reward_XSV.flatten(), kl_XSV.flatten(), noise / prompts**2 / group
    )


def all_batches(world: MicroWorld, group: int) -> Batches:
    """List every batch, in every order, with its probability under the policy that sampled."""
    old_XM = enumeration.logprobs(world.listed, world.old_logits_XSV)
    prompts, listed = old_XM.shape
    rows_BN = torch.cartesian_prod(*[torch.arange(listed)] * (prompts * group))
    logs_BN = old_XM[_prompt_of_row(prompts, group), rows_BN]
    return _batches(world, group, rows_BN, logs_BN.sum(-1).exp(), exact=True)


def drawn_batches(world: MicroWorld, group: int, samples: int, seed: int) -> Batches:
    """Draw batches from the policy that sampled; all have one weight."""
    generator = torch.Generator().manual_seed(seed)
    old_XM = enumeration.logprobs(world.listed, world.old_logits_XSV).exp()
    drawn_XBG = torch.stack(
        [torch.multinomial(old_M, samples * group, True, generator=generator).view(samples, group) for old_M in old_XM]
    )
    weights_B = torch.full((samples,), 1 / samples, dtype=torch.float64)
    return _batches(world, group, drawn_XBG.transpose(0, 1).reshape(samples, -1), weights_B, exact=False)


class BatchTensors(msgspec.Struct, frozen=True):
    """What an estimator is given, for all batches; float64, 0 outside the mask."""

    logprobs_BNT: Tensor
    old_logprobs_BNT: Tensor
    ref_logprobs_BNT: Tensor
    kl_exact_BNT: Tensor
    values_BNT: Tensor
    mask_BNT: Tensor
    rewards_BPG: Tensor


def batch_tensors(batches: Batches) -> BatchTensors:
    """Return every batch as the tensors that a trainer would hold."""
    world, rows_BN = batches.world, batches.rows_BN
    listed, prompt_N = world.listed, _prompt_of_row(len(world.rewards_XM), batches.group)
    table_XSV, ref_XSV = world.logits_XSV.log_softmax(-1), world.ref_logits_XSV.log_softmax(-1)
    kl_XS = kl.exact_per_state(table_XSV, ref_XSV)
    mask_BNT, states_BNT = listed.mask_MT[rows_BN], listed.states_MT[rows_BN]
    prompt_N1 = prompt_N.unsqueeze(-1)

    def of_rows(logits_XSV: Tensor) -> Tensor:
        return enumeration.token_logprobs(listed, logits_XSV)[prompt_N, rows_BN]

    return BatchTensors(
        of_rows(world.logits_XSV),
        of_rows(world.old_logits_XSV),
        of_rows(world.ref_logits_XSV),
        kl_XS[prompt_N1, states_BNT].where(mask_BNT, 0.0),
        world.values_XS[prompt_N1, states_BNT].where(mask_BNT, 0.0),
        mask_BNT,
        world.rewards_XM[prompt_N, rows_BN].view(len(rows_BN), -1, batches.group),
    )


Slopes = tuple["Tensor", "Tensor"]  # of the loss in logprobs_BNT, and in kl_exact_BNT


def estimator_slopes(estimator: Estimator, given: BatchTensors) -> Slopes:
    """Return how the estimator's loss of each batch changes with each log-probability and each state's exact KL."""
    max_tokens = given.mask_BNT.shape[-1]

    def loss(logprobs_NT: Tensor, kl_exact_NT: Tensor, rest: tuple[Tensor, ...]) -> Tensor:
        old_NT, ref_NT, values_NT, mask_NT, rewards_PG = rest
        scored_PG = torch.ones_like(rewards_PG, dtype=torch.bool)
        done = token_advantages(
            estimator, rewards_PG, scored_PG, mask_NT,
            k1_NT=old_NT - ref_NT, values_NT=values_NT, passed_PG=rewards_PG >= 1, ema=EMA,
        )  # fmt: skip
        return policy_loss(
            estimator, logprobs_NT, old_NT, done.advantages_NT, done.mask_NT,
            completions=done.used_PG.sum(), tokens=done.mask_NT.sum(), max_tokens=max_tokens,
            ref_logprobs_NT=ref_NT, kl_exact_NT=kl_exact_NT,
        ).loss  # fmt: skip

    slopes = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)))(
        given.logprobs_BNT,
        given.kl_exact_BNT,
        (given.old_logprobs_BNT, given.ref_logprobs_BNT, given.values_BNT, given.mask_BNT, given.rewards_BPG),
    )
    return slopes[0], slopes[1]


def gradients(batches: Batches, slopes: Slopes) -> Tensor:
    """Return the estimate of ∇J that each batch gives, shape BD: minus the loss's gradient, by the chain rule."""
    world = batches.world
    scores_XMTSV = enumeration.scores(world.listed, world.logits_XSV)
    kl_scores_XMTSV = _kl_scores(world)
    gradient_BXSV = torch.zeros(len(batches.rows_BN), *world.logits_XSV.shape, dtype=torch.float64)
    for slopes_BNT, of_XMTSV in zip(slopes, (scores_XMTSV, kl_scores_XMTSV), strict=True):
        if not bool(slopes_BNT.any()):
            continue  # most losses have no exact KL in them
        for prompt in range(len(world.rewards_XM)):
            mine = slice(prompt * batches.group, (prompt + 1) * batches.group)
            of_BGTSV = of_XMTSV[prompt][batches.rows_BN[:, mine]]
            gradient_BXSV[:, prompt] -= torch.einsum("bgt,bgtsv->bsv", slopes_BNT[:, mine], of_BGTSV)
    return gradient_BXSV.flatten(1)


def _kl_scores(world: MicroWorld) -> Tensor:
    """Return ∇KL(state) of the state before each token, shape XMTSV: π·(log π − log π_ref − KL)."""
    table_XSV = world.logits_XSV.log_softmax(-1)
    difference_XSV = table_XSV - world.ref_logits_XSV.log_softmax(-1)
    slope_XSV = table_XSV.exp() * (difference_XSV - (table_XSV.exp() * difference_XSV).sum(-1, keepdim=True))
    states_MTS = torch.nn.functional.one_hot(world.listed.states_MT, world.listed.states).double()
    return torch.einsum("mts,xsv->xmtsv", states_MTS * world.listed.mask_MT.unsqueeze(-1), slope_XSV)


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an estimator did in one world.

    bias: ‖E g − ∇J‖ / ‖∇J‖, in [bias_low, bias_high] (equal where exact). scale, cosine: of E g along and against ∇J.
    kl_scale, kl_cosine: the same of the KL term alone. noise: trace of the variance of a batch's gradient, brought to scale
    one, over that of REINFORCE with the best constant baseline of each prompt; None where the gradient has no right part.
    """

    world: str
    batches: int
    exact: bool
    bias: float
    bias_low: float
    bias_high: float
    scale: float
    cosine: float
    kl_scale: float | None = None
    kl_cosine: float | None = None
    noise: float | None = None
    verdict: Verdict
    said: str


def judge(
    batches: Batches,
    gradients_BD: Tensor,
    beta: float,
    *,
    plain_BD: Tensor | None = None,
    rounding: float = EXACT,
) -> Finding:
    """Compare gradients of all batches with the exact ∇J for this beta; plain_BD: the same without the KL term.

    rounding: a relative bias up to this is none.
    """
    target_D = batches.target(beta)
    mean_D = batches.weights_B @ gradients_BD
    bias, low, high = _bias(batches, gradients_BD - target_D, float(target_D.norm()))
    scale, cosine = _along(mean_D, target_D)
    kl_scale = kl_cosine = None
    if plain_BD is not None:
        kl_scale, kl_cosine = _along(mean_D - batches.weights_B @ plain_BD, beta * batches.kl_D)
    variance = float(batches.weights_B @ (gradients_BD - mean_D).square().sum(-1))
    verdict, said = _verdict(low, (scale, cosine), (kl_scale, kl_cosine), rounding)
    if verdict == "BIASED" and not batches.exact:
        said = f"off by at least {low:.1%} of ∇J"
    return Finding(
        world=batches.world.name,
        batches=len(gradients_BD),
        exact=batches.exact,
        bias=bias,
        bias_low=low,
        bias_high=high,
        scale=scale,
        cosine=cosine,
        kl_scale=kl_scale,
        kl_cosine=kl_cosine,
        noise=variance / scale**2 / batches.best_variance if scale > rounding else None,
        verdict=verdict,
        said=said,
    )


def _verdict(
    bias: float, whole: tuple[float, float], pull: tuple[float | None, float | None], rounding: float
) -> tuple[Verdict, str]:
    """Return the verdict and what it rests on. whole, pull: (scale, cosine) of the gradient and of its KL term."""
    (scale, cosine), (kl_scale, kl_cosine) = whole, pull
    if bias <= rounding:
        return "UNBIASED", "the expected gradient is ∇J"
    if kl_scale is not None and abs(kl_scale) <= rounding:
        return "BROKEN", "the KL term has expected gradient zero"
    if abs(scale) <= rounding:
        return "BROKEN", "the expected gradient has no part along ∇J"
    if scale < 0:
        return "BROKEN", f"the expected gradient points away from ∇J: cosine {cosine:.4f}"
    if kl_cosine is not None and kl_cosine < 0:
        return "BROKEN", f"the KL term pushes away from the reference: cosine {kl_cosine:.4f}"
    if 1 - cosine <= rounding:
        return "BIASED", f"in length only: the expected gradient is {scale:.4g} × ∇J"
    return "BIASED", f"in direction: cosine {cosine:.5f}, and {scale:.3g} × ∇J along it"


def _bias(batches: Batches, off_BD: Tensor, size: float) -> tuple[float, float, float]:
    """Return (estimate, low, high) of ‖E off‖ / size. off_BD: gradient minus ∇J.

    Drawn: one half of the batches gives a direction, the other the mean along it with its normal interval, a lower bound
    of the length whatever the dimension; above, the triangle inequality. The estimate is the U-statistic of the square.
    """
    mean_D = batches.weights_B @ off_BD
    length = float(mean_D.norm())
    if batches.exact:
        bias = length / size
        return bias, bias, bias
    n = len(off_BD)
    spread = float((off_BD - mean_D).square().sum() / (n - 1))
    unbiased = math.sqrt(max(0.0, length**2 - spread / n))
    first_D, second_HD = off_BD[: n // 2].mean(0), off_BD[n // 2 :]
    along_H = second_HD @ (first_D / first_D.norm().clamp(min=1e-300))
    low = float(along_H.mean() - TWO_SIDED_999 * along_H.std() / math.sqrt(len(along_H)))
    return unbiased / size, max(0.0, low) / size, (length + TWO_SIDED_999 * math.sqrt(spread / n)) / size


def _along(mean_D: Tensor, target_D: Tensor) -> tuple[float, float]:
    """Return (length of the projection over that of the target, cosine; 0 when there is nothing to compare)."""
    inner = float(mean_D @ target_D)
    size = float(target_D.norm())
    length = float(mean_D.norm())
    return inner / size**2, inner / (size * length) if length > EXACT * size else 0.0


def without_kl(estimator: Estimator) -> Estimator:
    """Return the same estimator with no KL term."""
    return msgspec.structs.replace(estimator, kl="none", kl_per="completion", beta=0.0)


Judge = Callable[[Estimator], Finding]


def builtin_judge(batches: Batches) -> Judge:
    """Return a judge of built-in estimators; gradients without KL are computed once."""
    given = batch_tensors(batches)
    plain: dict[Estimator, Tensor] = {}

    def gradient_of(estimator: Estimator) -> Tensor:
        return gradients(batches, estimator_slopes(estimator, given))

    def of(estimator: Estimator) -> Finding:
        if estimator.kl == "none":
            return judge(batches, gradient_of(estimator), 0.0)
        stripped = without_kl(estimator)
        if stripped not in plain:
            plain[stripped] = gradient_of(stripped)
        return judge(batches, gradient_of(estimator), estimator.beta, plain_BD=plain[stripped])

    return of


def every_combination(beta: float) -> list[Estimator]:
    """Return every combination of baseline, scale, KL, placement and normalisation that means something."""
    from lockedroom.errors import BadInput
    from lockedroom.learning import estimator as choices

    fields: Sequence[Sequence[str]] = [
        choices.Baseline.__args__,  # type: ignore[attr-defined]  # a Literal has its values there
        choices.Scale.__args__,  # type: ignore[attr-defined]
        choices.Kl.__args__,  # type: ignore[attr-defined]
        choices.KlPer.__args__,  # type: ignore[attr-defined]
        choices.Normalisation.__args__,  # type: ignore[attr-defined]
        choices.Keep.__args__,  # type: ignore[attr-defined]
    ]
    found = []
    for baseline, scale, term, per, normalisation, keep in itertools.product(*fields):
        if term == "none" and per == "token":
            continue
        named = {"baseline": baseline, "scale": scale, "kl": term, "kl_per": per, "keep": keep}
        made = msgspec.convert(
            {**named, "normalisation": normalisation, "beta": 0.0 if term == "none" else beta}, Estimator
        )
        try:
            choices.check_estimator(made)
        except BadInput:
            continue
        found.append(made)
    return found


def _prompt_of_row(prompts: int, group: int) -> Tensor:
    return torch.arange(prompts).repeat_interleave(group)
