"""The frontier and Goodhart runs as blocks."""

from __future__ import annotations

from pathlib import Path

import msgspec

from lockedroom.report.blocks import Chart, Rows, Section, Series, Table
from lockedroom.report.run_sections import run_series
from lockedroom.results.frontier import RESULT_JSON, FrontierResult
from lockedroom.results.goodhart import Arm, GoodhartResult
from lockedroom.visible import visible


def frontier_sections(run: Path) -> list[Section]:
    """Reward against KL and against tokens: closed form, learned policies, best-of-n."""
    found = msgspec.json.decode((run / RESULT_JSON).read_bytes(), type=FrontierResult)
    ceiling = Series(name="best of n", x=[one.kl for one in found.best_of_n], y=[one.reward for one in found.best_of_n], style="points")  # fmt: skip
    against_kl = [
        Series(name="closed form", x=[one.kl for one in found.curve], y=[one.reward for one in found.curve]),
        Series(name="learned", x=[one.kl for one in found.learned], y=[one.reward for one in found.learned], style="points"),
        ceiling,
    ]  # fmt: skip
    tokens = [
        Series(name="learned (training not counted)", x=[float(found.tokens)] * len(found.learned),
               y=[one.reward for one in found.learned], style="points"),
        Series(name="best of n", x=[float(one.n * found.tokens) for one in found.best_of_n],
               y=[one.reward for one in found.best_of_n]),
    ]  # fmt: skip
    rows: Rows = [
        [
            f"learned, β = {one.beta:g}",
            f"{one.kl:.4f}",
            f"{one.reward:.4f}",
            f"{one.optimum_reward:.4f}",
            f"{one.gap:.5f}",
        ]
        for one in found.learned
    ]
    rows += [
        [f"best of {one.n}", f"{one.kl:.4f}", f"{one.reward:.4f}", f"{one.frontier_reward:.4f}", ""] for one in found.best_of_n
    ]  # fmt: skip
    return [
        Section(
            title="Reward against KL and tokens",
            text=[visible(found.about, 300), "Everything is exact: this world can be listed."],
            charts=[
                Chart(title="Reward against KL", kind="lines", series=against_kl, x_label="KL to π_ref, nats", y_label="E[R]"),
                Chart(title="Reward against tokens an answer", kind="lines", series=tokens, x_label="tokens", x_log=True, y_label="E[R]"),
            ],
            tables=[Table(header=["policy", "KL (nats)", "E[R]", "best possible", "missing of the objective"], rows=rows,
                          numbers=[1, 2, 3, 4])],
        )
    ]  # fmt: skip


def goodhart_sections(run: Path) -> list[Section]:
    """Both scorers' rates along training, the gap against KL, and the exploit found, as text."""
    found = msgspec.json.decode((run / RESULT_JSON).read_bytes(), type=GoodhartResult)
    gaps = [
        Series(name=f"β = {arm.beta:g}", x=[point.kl for point in arm.points], y=[point.gap for point in arm.points])
        for arm in found.arms
    ]
    gap = Chart(title="Proxy reward minus strict pass rate", kind="lines", series=gaps, x_label="KL to π_ref, nats a completion", y_label="gap")  # fmt: skip
    return [Section(title="The gap", charts=[gap]), *(_arm(arm, found) for arm in found.arms)]


def _arm(arm: Arm, found: GoodhartResult) -> Section:
    steps = [point.step for point in arm.points]
    chart = Chart(
        title="Both scorers on the same completions",
        kind="lines",
        percent=True,
        x_label="step",
        series=[
            run_series(visible(found.setting.proxy, 60), steps, [point.proxy for point in arm.points]),
            run_series(visible(found.setting.strict, 60), steps, [point.strict for point in arm.points]),
        ],
    )
    opened = "The gap did not open."
    if arm.onset is not None:
        opened = f"The gap opened at step {arm.onset}, {arm.onset_kl:.2f} nats from the reference policy."
    rows: Rows = [
        [visible(one.code, 60), f"{one.share_at_start:.1%}", f"{one.share:.1%}", " · ".join(visible(text, 80) for text in one.texts)]
        for one in arm.exploits
    ]  # fmt: skip
    header = ["refused as", "at the start", "at the end", "written"]
    return Section(
        title=f"KL weight β = {arm.beta:g}",
        text=[opened],
        charts=[chart],
        tables=[
            Table(header=header, rows=rows, numbers=[1, 2], caption="Paid by the proxy, refused by the strict scorer")
        ],
    )


def goodhart_verdict(run: Path) -> str:
    """One sentence about every arm."""
    found = msgspec.json.decode((run / RESULT_JSON).read_bytes(), type=GoodhartResult)
    said = [
        f"β = {arm.beta:g}: " + ("no gap opened" if arm.onset is None else f"the gap opened at step {arm.onset}")
        for arm in found.arms
    ]
    return "; ".join(said)
