"""A person's own loss or advantage function, called the way they say it is called.

Letters: N completions (rows), P prompts, G completions of each, T tokens. Everything given is a copy in float64.

| shape | how it is called | what it returns |
|---|---|---|
| advantages | f(rewards_PG) | advantages_PG |
| loss | f(logprobs_NT, old_logprobs_NT, ref_logprobs_NT, advantages_N, mask_NT), mask bool | the loss, a scalar |
| trl-loss | f(per_token_logps=, old_per_token_logps=, ref_per_token_logps=, advantages= N, completion_mask= int) | the loss |
| verl-advantage | f(token_level_rewards=, response_mask= int, index= NumPy array of N names) | (advantages_NT, returns_NT) |
| verl-loss | f(old_log_prob=, log_prob=, advantages= NT, response_mask= int) | the loss, or a tuple that it leads |
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import torch

from lockedroom.learning.advantages import leave_one_out
from lockedroom.learning.court import BatchTensors, Slopes
from lockedroom.learning.estimator import Estimator
from lockedroom.learning.objective import policy_loss
from lockedroom.visible import visible

if TYPE_CHECKING:
    from torch import Tensor

Shape = Literal["advantages", "loss", "trl-loss", "verl-advantage", "verl-loss"]
SHAPES: tuple[Shape, ...] = ("advantages", "loss", "trl-loss", "verl-advantage", "verl-loss")
GIVES_ADVANTAGES = ("advantages", "verl-advantage")
CALLED_WITH: dict[Shape, tuple[int, tuple[str, ...]]] = {  # how many by position, and which by name
    "advantages": (1, ()),
    "loss": (5, ()),
    "trl-loss": (0, ("per_token_logps", "old_per_token_logps", "ref_per_token_logps", "advantages", "completion_mask")),
    "verl-advantage": (0, ("token_level_rewards", "response_mask", "index")),
    "verl-loss": (0, ("old_log_prob", "log_prob", "advantages", "response_mask")),
}


class Unusable(Exception):
    """The person's function raised, or returned what cannot be used; the message is one sentence about it."""


class Foreign(msgspec.Struct, frozen=True):
    """A person's function, the shape they named, and what they want passed to it as well."""

    name: str
    shape: Shape
    function: Callable[..., Any]
    keywords: Mapping[str, Any]


class Rows(msgspec.Struct, frozen=True):
    """One batch as a loss is given it."""

    logprobs_NT: Tensor
    old_NT: Tensor
    ref_NT: Tensor
    advantages_N: Tensor
    mask_NT: Tensor


def foreign_advantages(foreign: Foreign, rewards_PG: Tensor, mask_NT: Tensor) -> Tensor:
    """Return the advantages_NT that the person's function gives. Raises Unusable."""
    if foreign.shape == "advantages":
        found_PG = _tensor(_called(foreign, rewards_PG.clone()), "advantages", tuple(rewards_PG.shape))
        return found_PG.reshape(-1, 1) * mask_NT
    prompts, group = rewards_PG.shape
    names = [f"prompt-{p}" for p in range(prompts) for _ in range(group)]
    return _verl_advantages(foreign, rewards_PG.flatten(), mask_NT, names)


def interleaved_advantages(foreign: Foreign, rewards_PG: Tensor, mask_NT: Tensor) -> Tensor:
    """Return advantages_NT, in the usual order, of a verl-advantage function given the prompts' rows in turn."""
    prompts, group = rewards_PG.shape
    turn_N = torch.arange(prompts * group).view(prompts, group).T.flatten()
    names = [f"prompt-{row // group}" for row in turn_N.tolist()]
    found_NT = _verl_advantages(foreign, rewards_PG.flatten()[turn_N], mask_NT[turn_N], names)
    return found_NT[turn_N.argsort()]


def _verl_advantages(foreign: Foreign, rewards_N: Tensor, mask_NT: Tensor, names: list[str]) -> Tensor:
    import numpy as np

    last_NT = torch.nn.functional.one_hot(mask_NT.sum(-1) - 1, mask_NT.shape[-1])
    found = _called(
        foreign,
        token_level_rewards=rewards_N.unsqueeze(-1) * last_NT,
        response_mask=mask_NT.long(),
        index=np.array(names, dtype=object),
    )
    if not isinstance(found, tuple) or len(found) != 2:
        raise Unusable(f"returned {_kind(found)}; expected a tuple (advantages, returns)")
    return _tensor(found[0], "advantages", tuple(mask_NT.shape)).where(mask_NT, 0.0)


