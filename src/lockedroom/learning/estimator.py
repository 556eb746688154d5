"""What an estimator of ∇J consists of, the presets, and every reason why one is biased. Imports no PyTorch.

    J(θ) = E_x E_{y~π}[R(x, y)] − β · E_x[KL(π(·|x) ‖ π_ref(·|x))]

KL is over whole completions. "Biased" is said of the first update on freshly sampled completions, unless it is about
reuse; `lockedroom court` proves each sentence by enumeration.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Sequence
from typing import Literal

import msgspec

from lockedroom.errors import BadInput

Baseline = Literal["none", "batch-mean", "group-mean", "ema", "leave-one-out", "value"]
Scale = Literal["none", "group-std"]
Kl = Literal["none", "k1-in-reward", "k1-in-loss", "k2-in-loss", "k3-in-loss", "k3-ratio-in-loss", "exact-in-loss"]
KlPer = Literal["completion", "token"]
Normalisation = Literal["completions", "tokens", "per-completion", "max-tokens"]
Keep = Literal["all", "passed"]

GROUP_BASELINES = ("leave-one-out", "group-mean")


class Estimator(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to turn rewarded completions into a gradient. The default is REINFORCE: unbiased, without a baseline.

    baseline: subtracted from the reward. `leave-one-out`: mean of the *other* scored completions of the group;
        `group-mean`, `batch-mean`: own reward included; `ema`: running mean, used before it is updated; `value`: a
        learned value of the state before each token.
    scale: `group-std` divides by the standard deviation of the group's rewards.
    kl: where KL to the reference policy enters, and as what (see `learning.kl`); beta: its weight, in reward per nat.
    kl_per: `completion`: the term is that of the whole completion (for `exact-in-loss`: what a token does to the states
        after it counts). `token`: each token's own term alone; for `k1-in-reward` each token is charged what follows
        from it on, which is as exact as the whole.
    normalisation: what the sum over tokens is divided by. `completions` is the gradient of J; `tokens`: all tokens of the
        batch; `per-completion`: each completion's own length first; `max-tokens`: completions times the token limit.
    epochs: updates on the same completions. clip_low, clip_high: the importance ratio is held in
        [1 − clip_low, 1 + clip_high] (PPO, Schulman et al. 2017).
    ema_decay: share of the new batch mean in the running mean.
    keep: `passed` fine-tunes on what passed, whatever the baseline would say.
    """

    baseline: Baseline = "none"
    scale: Scale = "none"
    kl: Kl = "none"
    kl_per: KlPer = "completion"
    beta: float = 0.0
    normalisation: Normalisation = "completions"
    epochs: int = 1
    clip_low: float | None = None
    clip_high: float | None = None
    ema_decay: float = 0.1
    keep: Keep = "all"

    @property
    def uses_ratio(self) -> bool:
        """True when the loss weighs by π/π_old rather than taking log π alone."""
        return self.clip_low is not None or self.epochs > 1


PRESETS: dict[str, Estimator] = {
    # Williams 1992.
    "reinforce": Estimator(),
    # Kool et al. 2019; Ahmadian et al. 2024: KL belongs to the reward of the whole completion.
    "rloo": Estimator(baseline="leave-one-out", kl="k1-in-reward", beta=0.02),
    # Shao et al. 2024 (DeepSeekMath): biased in four ways, named.
    "grpo": Estimator(
        baseline="group-mean",
        scale="group-std",
        kl="k3-in-loss",
        kl_per="token",
        beta=0.02,
        normalisation="per-completion",
        clip_low=0.2,
        clip_high=0.2,
    ),
    # Liu et al. 2025: neither the standard deviation nor the own length; constant factors remain.
    "dr-grpo": Estimator(baseline="group-mean", normalisation="max-tokens", clip_low=0.2, clip_high=0.2),
    # Schulman et al. 2017; KL in the reward as Ouyang et al. 2022.
    "ppo-clip": Estimator(
        baseline="value", kl="k1-in-reward", kl_per="token", beta=0.02, epochs=2, clip_low=0.2, clip_high=0.2
    ),
    # Fine-tuning on what passed (RAFT, Dong et al. 2023; STaR, Zelikman et al. 2022).
    "rejection-sampling": Estimator(keep="passed"),
}


def parse_estimator(given: Sequence[str]) -> Estimator:
    """Return the estimator that `grpo`, `baseline=ema beta=0.1` or `grpo scale=none` names. Raises BadInput.

    `none` for clip_low and clip_high is no clipping.
    """
    presets = [text for text in given if "=" not in text]
    if len(presets) > 1:
        raise BadInput(f"estimator {' '.join(given)!r}: name one preset; the rest are fields, FIELD=VALUE")
    fields: dict[str, object] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if name in fields:
            raise BadInput(f"estimator {' '.join(given)!r}: {name} is given twice")
        if equals:
            fields[name] = None if name.startswith("clip_") and value == "none" else value
    return make_estimator(fields, *presets, strict=False)


