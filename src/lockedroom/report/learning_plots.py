"""Figures of the microscope: a bandit's course and its baselines; the KL frontier. Needs the extra [report] (matplotlib).

The same numbers and library version give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lockedroom.report.plots import BLUE, GREY, RED, require_matplotlib
from lockedroom.results.bandit import BanditResult, StepLine
from lockedroom.results.frontier import FrontierResult
from lockedroom.results.run_folder import writing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = (BLUE, RED, "#3b8a4a", "#c08a1e", "#6a4c93", GREY, "#1f9a94", "#000000")
SHOWN = 8


def plot_bandit(result: BanditResult, steps: Sequence[StepLine], path: Path) -> None:
    """Draw how the probabilities and E[R] moved, and the variance of a constant baseline as the parabola it is."""
    figure = _figure(9.0, 3.4)
    left, right = figure.subplots(1, 2)
    _draw_course(left, result, steps)
    _draw_parabola(right, result)
    _save(figure, path)


def plot_frontier(result: FrontierResult, path: Path) -> None:
    """Draw reward against KL and reward against tokens an answer."""
    figure = _figure(9.0, 3.6)
    left, right = figure.subplots(1, 2, sharey=True)
    left.plot([one.kl for one in result.curve], [one.reward for one in result.curve], color=GREY,
              label="closed form, π* ∝ π_ref·exp(R/β)")  # fmt: skip
    left.plot(
        [one.kl for one in result.learned], [one.reward for one in result.learned], "o", color=BLUE, label="learned"
    )
    left.plot([one.kl for one in result.best_of_n], [one.reward for one in result.best_of_n], "x", color=RED,
              label="best of n")  # fmt: skip
    for one in result.learned:
        left.annotate(f"β={one.beta:g}", (one.kl, one.reward), (-4, 6), textcoords="offset points", fontsize=7,
                      ha="right", color=BLUE)  # fmt: skip
    for best in result.best_of_n:
        left.annotate(f"{best.n}", (best.kl, best.reward), (4, -9), textcoords="offset points", fontsize=7, color=RED)
    left.axhline(result.ceiling, color=GREY, linewidth=0.8, linestyle=":")
    left.set_xlim(left=-0.12 * max(one.kl for one in result.curve))  # room for the labels
    left.set_xlabel("KL to π_ref, nats a completion")
    left.set_ylabel("E[R]")
    right.plot([one.n * result.tokens for one in result.best_of_n], [one.reward for one in result.best_of_n], "-x",
               color=RED, label="best of n")  # fmt: skip
    right.plot([result.tokens] * len(result.learned), [one.reward for one in result.learned], "o", color=BLUE,
               label="learned (training not counted)")  # fmt: skip
    right.axhline(result.ceiling, color=GREY, linewidth=0.8, linestyle=":", label="the best answers alone")
    right.set_xscale("log", base=2)
    ticks = [one.n * result.tokens for one in result.best_of_n]
    right.set_xticks(ticks, [str(tick) for tick in ticks])
    right.set_xlabel("tokens an answer")
    for axes in (left, right):
        _finish(axes)
    _save(figure, path)


def _draw_course(axes: Axes, result: BanditResult, steps: Sequence[StepLine]) -> None:
    xs = range(len(steps) + 1)
    names = [(c, y, f"π({text}|{context})" if len(result.contexts) > 1 else f"π({text})")
             for c, context in enumerate(result.contexts) for y, text in enumerate(result.texts)]  # fmt: skip
    if len(names) <= SHOWN:
        for (c, y, name), color in zip(names, COLORS, strict=False):
            values = [result.start_CY[c][y], *(step.probabilities_CY[c][y] for step in steps)]
            axes.plot(xs, values, color=color, linewidth=1, label=name)
    axes.plot(
        xs, [result.start, *(step.expected_reward for step in steps)], color="black", linewidth=2, label="E[R], exact"
    )
    axes.axhline(result.ceiling, color="black", linewidth=0.8, linestyle=":", label="best possible E[R]")
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("update")
    axes.set_ylabel("probability; reward")
    _finish(axes)


def _draw_parabola(axes: Axes, result: BanditResult) -> None:
    table = result.baselines
    low, high = min(0.0, table.optimal), max(table.expected_reward, 2 * table.optimal, table.optimal)
    margin = 0.15 * (high - low) or 0.1
    xs = [low - margin + (high - low + 2 * margin) * i / 100 for i in range(101)]
    axes.plot(xs, [table.one_optimal + (x - table.optimal) ** 2 * table.mean_squared_score for x in xs], color=GREY)
    for x, y, name, mark, color in (
        (0.0, table.one_none, "no baseline", "o", BLUE),
        (table.expected_reward, table.one_mean, "mean reward", "s", RED),
        (table.optimal, table.one_optimal, "b*", "D", "black"),
    ):
        axes.plot([x], [y], mark, color=color, label=f"{name}: {y:.4g}", fillstyle="none" if mark == "D" else "full")
    axes.set_ylim(bottom=-0.03 * axes.get_ylim()[1])  # so that a mark at 0 is whole
    axes.set_xlabel("constant baseline b")
    axes.set_ylabel("variance of one draw's gradient, exact")
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=7)


def _figure(width: float, height: float) -> Figure:
    require_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Figure, path: Path) -> None:
    from matplotlib import rc_context

    metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
    with writing(path), rc_context({"svg.hashsalt": "lockedroom", "svg.fonttype": "none", "font.size": 9}):
        figure.savefig(path, metadata=metadata, dpi=150)
