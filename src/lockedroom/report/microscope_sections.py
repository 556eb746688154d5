"""The bandit, frontier and Goodhart runs as blocks."""

from __future__ import annotations

from pathlib import Path

import msgspec

from lockedroom.jsonl import read_batches
from lockedroom.report.blocks import Chart, Fact, Rows, Section, Series, Table
from lockedroom.report.numerals import signed, signed_span, span
from lockedroom.report.reward_against_kl import FRONTIER, LEARNED, SELECTED
from lockedroom.report.run_sections import run_series
from lockedroom.results.microscope.bandit import STEPS_JSONL, BanditResult, BaselineTable, StepLine
from lockedroom.results.microscope.frontier import RESULT_JSON, FrontierResult
from lockedroom.results.microscope.goodhart import Arm, GoodhartResult
from lockedroom.stats.one_run import RunEstimate
from lockedroom.visible import visible
from lockedroom.wording import counted

MOST_LINES = 12  # of probabilities on one chart


def bandit_verdict(run: Path) -> str:
    """What is wrong with the run, or that nothing is, in one sentence."""
    found = _bandit(run)
    course = f"E[R] {found.start:.3f} → {found.final:.3f}, of {found.ceiling:.3f} that can be had."
    return f"{course} {' '.join(one + '.' for one in found.findings)}" if found.findings else f"{course} No finding."


def bandit_sections(run: Path) -> list[Section]:
    """The course of learning, update by update, and what each baseline would do."""
    found = _bandit(run)
    lines = [line for batch in read_batches(run / STEPS_JSONL, StepLine) for line in batch.rows]
    at = [0.0, *(float(line.step + 1) for line in lines)]
    expected = [
        Series(name="exact E[R]", x=at, y=[found.start, *(line.expected_reward for line in lines)]),
        Series(
            name="the most that can be had", x=[at[0], at[-1]], y=[found.reachable, found.reachable], style="dashed"
        ),
    ]
    named = [(c, y) for c in range(len(found.contexts)) for y in range(len(found.texts))]
    probabilities = [
        Series(name=f"{found.contexts[c]} {found.texts[y]}" if len(found.contexts) > 1 else found.texts[y], x=at,
               y=[found.start_CY[c][y], *(line.probabilities_CY[c][y] for line in lines)])
        for c, y in named
    ]  # fmt: skip
    s = found.setting
    text = [_sentence(found.about),
            f"Baseline {s.baseline}, {s.draws} × {counted(s.rounds, 'completion')} an update, rate {s.learning_rate:g}"
            + (f"; sabotage: {s.sabotage}" if s.sabotage != "none" else "")
            + (f"; credit to the {s.credit} step only" if s.credit != "both" else "") + "."]  # fmt: skip
    charts = [Chart(title="Expected reward", kind="lines", series=expected, x_label="update", y_label="E[R]")]
    if len(named) <= MOST_LINES:
        charts.append(
            Chart(
                title="Probability of each completion",
                kind="lines",
                series=probabilities,
                x_label="update",
                percent=True,
            )
        )
    entropy = [Series(name="entropy", x=at[1:], y=[line.entropy for line in lines])]
    charts.append(Chart(title="Entropy, nats", kind="lines", series=entropy, x_label="update"))
    return [
        Section(title="The course of learning", text=text, points=found.findings, charts=charts),
        _baselines(found.baselines),
    ]


def _baselines(table: BaselineTable) -> Section:
    rows: Rows = [
        [row.baseline, _or_dash(row.share, 3), _or_dash(row.variance, 5), _or_dash(row.ratio, 2),
         "" if row.measured is None else f"{row.measured.variance:.5f} ± {row.measured.variance_error:.5f}", visible(row.about, 200)]
        for row in table.rows
    ]  # fmt: skip
    helps = "lies below" if table.mean_helps else "lies above, so that the mean makes the variance worse,"
    return Section(
        title="What a baseline does to the gradient",
        text=[f"Variance of the gradient that learning starts with, from {counted(table.draws, 'draw')}. A share of 1 is unbiased.",
              f"The constant of least variance is b* = {table.optimal:.4f}; the mean reward, {table.expected_reward:.4f}, {helps} 2·b*."],
        tables=[Table(header=["baseline", "share of ∇J", "variance", "× none", "measured variance", "what is subtracted"], rows=rows,
                      numbers=[1, 2, 3, 4])],
    )  # fmt: skip


def _or_dash(value: float | None, decimals: int) -> str:
    return "–" if value is None else f"{value:.{decimals}f}"


def _bandit(run: Path) -> BanditResult:
    return msgspec.json.decode((run / RESULT_JSON).read_bytes(), type=BanditResult)


