"""Reward against KL for a learning run: what the best policy of a given KL passes, best-of-n, and what was learned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lockedroom.report.blocks import Chart, Section, Series
from lockedroom.results.learning.metrics import Evaluation
from lockedroom.results.learning.summary import LearningSummary
from lockedroom.results.microscope.run_frontier import place_read
from lockedroom.stats.selection import best_of_n_kl_bound
from lockedroom.wording import counted

# In this order on every chart, so that one colour means one thing.
SELECTED, LEARNED, FRONTIER = "B, best of n", "C, learned", "the most that any policy can reach (closed form)"


def reward_against_kl(run: Path, summary: LearningSummary, evaluations: Sequence[Evaluation]) -> Section:
    """Loops B and C on one chart: exact where the base policy's probabilities are known, else at a bound of the KL."""
    return _exact(run) if summary.plan.exact else _bounded(summary, evaluations)


def _exact(run: Path) -> Section:
    found = place_read([run])
    learned = found.runs[0]
    series = [
        Series(name=SELECTED, x=[one.kl for one in found.best_of_n], y=[one.reward for one in found.best_of_n],
               labels=[f"best of {one.n}" for one in found.best_of_n], style="points"),
        Series(name=LEARNED, x=[one.kl for one in learned.course], y=[one.reward for one in learned.course],
               labels=[f"step {one.step}" for one in learned.course]),
        Series(name=FRONTIER, x=[one.kl for one in found.curve], y=[one.reward for one in found.curve],
               labels=[f"β = {one.beta:.3g}" for one in found.curve], style="dashed"),
    ]  # fmt: skip
    text = [
        f"Selection and learning on one chart, over the {counted(found.examples, 'dev example')} that are measured between steps. The dashed line "
        "is the closed form π* ∝ π_ref·exp(R/β); it and best-of-n are exact, from the base policy's own probabilities.",
        f"The learned policy passes {learned.reward:.4f} at {learned.kl:.2f} nats, where the best policy would pass {learned.best:.4f}: "
        "what is missing went into something other than the verdict, such as which of the right lines is written.",
    ]
    return _section(text, series)


def _bounded(summary: LearningSummary, evaluations: Sequence[Evaluation]) -> Section:
    series = [
        Series(name=f"{SELECTED} (its KL is at most this)", x=[best_of_n_kl_bound(point.k) for point in summary.curve],
               y=[point.change.before for point in summary.curve], labels=[f"best of {point.k}" for point in summary.curve], style="points"),
        Series(name=LEARNED, x=[one.kl_exact for one in evaluations], y=[one.pass_rate for one in evaluations],
               labels=[f"step {one.step}" for one in evaluations]),
    ]  # fmt: skip
    text = [
        "The base policy's pass probabilities are not known, so there is no frontier here: best-of-n stands at the upper bound of its "
        "KL, ln n − (n − 1)/n."
    ]
    return _section(text, series)


def _section(text: list[str], series: list[Series]) -> Section:
    chart = Chart(title="Reward against KL to the base policy", kind="lines", series=series, x_label="KL to the base policy, nats a completion",
                  y_label="pass@1", percent=True)  # fmt: skip
    return Section(title="Reward against KL", text=text, charts=[chart])
