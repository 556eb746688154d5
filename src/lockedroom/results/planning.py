"""Before spending: what a pilot run says of the noise, and what a plan costs and can see.

Legend: E examples; K draws an example; q is an example's pass rate over its scored draws; x its true pass rate under a
run's policy; d = q_B − q_A. ω² is the variance over examples of x_B − x_A, σ² that of one draw within an example.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lockedroom.errors import BadInput, NotComparable
from lockedroom.results.comparison.columns import Columns, read_columns
from lockedroom.results.verify import verify
from lockedroom.stats.power import (
    Noise,
    Spending,
    examples_or_draws,
    minimum_detectable_effect,
    paired_between_variance,
    power_of,
    sample_size,
)
from lockedroom.wording import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Miller 2024 (arXiv:2411.00640), section 5: the example worked there, for want of a pilot.
MILLER_OMEGA2 = 1 / 9
ASSUMED_RHO = 0.5
CHOICES = (1, 2, 4, 8, 16)


class Pilot(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the noise. `examples` and `draws` are the pilot's, None without one.

    `split_known` False: the noise of one draw could not be told from the spread between examples, so it is all in
    `noise.between`, and nothing can be said of other K. `assumptions` are sentences to be printed.
    """

    noise: Noise
    examples: int | None
    draws: int | None
    split_known: bool
    assumptions: tuple[str, ...]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked. `examples`, `draws` and `completions` default to the pilot's; costs are of one."""

    delta: float
    power: float = 0.8
    confidence: float = 0.95
    draws: int | None = None
    examples: int | None = None
    completions: int | None = None
    cost_example: float = 0.0
    cost_draw: float = 0.0


class Choice(msgspec.Struct, frozen=True):
    """One K: the examples needed, the completions of both runs, and what they cost."""

    draws: int
    examples: int
    completions: int
    cost: float


class SetPower(msgspec.Struct, frozen=True):
    """What a set of `examples` sees: the least gain with the power asked for, and the chance to see `delta`."""

    examples: int
    detectable: float
    power: float


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The answers. None: not asked, or not to be said from this pilot."""

    question: Question
    noise: Noise
    needed: Choice
    this_set: SetPower | None
    next: Spending | None
    choices: tuple[Choice, ...]
    cheapest: Choice | None
    assumptions: tuple[str, ...]


def assumed_noise(omega2: float | None, sigma2: float | None) -> Pilot:
    """The noise without a pilot: as given, or Miller's worked example. Raises BadInput for what is no variance."""
    for name, value in (("--omega2", omega2), ("--sigma2", sigma2)):
        if value is not None and not (value >= 0 and math.isfinite(value)):
            raise BadInput(f"{name} {value}: a variance is 0 or more")
    assumptions = [
        "ω² = 1/9 is not yours: it is the example of Miller 2024; measure a pilot, or give --omega2"
        if omega2 is None
        else f"ω² = {omega2:.4g} as given (variance over examples of the true difference)",
        "σ² = 0: no noise from drawing completions (greedy, or K so large that it is gone); else give --sigma2"
        if sigma2 is None
        else f"σ² = {sigma2:.4g} as given (variance of one draw within an example, the same in both runs)",
    ]
    within = sigma2 or 0.0
    return Pilot(
        noise=Noise(MILLER_OMEGA2 if omega2 is None else omega2, within, within),
        examples=None,
        draws=None,
        split_known=sigma2 is not None,
        assumptions=tuple(assumptions),
    )