def frontier_sections(run: Path) -> list[Section]:
    """Reward against KL and against tokens: best-of-n, learned policies, closed form."""
    found = msgspec.json.decode((run / RESULT_JSON).read_bytes(), type=FrontierResult)
    ns, betas = [f"n = {one.n}" for one in found.best_of_n], [f"β = {one.beta:g}" for one in found.learned]
    selected: list[float | None] = [one.reward for one in found.best_of_n]
    learned: list[float | None] = [one.reward for one in found.learned]
    against_kl = [
        Series(name=SELECTED, x=[_nats(one.kl) for one in found.best_of_n], y=selected, labels=ns, style="points"),
        Series(name=LEARNED, x=[_nats(one.kl) for one in found.learned], y=learned, labels=betas, style="points"),
        Series(name=FRONTIER, x=[_nats(one.kl) for one in found.curve], y=[one.reward for one in found.curve], style="dashed"),
    ]  # fmt: skip
    tokens = [
        Series(name=SELECTED, x=[float(one.n * found.tokens) for one in found.best_of_n], y=selected, labels=ns),
        Series(name=f"{LEARNED} (training not counted)", x=[float(found.tokens)] * len(learned), y=learned, labels=betas, style="points"),
    ]  # fmt: skip
    rows: Rows = [
        [f"learned, β = {one.beta:g}", f"{one.kl:z.4f}", f"{one.reward:.4f}", f"{one.optimum_reward:.4f}", f"{one.gap:.5f}"]
        for one in found.learned
    ]  # fmt: skip
    rows += [
        [f"best of {one.n}", f"{one.kl:z.4f}", f"{one.reward:.4f}", f"{one.frontier_reward:.4f}", ""] for one in found.best_of_n
    ]  # fmt: skip
    return [
        Section(
            title="Reward against KL and tokens",
            text=[_sentence(found.about), "Everything is exact: this world can be listed."],
            charts=[
                Chart(title="Reward against KL", kind="lines", series=against_kl, x_label="KL to π_ref, nats", y_label="E[R]"),
                Chart(title="Reward against tokens an answer", kind="lines", series=tokens, x_label="tokens", x_log=True, y_label="E[R]"),
            ],
            tables=[Table(header=["policy", "KL (nats)", "E[R]", "best possible", "missing of the objective"], rows=rows,
                          numbers=[1, 2, 3, 4])],
        )
    ]  # fmt: skip


def _sentence(text: str) -> str:
    return f"{visible(text[:1].upper() + text[1:], 300)}."


def goodhart_sections(run: Path) -> list[Section]:
    """Both scorers' rates along training, the gap against KL, and the exploit found, as text."""
    found = msgspec.json.decode((run / RESULT_JSON).read_bytes(), type=GoodhartResult)
    gaps = [
        Series(name=f"β = {arm.beta:g}", x=[_nats(point.kl) for point in arm.points], y=[point.gap for point in arm.points],
               labels=[f"step {point.step}" for point in arm.points])
        for arm in found.arms
    ]  # fmt: skip
    gap = Chart(title="Proxy reward minus strict pass rate", kind="lines", series=gaps, x_label="KL to π_ref, nats a completion", y_label="gap")  # fmt: skip
    rows: Rows = [
        [f"{arm.beta:g}", str(point.step), f"{point.kl:z.3f}", _mean(point.proxy), _mean(point.strict),
         "undefined" if point.gap is None else f"{point.gap:.3f}",
         "" if point.grown is None else f"{signed(point.grown, 3)} ({signed_span(point.grown_interval)})"]
        for arm in found.arms for point in arm.points
    ]  # fmt: skip
    header = ["β", "step", "KL (nats)", "proxy", "strict", "gap", "grown since step 0"]
    text = [
        "What the proxy pays beyond what the strict scorer passes, on the same completions, as the policy moves away."
    ]
    table = Table(header=header, rows=rows, numbers=list(range(6)), filterable=True)
    return [
        Section(title="The gap", text=text, charts=[gap], tables=[table]),
        *(_arm(arm, found) for arm in found.arms),
    ]


def _nats(kl: float) -> float:
    """Without the rounding that makes a KL of 0 read as −0."""
    return round(kl, 9) + 0.0


def _mean(estimate: RunEstimate | None) -> str:
    return "undefined" if estimate is None else f"{estimate.mean:.3f}"


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
    return f"{'; '.join(said)}."


def goodhart_facts(run: Path) -> list[Fact]:
    """What the proxy paid, what was right, and the gap between them, at the start and at the end of every arm."""
    found = msgspec.json.decode((run / RESULT_JSON).read_bytes(), type=GoodhartResult)
    facts = []
    for arm in found.arms:
        start, end = arm.points[0], arm.points[-1]
        named = f", β = {arm.beta:g}" if len(found.arms) > 1 else ""
        facts += [
            Fact(f"{visible(found.setting.proxy, 60)} pays{named}", f"{_mean(start.proxy)} → {_mean(end.proxy)}", _interval(end.proxy)),
            Fact(f"{visible(found.setting.strict, 60)} passes{named}", f"{_mean(start.strict)} → {_mean(end.strict)}", _interval(end.strict),
                 "plain" if arm.onset is None else "bad"),
        ]  # fmt: skip
    return facts


def _interval(estimate: RunEstimate | None) -> str:
    return "" if estimate is None else f"at the end {span(estimate.interval)}"


def frontier_verdict(run: Path) -> str:
    """How near to the best possible the learned policies came, in one sentence."""
    found = msgspec.json.decode((run / RESULT_JSON).read_bytes(), type=FrontierResult)
    worst = max(found.learned, key=lambda one: one.gap, default=None)
    if worst is None:
        return "Nothing was learned."
    return f"Learned policies miss at most {worst.gap:.5f} of the best possible objective (at β = {worst.beta:g})."
