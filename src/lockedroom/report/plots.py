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
from lockedroom.results.selection.numbers import Selection
from lockedroom.results.selection.selectors import PROXY
from lockedroom.stats.intervals import Interval
from lockedroom.stats.one_run import RunEstimate
from lockedroom.visible import visible
from lockedroom.wording import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("svg", "png")
MOST_TICKS = 8
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
    if selection.plan.selector.startswith(PROXY):
        drawings["proxy-against-strict"] = _draw_proxy
    paths = []
    with writing(folder), rc_context({"svg.hashsalt": "lockedroom", "svg.fonttype": "none", "font.size": 9}):
        folder.mkdir(parents=True, exist_ok=True)
        for name, draw in drawings.items():
            figure = Figure(figsize=(5.6, 4.0), layout="constrained")
            axes = figure.add_subplot()
            draw(axes, selection)
            axes.set_title(_title(selection), loc="left", fontsize=9)
            axes.grid(alpha=0.25)
            figure.legend(loc="outside lower left", frameon=False, ncols=2)
            for suffix in FORMATS:
                path = folder / f"{name}.{suffix}"
                metadata = {"Date": None} if suffix == "svg" else {"Software": None}
                figure.savefig(path, metadata=metadata, dpi=150)
                paths.append(path)
    return paths


def _title(selection: Selection) -> str:
    draws = counted(selection.draws, "draw")
    return f"{_short(selection.plan.selector)}, {counted(selection.examples, 'example')} × {draws}"


def _short(selector: str) -> str:
    """A selector's name without the folders of a person's file, at most 40 characters of it."""
    kind, colon, name = selector.rpartition(":" if selector.count(":") < 2 else PROXY)
    short = f"{kind}{colon}{Path(name).name}"
    return visible(short if len(short) <= 40 else f"{short[:39]}…", 60)


def _draw_curve(axes: Axes, selection: Selection) -> None:
    curve = selection.pass_at_k
    assert curve is not None  # asked for only then
    ks = [float(point.k) for point in curve.points]
    means = [point.estimate for point in curve.points]
    confidence = f"{selection.plan.confidence:.0%}"
    tops = list(means)
    for bands, alpha, name in (
        ([point.simultaneous for point in curve.points], 0.15, f"{confidence} band, all k at once"),
        ([point.pointwise for point in curve.points], 0.3, f"{confidence} band, each k"),
    ):
        low, high = _ends(means, bands)
        tops += high
        axes.fill_between(ks, low, high, color=BLUE, alpha=alpha, linewidth=0, label=name)
    axes.plot(ks, means, color=BLUE, marker=".", label="pass@k", clip_on=False)
    if selection.exact is not None:
        points = selection.exact.points
        tops += [p.exact for p in points]
        axes.plot([p.k for p in points], [p.exact for p in points], "x", color=RED, label="exact pass@k", clip_on=False)
    _counted(axes, ks, "k (draws)")
    _share(axes, tops, "pass@k (share of examples)")


def _draw_cost(axes: Axes, selection: Selection) -> None:
    known = all(one.tokens is not None for one in selection.at_n)
    costs = [float(one.tokens or 0.0) if known else float(one.n) for one in selection.at_n]
    ceiling, accuracy = [one.ceiling for one in selection.at_n], [one.accuracy for one in selection.at_n]
    tops = _draw_estimates(axes, costs, accuracy, _short(selection.plan.selector), BLUE)
    tops += _draw_estimates(axes, costs, ceiling, "ceiling (a perfect selector)", GREY, style="--")
    _counted(axes, costs, "tokens an example" if known else "draws an example")
    _share(axes, tops, "accuracy (share of examples)")


def _draw_proxy(axes: Axes, selection: Selection) -> None:
    ns = [float(one.n) for one in selection.at_n]
    name = _short(selection.plan.selector).removeprefix(PROXY)
    tops = _draw_estimates(axes, ns, [one.told for one in selection.at_n], f"reward by {name}", RED, style="-.")
    tops += _draw_estimates(axes, ns, [one.accuracy for one in selection.at_n], "accuracy, measured", BLUE)
    predicted = [(n, one.predicted) for n, one in zip(ns, selection.at_n, strict=True) if one.predicted is not None]
    if predicted:
        axes.plot(*zip(*predicted, strict=True), ":", color=GREY, label="accuracy, verifier model")
        tops += [value for _, value in predicted]
    _counted(axes, ns, "n (draws)")
    _share(axes, tops, "mean over examples")


def _draw_estimates(
    axes: Axes, xs: list[float], estimates: list[RunEstimate | None], name: str, color: str, *, style: str = "-"
) -> list[float]:
    """Draw estimates with their intervals; return how far they reach."""
    found = [(x, one) for x, one in zip(xs, estimates, strict=True) if one is not None]
    means = [one.mean for _, one in found]
    low, high = _ends(means, [one.interval for _, one in found])
    axes.fill_between([x for x, _ in found], low, high, color=color, alpha=0.15, linewidth=0)
    axes.plot([x for x, _ in found], means, style, color=color, marker=".", label=name, clip_on=False)
    return [*low, *high]


def _counted(axes: Axes, xs: list[float], name: str) -> None:
    """A doubling scale with plain numbers on it."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    if len(xs) <= MOST_TICKS:
        axes.set_xticks(xs, [f"{x:.3g}" for x in xs])
    axes.set_xlabel(name)


def _share(axes: Axes, reach: list[float], name: str) -> None:
    """From 0 to what is reached and a little more; to 1 where that is near. Rewards may lie outside."""
    top, bottom = max(reach, default=1.0), min(0.0, *reach, 0.0)
    axes.set_ylim(bottom * 1.1, 1.0 if 0.6 < top <= 1.0 else max(top * 1.15, 0.02))
    axes.set_ylabel(name)


def _ends(means: list[float], intervals: list[Interval | None]) -> tuple[list[float], list[float]]:
    """Where an interval is undefined the band has no width, and the mean stands for both ends."""
    low = [mean if one is None else one.low for mean, one in zip(means, intervals, strict=True)]
    high = [mean if one is None else one.high for mean, one in zip(means, intervals, strict=True)]
    return low, high