def foreign_slope(foreign: Foreign, rows: Rows) -> Tensor:
    """Return how the person's loss changes with each log-probability, shape NT. Raises Unusable."""
    given = rows.logprobs_NT.clone().requires_grad_()
    old_NT, ref_NT, mask_NT = rows.old_NT.clone(), rows.ref_NT.clone(), rows.mask_NT.clone()
    advantages_N = rows.advantages_N.clone()
    if foreign.shape == "loss":
        found = _called(foreign, given, old_NT, ref_NT, advantages_N, mask_NT)
    elif foreign.shape == "trl-loss":
        found = _called(
            foreign,
            per_token_logps=given,
            old_per_token_logps=old_NT,
            ref_per_token_logps=ref_NT,
            advantages=advantages_N,
            completion_mask=mask_NT.long(),
        )
    else:
        advantages_NT = advantages_N.unsqueeze(-1) * mask_NT
        found = _called(
            foreign, old_log_prob=old_NT, log_prob=given, advantages=advantages_NT, response_mask=mask_NT.long()
        )
        found = found[0] if isinstance(found, tuple) and found else found
    loss = _tensor(found, "a loss", ())
    slope_NT = None
    if loss.requires_grad:
        try:
            (slope_NT,) = torch.autograd.grad(loss, given, allow_unused=True)
        except RuntimeError as error:
            raise Unusable(f"returned a loss that cannot be differentiated: {visible(str(error), 160)}") from None
    if slope_NT is None:
        raise Unusable("returned a loss that does not depend on the log-probabilities: it has no gradient")
    return _tensor(slope_NT, "a gradient", tuple(mask_NT.shape))


def foreign_slopes(foreign: Foreign, given: BatchTensors, *, rewarded: bool = True) -> Slopes:
    """Return what `court.gradients` needs, batch by batch; not `rewarded`: with advantages 0, what is left of a loss.

    A loss is given leave-one-out advantages; advantages go into the sum of A·log π over the number of completions: what is
    judged is the person's part alone. Raises Unusable, naming the rewards of the batch.
    """
    slopes = []
    for number in range(len(given.mask_BNT)):
        rewards_PG, mask_NT = given.rewards_BPG[number], given.mask_BNT[number]
        logprobs_NT = given.logprobs_BNT[number]
        try:
            if foreign.shape in GIVES_ADVANTAGES:
                slopes.append(_slope_of(foreign_advantages(foreign, rewards_PG, mask_NT), logprobs_NT, mask_NT))
                continue
            baseline_PG, _ = leave_one_out(rewards_PG, torch.ones_like(rewards_PG, dtype=torch.bool))
            advantages_N = (rewards_PG - baseline_PG).flatten() * rewarded
            rows = Rows(
                logprobs_NT, given.old_logprobs_BNT[number], given.ref_logprobs_BNT[number], advantages_N, mask_NT
            )
            slopes.append(foreign_slope(foreign, rows))
        except Unusable as error:
            raise Unusable(f"given rewards {rewards_PG.tolist()}, it {error}") from None
    slopes_BNT = torch.stack(slopes).where(given.mask_BNT, 0.0)
    return slopes_BNT, torch.zeros_like(slopes_BNT)


def _slope_of(advantages_NT: Tensor, logprobs_NT: Tensor, mask_NT: Tensor) -> Tensor:
    given = logprobs_NT.clone().requires_grad_()
    loss = policy_loss(
        Estimator(),
        given,
        logprobs_NT,
        advantages_NT.detach(),
        mask_NT,
        completions=len(mask_NT),
        tokens=int(mask_NT.sum()),
    ).loss
    (slope_NT,) = torch.autograd.grad(loss, given)
    return slope_NT


def _called(foreign: Foreign, *arguments: Any, **named: Any) -> Any:
    # What it prints must not end up in a result on stdout.
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about groups of one and the like, which are asked on purpose
        try:
            return foreign.function(*arguments, **named, **foreign.keywords)
        except BaseException as error:  # noqa: BLE001  # a person's code may raise anything; they get one message
            raise Unusable(f"raised {type(error).__name__}: {visible(_text(error), 200)}") from None
        finally:  # what it switched off must not be off for what follows
            torch.set_grad_enabled(True)
            torch.set_default_dtype(torch.float32)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # the text is the person's code too
        return "(its text cannot be read)"


def _tensor(found: Any, what: str, shape: tuple[int, ...]) -> Tensor:
    """Return it in float64 if it is a finite tensor of this shape. Raises Unusable."""
    if not isinstance(found, torch.Tensor):
        raise Unusable(f"returned {_kind(found)} where {what} of shape {shape} was expected")
    if tuple(found.shape) != shape:
        raise Unusable(f"returned {what} of shape {tuple(found.shape)}; expected {shape}")
    if found.layout is not torch.strided or found.device.type != "cpu":
        raise Unusable(
            f"returned {what} as a tensor of layout {found.layout} on {found.device}; expected a dense one on cpu"
        )
    if not found.is_floating_point():
        raise Unusable(f"returned {what} of {found.dtype}; expected floating point")
    if not bool(found.isfinite().all()):
        raise Unusable(f"returned {what} with NaN or infinity in it")
    return found.double()


def _kind(found: Any) -> str:
    if isinstance(found, tuple):
        return f"a tuple of {len(found)}"
    return "nothing (None)" if found is None else f"a {type(found).__name__}"