def make_estimator(given: dict[str, object], preset: str = "reinforce", *, strict: bool = True) -> Estimator:
    """Return a preset with some fields replaced. Raises BadInput for an unknown preset, field, value or combination.

    Without `strict`, numbers may be given as text.
    """
    if preset not in PRESETS:
        raise BadInput(f"estimator {preset!r}: known are {', '.join(PRESETS)}")
    try:
        estimator = msgspec.convert({**msgspec.to_builtins(PRESETS[preset]), **given}, Estimator, strict=strict)
    except msgspec.ValidationError as error:
        for name, kind in typing.get_type_hints(Estimator).items():
            known = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
            if known and name in given and given[name] not in known:
                raise BadInput(f"estimator {preset}: {name} = {given[name]!r}: known are {', '.join(known)}") from None
        raise BadInput(f"estimator {preset}: {error}") from None
    check_estimator(estimator)
    return estimator


def check_estimator(estimator: Estimator) -> None:
    """Raise BadInput for a combination that means nothing; what is merely biased passes (see `biased`)."""
    e = estimator
    problems = (
        (not (math.isfinite(e.beta) and e.beta >= 0), f"beta = {e.beta}: expected a number ≥ 0"),
        (e.kl == "none" and e.beta > 0, f"beta = {e.beta} has no effect with kl = none; name a kl, or set beta to 0"),
        (e.kl != "none" and e.beta == 0, f"kl = {e.kl} has no effect with beta = 0; give beta, or set kl to none"),
        (e.epochs < 1, f"epochs = {e.epochs}: expected 1 or more"),
        ((e.clip_low is None) != (e.clip_high is None), "clip_low and clip_high go together"),
        (
            e.clip_low is not None and not 0 < e.clip_low <= 1,
            f"clip_low = {e.clip_low}: expected more than 0, at most 1",
        ),
        (
            e.clip_high is not None and not (math.isfinite(e.clip_high) and e.clip_high > 0),
            f"clip_high = {e.clip_high}: expected a number above 0",
        ),
        (not 0 < e.ema_decay <= 1, f"ema_decay = {e.ema_decay}: expected more than 0, at most 1"),
        (
            e.scale == "group-std" and e.baseline not in GROUP_BASELINES,
            "scale = group-std needs a baseline of the group",
        ),
        (
            e.keep == "passed" and (e.baseline, e.scale) != ("none", "none"),
            "keep = passed has no advantage: baseline and scale must be none",
        ),
        (e.keep == "passed" and e.kl == "k1-in-reward", "keep = passed has no reward for k1-in-reward to change"),
    )
    for wrong, message in problems:
        if wrong:
            raise BadInput(f"estimator: {message}")


def check_group(estimator: Estimator, completions: int) -> None:
    """Raise BadInput when groups of this size can give no gradient."""
    if completions < 1:
        raise BadInput(f"--group {completions}: must be at least 1")
    if completions == 1 and (estimator.baseline in GROUP_BASELINES or estimator.scale == "group-std"):
        raise BadInput(
            f"estimator: baseline = {estimator.baseline} with one completion a prompt leaves nothing to learn from; "
            "draw 2 or more, or use baseline = ema, value or none"
        )


def biased(estimator: Estimator) -> tuple[str, ...]:
    """Return every reason why the expected gradient is not ∇J, as the court proves; empty when it is."""
    e = estimator
    per_token = e.kl_per == "token"
    reasons = (
        (
            e.baseline in ("group-mean", "batch-mean"),
            f"{e.baseline} holds the completion's own reward: the reward's gradient is times 1 − 1/n",
        ),
        (e.scale == "group-std", "group-std weighs prompts by 1/σ of their rewards, which depends on the completion"),
        (e.kl == "k1-in-loss", "k1 as a loss has expected gradient zero: beta does nothing but add noise"),
        (
            e.kl == "k3-in-loss",
            "k3 as a loss without the importance ratio has the gradient of KL(ref‖π), not KL(π‖ref)",
        ),
        (
            per_token and e.kl in ("k2-in-loss", "k3-in-loss", "k3-ratio-in-loss", "exact-in-loss"),
            "KL in the loss token by token leaves out what a token does to the KL of later tokens",
        ),
        (e.normalisation == "tokens", "the token mean divides by a random number of tokens"),
        (e.normalisation == "per-completion", "the mean over each completion's own tokens favours short right answers"),
        (
            e.normalisation == "max-tokens",
            "the sum is divided by the token limit: the gradient is shorter, in its direction",
        ),
        (
            e.epochs > 1,
            "from the second update on, ratios token by token (and clipping) are not those of the completion",
        ),
        (
            e.keep == "passed",
            "the mean over what passed is ∇J divided by the pass rate, and repeats are not reweighted",
        ),
    )
    return tuple(text for holds, text in reasons if holds)
