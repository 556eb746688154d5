"""Reward against KL and against tokens: the closed form, learned policies on it, best-of-n beside it."""

from __future__ import annotations

import msgspec

from lockedroom.errors import BadInput
from lockedroom.results.microscope.bandit import LARGEST_SEED, MOST_COMPLETIONS
from lockedroom.results.text_table import text_table
from lockedroom.wording import counted

FORMAT = "lockedroom.frontier/1"
RESULT_JSON, RESULT_MD = "summary.json", "summary.md"
BETAS = (1e-6, 1e6)
ARRIVED = 0.01  # of the objective: what may be missing of a policy that is said to be on the frontier


class FrontierSetting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to trace. Learning at each β: `steps` updates from `draws` completions of every prompt, AdamW, rate falling to 0."""

    world: str = "graded"
    betas: tuple[float, ...] = (1.0, 0.5, 0.3, 0.2, 0.1)
    ns: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    steps: int = 300
    draws: int = 16
    learning_rate: float = 0.1
    seed: int = 0


class Learned(msgspec.Struct, frozen=True):
    """A policy that was learned at β, where it stands (exact), and the optimum it should have become.

    objective: E[R] − β·KL of it; greatest: of the optimum; gap: what is missing. training_tokens: sampled while learning.
    """

    beta: float
    reward: float
    kl: float
    optimum_reward: float
    optimum_kl: float
    objective: float
    greatest: float
    gap: float
    training_tokens: int


class BestOfN(msgspec.Struct, frozen=True):
    """The best of n draws of π_ref: exact place, the bound on its KL, and what the best policy of the same KL earns."""

    n: int
    reward: float
    kl: float
    kl_bound: float
    frontier_reward: float


class CurvePoint(msgspec.Struct, frozen=True):
    """The closed-form optimum at β."""

    beta: float
    reward: float
    kl: float


class FrontierResult(msgspec.Struct, frozen=True):
    """Everything the table and the figure show. tokens: of one answer, end token included.

    break_even: for each learned policy, the answers after which its training tokens are repaid against the smallest
    best-of-n that earns as much; None where no n tried does.
    """

    format: str
    setting: FrontierSetting
    about: str
    tokens: int
    reference_reward: float
    ceiling: float
    curve: list[CurvePoint]
    learned: list[Learned]
    best_of_n: list[BestOfN]
    break_even: list[float | None]


def check_setting(setting: FrontierSetting) -> None:
    """Raise BadInput for what no frontier can be made of."""
    least, most = BETAS
    if not setting.betas or not all(least <= beta <= most for beta in setting.betas):
        raise BadInput(
            f"--betas {_listed(setting.betas)}: give numbers from {least:g} to {most:g}; at 0 nothing holds a policy back"
        )
    for name, values in (("--betas", setting.betas), ("--ns", setting.ns)):
        if len(set(values)) != len(values):
            raise BadInput(f"{name} {_listed(values)}: a number stands there twice")
    if not setting.ns or not all(1 <= n <= 100_000 for n in setting.ns):
        raise BadInput(f"--ns {_listed(setting.ns)}: give numbers from 1 to 100,000")
    for name, value, low, high in (
        ("--steps", setting.steps, 1, LARGEST_SEED),
        ("--draws", setting.draws, 2, MOST_COMPLETIONS),
        ("--seed", setting.seed, 0, LARGEST_SEED),
    ):
        if not low <= value <= high:
            raise BadInput(f"{name} {value}: must be from {low} to {high}")


def _listed(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)


def break_even(learned: Learned, best: list[BestOfN], tokens: int) -> float | None:
    """Return training tokens / tokens saved an answer, against the smallest n that earns as much as the learned policy."""
    as_good = [one.n for one in best if one.n > 1 and one.reward >= learned.reward]
    return learned.training_tokens / ((min(as_good) - 1) * tokens) if as_good else None


def render_frontier(result: FrontierResult) -> str:
    s = result.setting
    lines = [
        f"{s.world}: {result.about}",
        f"π_ref earns {result.reference_reward:.4f}; the best answers alone would earn {result.ceiling:.4f}. An answer is "
        f"{counted(result.tokens, 'token')}. KL in nats a completion.",
        "",
        f"Learned at each β ({counted(s.steps, 'update')} × {counted(s.draws, 'draw')} a prompt, seed {s.seed}), against π* ∝ π_ref·exp(R/β):",
    ]
    rows = [
        (f"{one.beta:g}", f"{one.reward:.4f}", f"{one.optimum_reward:.4f}", _nats(one.kl), _nats(one.optimum_kl),
         f"{one.gap:z.5f}", f"{one.training_tokens:,}", "–" if repaid is None else f"{repaid:,.0f}")
        for one, repaid in zip(result.learned, result.break_even, strict=True)
    ]  # fmt: skip
    header = ("β", "E[R]", "π* E[R]", "KL", "π* KL", "objective missing", "training tokens", "answers to repay")
    lines += text_table(header, rows, numbers=range(len(header)))
    far = [one for one in result.learned if one.gap > ARRIVED]
    lines += (
        [
            "",
            *(
                f"β = {one.beta:g} has not arrived: {one.gap:.4f} of the objective is missing; give it more --steps or --draws."
                for one in far
            ),
        ]
        if far
        else [
            "",
            f"Every learned policy is on the frontier: at most {max(one.gap for one in result.learned):.5f} is missing.",
        ]
    )
    lines += ["", "Best of n draws of π_ref (nothing is learned; every answer costs n times the tokens):"]
    rows_n = [
        (str(one.n), f"{one.reward:.4f}", f"{one.frontier_reward:.4f}", _nats(one.kl), _nats(one.kl_bound),
         f"{one.n * result.tokens:,}")
        for one in result.best_of_n
    ]  # fmt: skip
    header_n = ("n", "E[R]", "best at this KL", "KL", "ln n − (n−1)/n", "tokens an answer")
    lines += text_table(header_n, rows_n, numbers=range(len(header_n)))
    worst = max(result.best_of_n, key=lambda one: one.frontier_reward - one.reward)
    lines += [
        "",
        f"Best-of-n is at most {worst.frontier_reward - worst.reward:.4f} of reward below the frontier (at n = {worst.n}); no point "
        "can lie above it.",
    ]
    return "\n".join(lines)


def _nats(value: float) -> str:
    """A KL that is 0 may come out as −1e-17."""
    return f"{value:z.4f}"