def pilot_of_one(run: Path, rho: float | None) -> Pilot:
    """The noise of a comparison with a second policy that behaves like this run's.

    Raises BadInput for a pilot without spread or |ρ| > 1, Tampered for a run that does not verify.
    """
    correlation = ASSUMED_RHO if rho is None else rho
    if not -1 <= correlation <= 1:
        raise BadInput(f"--rho {correlation}: a correlation lies between -1 and 1")
    q, within, inverse, draws, notes = _spread(run, *_columns(run))
    between = _not_negative(_variance(q) - within * inverse, "Var(x)", notes)
    what = "given" if rho is not None else "assumed: with a second pilot it would be measured (--pilot-b)"
    notes.append(
        f"pilot {run}: {counted(len(q), 'example')} × {counted(draws, 'draw')}, pass rate {float(q.mean()):.4f}, Var(x) = {between:.4g}, σ² = {within:.4g}"
    )
    notes.append("the other run has the same Var(x) and σ²")
    notes.append(f"ρ = {correlation:g}, the correlation of true pass rates, {what}")
    omega2 = paired_between_variance(between, between, correlation)
    return Pilot(
        noise=Noise(omega2, within, within),
        examples=len(q),
        draws=draws,
        split_known=draws > 1,
        assumptions=tuple(notes),
    )


def pilot_of_two(run_a: Path, run_b: Path) -> Pilot:
    """The noise of a comparison, measured on two runs of the same examples with the same scorer.

    Raises NotComparable when they are not, and otherwise as `pilot_of_one` does.
    """
    a, b = verify(run_a).manifest, verify(run_b).manifest
    if (a.room.dataset.sha256, a.room.scorer) != (b.room.dataset.sha256, b.room.scorer):
        raise NotComparable(
            f"{run_a} and {run_b}: other examples or another scorer, so they cannot be one pilot; "
            f"lockedroom compare {run_a} {run_b} names the fields that differ"
        )
    columns_a, columns_b = read_columns(run_a, a), read_columns(run_b, b)
    both = _judged(columns_a) & _judged(columns_b)
    q_a, within_a, inverse_a, draws_a, notes = _spread(run_a, columns_a, both)
    q_b, within_b, inverse_b, draws_b, notes_b = _spread(run_b, columns_b, both)
    notes += notes_b
    omega2 = _not_negative(_variance(q_b - q_a) - within_a * inverse_a - within_b * inverse_b, "ω²", notes)
    notes.append(
        f"pilots {run_a} and {run_b}: {counted(len(q_a), 'example')} × {draws_a} and {counted(draws_b, 'draw')}, pass rates "
        f"{float(q_a.mean()):.4f} and {float(q_b.mean()):.4f}"
    )
    notes.append(
        f"ω² = {omega2:.4g}, σ² = {within_a:.4g} and {within_b:.4g}, {_rho(q_a, q_b, within_a * inverse_a, within_b * inverse_b)}"
    )
    return Pilot(
        noise=Noise(omega2, within_a, within_b),
        examples=len(q_a),
        draws=min(draws_a, draws_b),
        split_known=min(draws_a, draws_b) > 1,
        assumptions=tuple(notes),
    )


def make_plan(pilot: Pilot, question: Question) -> Plan:
    """Answer the question. Raises BadInput for a δ, power, confidence or cost that cannot be, or K unknown to the pilot."""
    _check(question)
    notes = [*pilot.assumptions]
    draws = question.draws or pilot.draws or 1
    if not pilot.split_known and pilot.draws is not None and draws != pilot.draws:
        raise BadInput(
            f"--draws {draws}: the pilot has one draw an example, which cannot say what {draws} would bring; "
            "measure a pilot with --draws 2 or more"
        )
    noise = msgspec.structs.replace(pilot.noise, draws_a=draws, draws_b=draws)
    examples = question.examples or pilot.examples
    alpha = 1 - question.confidence
    this_set = spending = None
    if examples is not None:
        detectable = minimum_detectable_effect(examples, noise, alpha=alpha, power=question.power)
        this_set = SetPower(examples, detectable, power_of(question.delta, examples, noise, alpha=alpha))
        if pilot.split_known:
            spending = examples_or_draws(examples, noise, question.completions or examples * draws)
    choices = tuple(_choice(k, noise, question) for k in sorted({*CHOICES, draws})) if pilot.split_known else ()
    priced = question.cost_example + question.cost_draw > 0
    notes.append(f"two-sided test at {question.confidence:.4g} confidence, power {question.power:.4g}, both runs on the same examples with {counted(draws, 'draw')} each")  # fmt: skip
    if priced:
        notes.append(
            f"an example costs {question.cost_example:g} once, a completion {question.cost_draw:g} in each of the two runs"
        )
    return Plan(
        question=question,
        noise=noise,
        needed=_choice(draws, noise, question),
        this_set=this_set,
        next=spending,
        choices=choices,
        cheapest=min(choices, key=lambda choice: (choice.cost, choice.draws)) if priced and choices else None,
        assumptions=tuple(notes),
    )


