"""Questions to a person's function that the expected gradient on fresh completions does not ask.

Each returns a sentence about what is wrong, or None. Letters: N completions (rows), T tokens, P prompts, G completions of each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import torch

from lockedroom.learning.court import Verdict
from lockedroom.learning.foreign import (
    GIVES_ADVANTAGES,
    Foreign,
    Rows,
    Unusable,
    foreign_advantages,
    foreign_slope,
    interleaved_advantages,
)

if TYPE_CHECKING:
    from torch import Tensor

SAME = 1e-6  # relative: a person's function may compute in float32
LARGEST_OF_EQUALS = 0.5  # more than a reward of 0.1 can explain, less than rounding over rounding gives
LARGEST_ADVANTAGE = 100.0  # for rewards between 0 and 1; 1 of 8 gives 2.5 with the standard deviation
ADDED = 1.5  # nats, to whatever must not matter
CELLS = ((1.0, 1.5), (1.0, 0.5), (-1.0, 1.5), (-1.0, 0.5))  # sign of the advantage, importance ratio


class Fault(msgspec.Struct, frozen=True):
    """What is wrong, in a sentence, and how badly."""

    verdict: Verdict
    said: str


def faults(foreign: Foreign) -> tuple[Fault, ...]:
    """Return a fault for every question that the function fails."""
    found: list[Fault] = []
    for question, verdict in _OF_ADVANTAGES if foreign.shape in GIVES_ADVANTAGES else _OF_LOSSES:
        try:
            said = question(foreign)
            found += [] if said is None else [Fault(verdict, said)]
        except Unusable as error:
            found.append(Fault("BROKEN", f"{_question(question)}, it {error}"))
    return tuple(found)


def _question(question: Callable[[Foreign], str | None]) -> str:
    return (question.__doc__ or "").partition(":")[0]


def hard_groups(foreign: Foreign) -> str | None:
    """Given groups that are hard to scale: all rewards equal, one alone, 1 of 8, almost equal."""
    groups = {
        "all rewards 0": [[0.0] * 3, [0.0] * 3],
        "all rewards 0.1": [[0.1] * 3, [0.1] * 3],
        "one completion a prompt": [[1.0], [0.0]],
        "one right of 8": [[1.0] + [0.0] * 7],
        "rewards 1e-9 apart": [[0.5, 0.5, 0.5, 0.5 + 1e-9]],
    }
    largest: dict[str, float] = {}
    for said, rewards in groups.items():
        rewards_PG = torch.tensor(rewards, dtype=torch.float64)
        try:
            found_NT = foreign_advantages(foreign, rewards_PG, torch.ones(rewards_PG.numel(), 2, dtype=torch.bool))
        except Unusable as error:
            return f"given {said}, it {error}"
        largest[said] = float(found_NT.abs().max())
        if largest[said] > LARGEST_ADVANTAGE:
            return f"given {said}, its largest advantage is {largest[said]:.3g}: it divides by next to nothing"
    # The mean of three 0.1 is not 0.1 to the last bit; a difference of that size is no signal, whatever divides it.
    if abs(largest["all rewards 0.1"] - largest["all rewards 0"]) > LARGEST_OF_EQUALS:
        return f"given all rewards 0.1, its largest advantage is {largest['all rewards 0.1']:.3g}: rounding is taken for signal"
    return None


def steady_advantages(foreign: Foreign) -> str | None:
    """Given the same rewards twice: the same advantages."""
    rewards_PG, mask_NT = _rewards(), torch.ones(8, 3, dtype=torch.bool)
    first_NT = foreign_advantages(foreign, rewards_PG, mask_NT)
    again = foreign_advantages(foreign, rewards_PG, mask_NT)
    return None if bool((first_NT == again).all()) else "given the same rewards twice, it returns different advantages"


def follows_its_group(foreign: Foreign) -> str | None:
    """Given the rows of two prompts in turn: each keeps the advantage it has when its group stands together."""
    if foreign.shape != "verl-advantage":
        return None
    rewards_PG, mask_NT = _rewards(), torch.ones(8, 3, dtype=torch.bool)
    together_NT = foreign_advantages(foreign, rewards_PG, mask_NT)
    if _same(together_NT, interleaved_advantages(foreign, rewards_PG, mask_NT)):
        return None
    return "given the rows of two prompts in turn, advantages change: it does not go by `index`"


def steady_loss(foreign: Foreign) -> str | None:
    """Given the same batch twice: the same gradient."""
    first_NT, again_NT = foreign_slope(foreign, _rows()), foreign_slope(foreign, _rows())
    return None if bool((first_NT == again_NT).all()) else "given the same batch twice, its gradient differs"


def reads_padding(foreign: Foreign) -> str | None:
    """Given other numbers outside the mask: the same gradient inside, none outside."""
    rows = _rows()
    outside_NT = ADDED * (~rows.mask_NT).double()
    other = msgspec.structs.replace(
        rows,
        logprobs_NT=rows.logprobs_NT + outside_NT,
        old_NT=rows.old_NT - outside_NT,
        ref_NT=rows.ref_NT + 2 * outside_NT,
    )
    before_NT, after_NT = foreign_slope(foreign, rows), foreign_slope(foreign, other)
    if not _same(before_NT.where(rows.mask_NT, 0.0), before_NT) or not _same(before_NT, after_NT):
        return "what stands outside the mask (prompt, padding) enters its gradient"
    return None


def counts_padding(foreign: Foreign) -> str | None:
    """Given one more column of padding: the same gradient."""
    rows = _rows()
    wider = Rows(
        torch.nn.functional.pad(rows.logprobs_NT, (0, 1)),
        torch.nn.functional.pad(rows.old_NT, (0, 1)),
        torch.nn.functional.pad(rows.ref_NT, (0, 1)),
        rows.advantages_N,
        torch.nn.functional.pad(rows.mask_NT, (0, 1)),
    )
    if _same(foreign_slope(foreign, rows), foreign_slope(foreign, wider)[:, :-1]):
        return None
    return "one more column of padding changes its gradient: it divides by the padded width"


def clip_cells(foreign: Foreign) -> str | None:
    """Given importance ratios of 1.5 and 0.5: a token is pushed the way its advantage says, and always back to the clip."""
    logprobs_NT = torch.full((4, 1), -1.0, dtype=torch.float64)
    signs_N = torch.tensor([sign for sign, _ in CELLS], dtype=torch.float64)
    ratios_N1 = torch.tensor([[ratio] for _, ratio in CELLS], dtype=torch.float64)
    mask_NT = torch.ones(4, 1, dtype=torch.bool)
    rows = Rows(logprobs_NT, logprobs_NT - ratios_N1.log(), logprobs_NT.clone(), signs_N, mask_NT)
    push_N = (-foreign_slope(foreign, rows)).squeeze(-1) * signs_N
    least = SAME * max(float(push_N.abs().max()), 1e-300)
    if not bool(push_N.any()):
        return "a completion of one token has no gradient at all: its last token, the end, is left out"
    for (sign, ratio), push in zip(CELLS, push_N.tolist(), strict=True):
        where = f"advantage {sign:+.0f} and ratio {ratio}"
        if push < -least:
            return f"at {where} it pushes the wrong way"
        if push <= least and (ratio < 1) == (sign > 0):
            return f"at {where} it has no gradient, where nothing may be clipped: the clip is inverted"
    return None


def no_advantage(foreign: Foreign) -> str | None:
    """Given advantages that are all 0 and a policy that is its reference: no gradient."""
    rows = _rows()
    still = msgspec.structs.replace(
        rows, advantages_N=rows.advantages_N * 0, old_NT=rows.logprobs_NT, ref_NT=rows.logprobs_NT
    )
    if float(foreign_slope(foreign, still).abs().max()) <= SAME:
        return None
    return "with all advantages 0 and the policy at its reference, it still has a gradient"


def cut_in_two(foreign: Foreign) -> str | None:
    """Given the batch in two halves: the same direction in all."""
    rows = _rows()
    whole_NT = foreign_slope(foreign, rows)
    halves_NT = torch.cat([foreign_slope(foreign, _part(rows, part)) for part in (slice(0, 2), slice(2, 4))])
    cosine = float((whole_NT * halves_NT).sum() / (whole_NT.norm() * halves_NT.norm()).clamp(min=1e-300))
    if cosine > 1 - SAME:
        return None
    return f"its gradient depends on how a batch is cut into micro-batches (cosine {cosine:.3f} between 1×4 and 2×2)"


def _part(rows: Rows, part: slice) -> Rows:
    return Rows(*(getattr(rows, name)[part] for name in Rows.__struct_fields__))


def _rows() -> Rows:
    """Return four completions of lengths 1, 1, 3 and 2 in a width of 3; the policy has moved a little from all others."""
    generator = torch.Generator().manual_seed(7)
    logprobs_NT, old_NT, ref_NT = -torch.rand(3, 4, 3, generator=generator, dtype=torch.float64) - 0.5
    old_NT = logprobs_NT + 0.1 * (old_NT + 1)
    mask_NT = torch.arange(3) < torch.tensor([[1], [1], [3], [2]])
    advantages_N = torch.tensor([1.0, -0.5, 0.8, -1.0], dtype=torch.float64)
    inside_NT = mask_NT.double()
    return Rows(logprobs_NT * inside_NT, old_NT * inside_NT, ref_NT * inside_NT, advantages_N, mask_NT)


def _rewards() -> Tensor:
    return torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.5, 0.0]], dtype=torch.float64)


def _same(one: Tensor, other: Tensor) -> bool:
    return float((one - other).abs().max()) <= SAME * max(float(one.abs().max()), 1e-300)


_Question = Callable[[Foreign], str | None]
_OF_ADVANTAGES: tuple[tuple[_Question, Verdict], ...] = (
    (hard_groups, "BROKEN"),
    (steady_advantages, "BROKEN"),
    (follows_its_group, "BROKEN"),
)
_OF_LOSSES: tuple[tuple[_Question, Verdict], ...] = (
    (steady_loss, "BROKEN"),
    (reads_padding, "BROKEN"),
    (clip_cells, "BROKEN"),
    (counts_padding, "BIASED"),
    (no_advantage, "BIASED"),
    (cut_in_two, "BIASED"),
)
