"""The curves of a selection as SVG and PNG. Needs the extra [report] (matplotlib).

Three figures: pass@k with its bands, accuracy against what it costs, and, for a proxy, its reward against the measuring
scorer's. Every figure is drawn from `selection.json` alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lockedroom.errors import BadInput, MissingExtra
from lockedroom.results.run_folder import writing
from lockedroom.results.selection import Selection
from lockedroom.stats.intervals import Interval
from lockedroom.stats.one_run import RunEstimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("svg", "png")
BLUE, GREY, RED = "#1f5a94", "#777777", "#b3331f"


def require_matplotlib() -> None:
    """Raises MissingExtra before anything is spent, when the figures could not be drawn."""
    try:
        import matplotlib  # noqa: F401  (whether it is there)
    except ModuleNotFoundError:
        raise MissingExtra("drawing plots", "report") from None


def require_plots_folder(folder: Path) -> None:
    """Raises BadInput before anything is spent, when the figures could not be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError as error:
        raise BadInput(f"--plots {folder}: cannot be made: {error.strerror}; choose another folder") from None
    if not writable:
        raise BadInput(f"--plots {folder}: cannot be written into; choose another folder")


def write_plots(selection: Selection, folder: Path) -> list[Path]:
    """Write the figures that the selection has numbers for, each as SVG and PNG; return their paths.

    The same numbers and library version give the same bytes. Raises MissingExtra without matplotlib.
    """
    require_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    drawings: dict[str, Callable[[Axes, Selection], None]] = {"accuracy-against-cost": _draw_cost}
    if selection.pass_at_k is not None:
        drawings["pass-at-k"] = _draw_curve
    if selection.plan.selector.startswith("proxy:"):
        drawings["proxy-against-strict"] = _draw_proxy
    paths = []
    with writing(folder), rc_context({"svg.hashsalt": "lockedroom", "svg.fonttype": "none", "font.size": 9}):
        folder.mkdir(parents=True, exist_ok=True)
        for name, draw in drawings.items():
            figure = Figure(figsize=(5.6, 3.6), layout="constrained")
            axes = figure.add_subplot()
            draw(axes, selection)
            axes.set_ylim(0, 1)
            axes.grid(alpha=0.25)
            axes.legend(frameon=False)
            for suffix in FORMATS:
                path = folder / f"{name}.{suffix}"
                metadata = {"Date": None} if suffix == "svg" else {"Software": None}
                figure.savefig(path, metadata=metadata, dpi=150)
                paths.append(path)
    return paths


def _draw_curve(axes: Axes, selection: Selection) -> None:
    curve = selection.pass_at_k
    assert curve is not None  # asked for only then
    ks = [point.k for point in curve.points]
    means = [point.estimate for point in curve.points]
    confidence = f"{selection.plan.confidence:.0%}"
    for bands, alpha, name in (
        ([point.simultaneous for point in curve.points], 0.15, f"{confidence} band, all k at once"),
        ([point.pointwise for point in curve.points], 0.3, f"{confidence} band, each k"),
    ):
        low, high = _ends(means, bands)
        axes.fill_between(ks, low, high, color=BLUE, alpha=alpha, linewidth=0, label=name)
    axes.plot(ks, means, color=BLUE, marker=".", label="pass@k")
    if selection.exact is not None:
        points = selection.exact.points
        axes.plot([p.k for p in points], [p.exact for p in points], "x", color=RED, label="exact pass@k")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("k draws")
    axes.set_ylabel("pass@k")


def _draw_cost(axes: Axes, selection: Selection) -> None:
    known = all(one.tokens is not None for one in selection.at_n)
    costs = [float(one.tokens or 0.0) if known else float(one.n) for one in selection.at_n]
    _draw_estimates(axes, costs, [one.accuracy for one in selection.at_n], selection.plan.selector, BLUE)
    _draw_estimates(axes, costs, [one.ceiling for one in selection.at_n], "ceiling (a perfect selector)", GREY)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("tokens an example" if known else "draws an example")
    axes.set_ylabel("accuracy")


def _draw_proxy(axes: Axes, selection: Selection) -> None:
    ns = [float(one.n) for one in selection.at_n]
    name = selection.plan.selector.removeprefix("proxy:")
    _draw_estimates(axes, ns, [one.told for one in selection.at_n], f"reward by {name}, which chose", RED)
    _draw_estimates(axes, ns, [one.accuracy for one in selection.at_n], "accuracy by the measuring scorer", BLUE)
    if all(one.predicted is not None for one in selection.at_n):
        axes.plot(ns, [one.predicted or 0.0 for one in selection.at_n], "--", color=GREY, label="verifier model")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("n draws")


def _draw_estimates(axes: Axes, xs: list[float], estimates: list[RunEstimate | None], name: str, color: str) -> None:
    found = [(x, one) for x, one in zip(xs, estimates, strict=True) if one is not None]
    means = [one.mean for _, one in found]
    low, high = _ends(means, [one.interval for _, one in found])
    axes.fill_between([x for x, _ in found], low, high, color=color, alpha=0.15, linewidth=0)
    axes.plot([x for x, _ in found], means, color=color, marker=".", label=name)


def _ends(means: list[float], intervals: list[Interval | None]) -> tuple[list[float], list[float]]:
    """Where an interval is undefined the band has no width, and the mean stands for both ends."""
    low = [mean if one is None else one.low for mean, one in zip(means, intervals, strict=True)]
    high = [mean if one is None else one.high for mean, one in zip(means, intervals, strict=True)]
    return low, high
