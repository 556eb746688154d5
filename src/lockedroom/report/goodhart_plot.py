"""The figure of a Goodhart run: both scorers' rates against steps, and the gap against KL. Needs the extra [report]."""

from __future__ import annotations

from pathlib import Path

from lockedroom.report.plots import BLUE, GREY, RED, require_matplotlib
from lockedroom.results.microscope.goodhart import Arm, GoodhartResult
from lockedroom.results.run_folder import writing


def plot_goodhart(result: GoodhartResult, path: Path) -> None:
    """Write the figure as SVG or PNG, by the file's name; the same numbers give the same bytes."""
    require_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with writing(path), rc_context({"svg.hashsalt": "lockedroom", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(3.2 * len(result.arms) + 3.4, 3.4), layout="constrained")
        axes = figure.subplots(1, len(result.arms) + 1)
        for panel, arm in zip(axes, result.arms, strict=False):
            _draw_rates(panel, arm, result)
        last = axes[-1]
        for arm, ink in zip(result.arms, (RED, BLUE, "#3b8a4a", "#c08a1e", GREY) * len(result.arms), strict=False):
            known = [point for point in arm.points if point.gap is not None]
            last.plot(
                [point.kl for point in known],
                [point.gap for point in known],
                marker=".",
                color=ink,
                label=f"β = {arm.beta:g}",
            )
        last.set_xlabel("KL to π_ref, nats a completion")
        last.set_ylabel("gap")
        last.set_title("Proxy reward minus strict pass rate", fontsize=9)
        for panel in axes:
            panel.grid(alpha=0.25)
            panel.legend(frameon=False)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None}, dpi=150)


def _draw_rates(panel: object, arm: Arm, result: GoodhartResult) -> None:
    from matplotlib.axes import Axes

    assert isinstance(panel, Axes)
    for name, ink, estimates in (
        (result.setting.proxy, RED, [point.proxy for point in arm.points]),
        (result.setting.strict, BLUE, [point.strict for point in arm.points]),
    ):
        known = [(point.step, one) for point, one in zip(arm.points, estimates, strict=True) if one is not None]
        steps = [step for step, _ in known]
        means = [one.mean for _, one in known]
        panel.plot(steps, means, color=ink, marker=".", label=name)
        low = [one.interval.low if one.interval else one.mean for _, one in known]
        high = [one.interval.high if one.interval else one.mean for _, one in known]
        panel.fill_between(steps, low, high, color=ink, alpha=0.2, linewidth=0)
    if arm.onset is not None:
        panel.axvline(arm.onset, color=GREY, linewidth=0.8, linestyle=":", label="gap opens")
    panel.set_ylim(0, 1)
    panel.set_xlabel("step")
    panel.set_title(f"β = {arm.beta:g}", fontsize=9)
