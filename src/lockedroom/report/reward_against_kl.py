"""Reward against KL for a language model: what the best policy of a given KL earns, best-of-n, and what was learned.

For a binary reward every place on the chart follows from the probability p_i with which the base policy's completion of
example i passes. The policy that maximises reward − β·KL passes with q_i = p_i·e^(1/β) / (p_i·e^(1/β) + 1 − p_i); its KL is
that of one coin against the other. Best-of-n passes with 1 − (1 − p_i)^n.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from lockedroom.jsonl import read_batches
from lockedroom.report.blocks import Chart, Section, Series
from lockedroom.results.exact import EXACT_JSONL, ExactExample
from lockedroom.results.learning import EVALUATION_RECORDS, Evaluation
from lockedroom.results.learning_summary import BASE, LearningSummary
from lockedroom.stats.pass_at_k import pass_at_k_of_probability
from lockedroom.stats.selection import best_of_n_kl_binary, best_of_n_kl_bound, tilted_kl, tilted_pass_rate

# In this order on every chart, so that one colour means one thing.
SELECTED, LEARNED, FRONTIER = "B, best of n", "C, learned", "the most that any policy can reach (closed form)"
NS = (1, 2, 4, 8, 16, 32, 64)
BETAS = tuple(10 ** (exponent / 20) for exponent in range(40, -41, -1))  # 100 to .01


class _Named(msgspec.Struct):
    id: str


def reward_against_kl(run: Path, summary: LearningSummary, evaluations: Sequence[Evaluation]) -> Section:
    """Loops B and C on one chart: exact where the base policy's probabilities are known, else at a bound of the KL."""
    rates = _pass_rates(run)
    learned = Series(
        name=LEARNED,
        x=[one.kl_exact for one in evaluations],
        y=[_rate(one) for one in evaluations],
        labels=[f"step {one.step}" for one in evaluations],
    )
    if rates is None:
        selected = Series(
            name=f"{SELECTED} (its KL is at most this)",
            x=[best_of_n_kl_bound(point.k) for point in summary.curve],
            y=[point.change.before for point in summary.curve],
            labels=[f"best of {point.k}" for point in summary.curve],
            style="points",
        )
        text = ["The base policy's pass probabilities are not known, so there is no frontier here: best-of-n stands at the upper bound of its KL, ln n − (n − 1)/n."]  # fmt: skip
        return _section(text, [selected, learned])
    means = [(_mean([tilted_kl(p, beta) for p in rates]), _mean([tilted_pass_rate(p, beta) for p in rates])) for beta in BETAS]  # fmt: skip
    frontier = Series(
        name=FRONTIER,
        x=[kl for kl, _ in means],
        y=[rate for _, rate in means],
        labels=[f"β = {beta:.3g}" for beta in BETAS],
        style="dashed",
    )
    selected = Series(
        name=SELECTED,
        x=[_mean([best_of_n_kl_binary(p, n) for p in rates]) for n in NS],
        y=[_mean([pass_at_k_of_probability(p, n) for p in rates]) for n in NS],
        labels=[f"best of {n}" for n in NS],
        style="points",
    )
    text = [
        f"Selection and learning on one chart, over the {len(rates):,} dev examples that are measured between steps. The dashed line is "
        "the closed form π* ∝ π_ref·exp(R/β); it and best-of-n are exact, from the base policy's own probabilities.",
        "A learned policy below the line paid KL for something other than reward, such as its length or a habit.",
    ]
    return _section(text, [selected, learned, frontier])


def _section(text: list[str], series: list[Series]) -> Section:
    chart = Chart(title="Reward against KL to the base policy", kind="lines", series=series, x_label="KL to the base policy, nats a completion",
                  y_label="pass@1", percent=True)  # fmt: skip
    return Section(title="Reward against KL", text=text, charts=[chart])


def _pass_rates(run: Path) -> list[float] | None:
    """The exact pass probabilities of the examples that evaluations between steps look at; None where they are unknown."""
    path = run / BASE / EXACT_JSONL
    if not path.is_file():
        return None
    looked_at = {record.id for batch in read_batches(run / EVALUATION_RECORDS, _Named) for record in batch.rows}
    known = {row.id: min(1.0, row.accepted) for batch in read_batches(path, ExactExample) for row in batch.rows}
    return [known[one] for one in looked_at] if looked_at and looked_at <= known.keys() else None


def _rate(one: Evaluation) -> float | None:
    return one.exact_pass_at_1 if one.exact_pass_at_1 is not None else one.pass_rate


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)
