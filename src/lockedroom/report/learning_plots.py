"""Figures of the microscope: a bandit's course and its baselines; the KL frontier. Needs the extra [report] (matplotlib).

The same numbers and library version give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lockedroom.report.plots import BLUE, GREY, RED, require_matplotlib
from lockedroom.results.microscope.bandit import BanditResult, StepLine
from lockedroom.results.microscope.frontier import FrontierResult
from lockedroom.results.microscope.run_frontier import RunFrontier
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
    tokens = float(result.tokens)
    chart = FrontierChart(
        "E[R]",
        [(one.kl, one.reward) for one in result.curve],
        [(f"β={one.beta:g}", one.kl, one.reward, tokens) for one in result.learned],
        [(one.n, one.kl, one.reward, one.n * tokens) for one in result.best_of_n],
        result.ceiling,
        [],
    )
    _draw_frontier(chart, path)


def plot_run_frontier(result: RunFrontier, path: Path) -> None:
    """Draw the same two charts of finished learning runs, with the way that each went."""
    chart = FrontierChart(
        "pass@1",
        [(one.kl, one.reward) for one in result.curve],
        [
            ("no KL" if one.kl_term == "none" else f"β={one.beta:g}", one.kl, one.reward, one.tokens)
            for one in result.runs
        ],
        [(one.n, one.kl, one.reward, one.tokens) for one in result.best_of_n],
        result.ceiling,
        [[(stage.kl, stage.reward) for stage in one.course] for one in result.runs],
    )
    _draw_frontier(chart, path)


class FrontierChart(msgspec.Struct, frozen=True):
    """What both charts show. curve: (KL, reward) of the optimum; learned: (label, KL, reward, tokens); best: (n, KL, reward,
    tokens); courses: (KL, reward) along the training of each learned policy, if that is known."""

    reward: str
    curve: list[tuple[float, float]]
    learned: list[tuple[str, float, float, float]]
    best: list[tuple[int, float, float, float]]
    ceiling: float
    courses: list[list[tuple[float, float]]]


def _draw_frontier(chart: FrontierChart, path: Path) -> None:
    figure = _figure(9.0, 3.6)
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_against_kl(left, chart)
    _draw_against_tokens(right, chart)
    for axes in (left, right):
        _finish(axes)
    _save(figure, path)


def _draw_against_kl(axes: Axes, chart: FrontierChart) -> None:
    axes.plot(*_columns(chart.curve), color=GREY, label="closed form, π* ∝ π_ref·exp(R/β)")
    for number, course in enumerate(chart.courses):
        axes.plot(*_columns(course), color=BLUE, linewidth=0.8, alpha=0.5, label=None if number else "the way there")
    kls, rewards = [kl for _, kl, _, _ in chart.learned], [reward for _, _, reward, _ in chart.learned]
    axes.plot(kls, rewards, "o", color=BLUE, label="learned")
    axes.plot(
        [kl for _, kl, _, _ in chart.best],
        [reward for _, _, reward, _ in chart.best],
        "x",
        color=RED,
        label="best of n",
    )
    above = not chart.courses  # a way comes from the left, so its end is labelled on the right
    for name, kl, reward, _ in chart.learned:
        axes.annotate(name, (kl, reward), (-4, 6) if above else (5, -10), textcoords="offset points", fontsize=7,
                      ha="right" if above else "left", color=BLUE)  # fmt: skip
    widest = max([kl for kl, _ in chart.curve] + kls)
    labelled = -widest
    for n, kl, reward, _ in chart.best:
        if kl - labelled > 0.03 * widest:  # where many draws stand on one point, the first names it
            labelled = kl
            axes.annotate(f"{n}", (kl, reward), (4, -9) if above else (-4, 4), textcoords="offset points", fontsize=7,
                          ha="left" if above else "right", color=RED)  # fmt: skip
    axes.axhline(chart.ceiling, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xlim(-0.12 * widest, 1.12 * widest if chart.courses else None)  # room for the labels
    axes.set_xlabel("KL to π_ref, nats a completion")
    axes.set_ylabel(chart.reward)


def _draw_against_tokens(axes: Axes, chart: FrontierChart) -> None:
    spent, rewards = [tokens for *_, tokens in chart.best], [reward for _, _, reward, _ in chart.best]
    axes.plot(spent, rewards, "-x", color=RED, label="best of n")
    axes.plot([tokens for *_, tokens in chart.learned], [reward for _, _, reward, _ in chart.learned], "o", color=BLUE,
              label="learned (training not counted)")  # fmt: skip
    axes.axhline(chart.ceiling, color=GREY, linewidth=0.8, linestyle=":", label="the best answers alone")
    axes.set_xscale("log", base=2)
    axes.set_xticks(spent, [f"{tokens:.3g}" for tokens in spent])
    axes.set_xlabel("tokens an answer")


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _draw_course(axes: Axes, result: BanditResult, steps: Sequence[StepLine]) -> None:
    xs = range(len(steps) + 1)
    names = [(c, y, f"π({text}|{context})" if len(result.contexts) > 1 else f"π({text})")
             for c, context in enumerate(result.contexts) for y, text in enumerate(result.texts)]  # fmt: skip
    if len(names) <= SHOWN:
        for (c, y, name), color in zip(names, COLORS, strict=False):
            values = [result.start_CY[c][y], *(step.probabilities_CY[c][y] for step in steps)]
            axes.plot(xs, values, color=color, linewidth=1, label=name)
    axes.plot(
        xs,
        [result.start, *(step.expected_reward for step in steps)],
        color="black",
        linewidth=2,
        label="E[R], exact",
        zorder=1,
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
