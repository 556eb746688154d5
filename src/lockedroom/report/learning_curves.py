"""The figure of a learning run: the course of training, KL, and pass@k before and after. Needs the extra [report]."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lockedroom.jsonl import read_batches
from lockedroom.report.learning_sections import read_learning
from lockedroom.report.plots import BLUE, GREY, RED, require_matplotlib
from lockedroom.results.learning.metrics import EVALUATIONS, STEPS, Evaluation, StepMetrics
from lockedroom.results.run_folder import writing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lockedroom.results.learning.summary import LearningSummary


def plot_learning(run: Path, path: Path) -> None:
    """Draw a finished learning run as SVG or PNG, by the file's name; the same run gives the same bytes."""
    require_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    steps = [step for batch in read_batches(run / STEPS, StepMetrics) for step in batch.rows]
    evaluations = [one for batch in read_batches(run / EVALUATIONS, Evaluation) for one in batch.rows]
    with writing(path), rc_context({"svg.hashsalt": "lockedroom", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(10.5, 3.4), layout="constrained")
        rates, kls, curve = figure.subplots(1, 3)
        _draw_rates(rates, steps, evaluations)
        _draw_kl(kls, steps, evaluations)
        _draw_curve(curve, read_learning(run))
        for axes in (rates, kls, curve):
            axes.grid(alpha=0.25)
            axes.legend(frameon=False, loc="lower right" if axes is curve else "best")
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None}, dpi=150)


def _draw_rates(axes: Axes, steps: list[StepMetrics], evaluations: list[Evaluation]) -> None:
    scored = [step for step in steps if step.reward is not None and step.format_share is not None]
    at = [step.step for step in scored]
    axes.plot(at, [step.reward or 0.0 for step in scored], color=BLUE, label="reward, training")
    axes.plot(at, [step.format_share or 0.0 for step in scored], color=GREY, label="well-formed, training")
    known = [
        (one.step, one.exact_pass_at_1 if one.exact_pass_at_1 is not None else one.pass_rate) for one in evaluations
    ]
    points = [(step, value) for step, value in known if value is not None]
    axes.plot([step for step, _ in points], [value for _, value in points], "o", color=RED, label="pass@1, dev")
    axes.set_ylim(0, 1)
    axes.set_xlabel("step")


def _draw_kl(axes: Axes, steps: list[StepMetrics], evaluations: list[Evaluation]) -> None:
    drawn = [(step.step, step.distance) for step in steps if step.distance is not None]
    how = "exact" if all(step.kl_exact is not None for step in steps) else "sampled"
    axes.plot([step for step, _ in drawn], [value for _, value in drawn], color=BLUE, label=f"training, {how}")
    axes.plot(
        [one.step for one in evaluations], [one.kl_exact for one in evaluations], "o", color=RED, label="dev, exact"
    )
    axes.set_xlabel("step")
    axes.set_ylabel("KL to the base policy, nats a completion")


def _draw_curve(axes: Axes, summary: LearningSummary) -> None:
    ks = [point.k for point in summary.curve]
    axes.plot(ks, [point.change.before for point in summary.curve], color=GREY, marker=".", label="base")
    axes.plot(ks, [point.change.after for point in summary.curve], color=BLUE, marker=".", label="learned")
    axes.set_xscale("log", base=2)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("k")
    axes.set_ylabel("pass@k")