def _choice(draws: int, noise: Noise, question: Question) -> Choice:
    noise = msgspec.structs.replace(noise, draws_a=draws, draws_b=draws)
    examples = sample_size(question.delta, noise, alpha=1 - question.confidence, power=question.power)
    completions = 2 * examples * draws
    return Choice(draws, examples, completions, examples * question.cost_example + completions * question.cost_draw)


def _check(question: Question) -> None:
    if not 0 < question.delta <= 1:
        raise BadInput(f"--delta {question.delta}: a gain in pass rate lies above 0 and at most 1, e.g. 0.03")
    if not 0 < question.confidence < 1:
        raise BadInput(f"--confidence {question.confidence}: must lie between 0 and 1, e.g. 0.95")
    if not 1 - question.confidence < question.power < 1:
        raise BadInput(
            f"--power {question.power}: must lie between {1 - question.confidence:.4g}, which chance alone gives, and 1, e.g. 0.8"
        )
    for name, count, least in (("--draws", question.draws, 1), ("--examples", question.examples, 2), ("--next", question.completions, 1)):  # fmt: skip
        if count is not None and count < least:
            raise BadInput(f"{name} {count}: must be at least {least}")
    for name, cost in (("--cost-example", question.cost_example), ("--cost-draw", question.cost_draw)):
        if not (cost >= 0 and math.isfinite(cost)):
            raise BadInput(f"{name} {cost}: a cost is 0 or more")


def _columns(run: Path) -> tuple[Columns, NDArray[np.bool_]]:
    columns = read_columns(run, verify(run).manifest)
    return columns, _judged(columns)


def _judged(columns: Columns) -> NDArray[np.bool_]:
    """Which examples have a judged attempt."""
    import numpy as np

    return np.asarray(columns.scored.any(axis=1))


def _spread(
    run: Path, columns: Columns, keep: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], float, float, int, list[str]]:
    """q over the examples kept, σ², the mean of 1/K over them, K, and what had to be assumed."""
    import numpy as np

    notes = []
    if (left_out := int((~keep).sum())) > 0:
        notes.append(
            f"{counted(left_out, 'example without a judged attempt is', 'examples without a judged attempt are')} left out"
        )
    if int(keep.sum()) < 2:
        raise BadInput(f"{run}: fewer than two examples could be judged, which shows no spread; use a larger pilot")
    counts = columns.scored[keep].sum(axis=1)
    q = columns.means("pass")[keep]
    repeated = counts > 1
    within = 0.0
    if repeated.any():
        within = float(np.mean((q * (1 - q) * counts)[repeated] / (counts - 1)[repeated]))
    else:
        notes.append(
            f"{run} has one draw an example: the noise of drawing is counted in ω², and nothing is said of more draws"
        )
    return q, within, float(np.mean(1 / counts)), columns.draws, notes


def _variance(values: NDArray[np.float64]) -> float:
    return float(values.var(ddof=1))


def _not_negative(variance: float, name: str, notes: list[str]) -> float:
    if variance < 0:
        notes.append(
            f"{name} was estimated below zero ({variance:.3g}) and is read as 0: the pilot shows no such spread"
        )
    return max(0.0, variance)


def _rho(q_a: NDArray[np.float64], q_b: NDArray[np.float64], noise_a: float, noise_b: float) -> str:
    import numpy as np

    true_a, true_b = _variance(q_a) - noise_a, _variance(q_b) - noise_b
    if true_a <= 0 or true_b <= 0:
        return "ρ not defined (no spread between examples)"
    rho = float(np.cov(q_a, q_b)[0, 1]) / math.sqrt(true_a * true_b)
    return f"ρ = {max(-1.0, min(1.0, rho)):.3f} between the true pass rates"
