"""Loop C as blocks: what changed and whether it was learning, the course of training, pass@k and cost before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from lockedroom.jsonl import read_batches
from lockedroom.report.blocks import Chart, Fact, Rows, Section, Series, Table, Tone
from lockedroom.report.numerals import signed
from lockedroom.report.reward_against_kl import reward_against_kl
from lockedroom.results.learning.metrics import EVALUATIONS, STEPS, Evaluation, StepMetrics
from lockedroom.results.learning.rendering import equal_sentences
from lockedroom.results.learning.summary import LEARNING_JSON, Change, LearningSummary
from lockedroom.visible import visible
from lockedroom.wording import counted

CODES_DRAWN = 6


def read_learning(run: Path) -> LearningSummary:
    return msgspec.json.decode((run / LEARNING_JSON).read_bytes(), type=LearningSummary)


def learning_facts(summary: LearningSummary) -> list[Fact]:
    """pass@1 and greedy before and after, format errors, and how far the policy moved."""
    change, greedy = summary.exact_pass_at_1 or summary.pass_at_1, summary.greedy
    return [
        Fact(f"pass@1{', exact' if summary.exact_pass_at_1 else ''}", f"{change.before:.3f} → {change.after:.3f}", _changed(change, summary), _tone(change)),
        Fact("greedy", f"{greedy.before:.3f} → {greedy.after:.3f}", _changed(greedy, summary), _tone(greedy)),
        Fact("format errors", f"{summary.format_errors_before:.1%} → {summary.format_errors_after:.1%}", "of the sampled dev completions"),
        Fact("KL to the base policy", f"{summary.last.kl_exact:.2f} nats", "a completion, exact in every state visited"),
    ]  # fmt: skip


def learning_sections(run: Path) -> list[Section]:
    """Findings, the course of training, pass@k, selection against learning, control arms."""
    summary = read_learning(run)
    steps = [step for batch in read_batches(run / STEPS, StepMetrics) for step in batch.rows]
    evaluations = [one for batch in read_batches(run / EVALUATIONS, Evaluation) for one in batch.rows]
    sections = [_changes(summary), _course(steps, evaluations), _curve(summary)]
    sections += [reward_against_kl(run, summary, evaluations), _cost(summary)]
    return [*sections, _controls(summary)] if summary.controls else sections


def _changes(summary: LearningSummary) -> Section:
    split, plan = summary.attribution, summary.plan
    rows: Rows = [["pass@1, sampled", *_cells(summary.pass_at_1)]]
    if summary.exact_pass_at_1 is not None:
        rows.append(["pass@1, exact", *_cells(summary.exact_pass_at_1)])
    rows += [
        ["greedy", *_cells(summary.greedy)],
        ["well-formed", f"{split.format_before:.4f}", f"{split.format_after:.4f}", "", ""],
        ["right among well-formed", _number(split.arithmetic_before), _number(split.arithmetic_after), "", ""],
    ]
    biased = f"Biased, and named on purpose: {'; '.join(plan.biased)}." if plan.biased else "The estimator is unbiased."
    return Section(
        title="Did it learn, or sharpen?",
        text=[*(f"{finding[0].upper()}{finding[1:]}." for finding in summary.findings),
              f"{counted(plan.steps, 'step')} of {plan.prompts} × {counted(plan.group, 'completion')}, {plan.preset}. {biased}"],
        tables=[Table(header=["", "base", "learned", "difference", "verdict"], rows=rows, numbers=[1, 2])],
    )  # fmt: skip


def _course(steps: Sequence[StepMetrics], evaluations: Sequence[Evaluation]) -> Section:
    at = [float(step.step) for step in steps]
    measured = [float(one.step) for one in evaluations]

    def of_step(name: str, value: Callable[[StepMetrics], float | None]) -> Series:
        return Series(name=name, x=at, y=[value(step) for step in steps])

    rates = [
        of_step("reward, training", lambda step: step.reward),
        of_step("well-formed, training", lambda step: step.format_share),
        Series(name="pass@1, dev", x=measured, y=[one.exact_pass_at_1 if one.exact_pass_at_1 is not None else one.pass_rate
                                                  for one in evaluations], style="points"),
    ]  # fmt: skip
    kls = [of_step("KL, training", lambda step: step.distance),
           Series(name="KL, dev, exact", x=measured, y=[one.kl_exact for one in evaluations], style="points")]  # fmt: skip
    total = Counter[str]()
    for step in steps:
        total.update(step.codes)
    codes = [of_step(visible(code, 40), lambda step, code=code: step.codes.get(code, 0) / step.scored if step.scored else None)  # type: ignore[misc]  # a lambda's default has no type
             for code, _ in total.most_common(CODES_DRAWN)]  # fmt: skip
    return Section(
        title="The course of training",
        text=["Lines are means over the completions of a step; dots are measured on dev between steps, and never trained on."],
        charts=[
            Chart(title="Reward and format", kind="lines", series=rates, x_label="step", percent=True),
            Chart(title="Codes of the training completions", kind="lines", series=codes, x_label="step", percent=True),
            Chart(title="KL to the base policy, nats a completion", kind="lines", series=kls, x_label="step"),
            Chart(title="Entropy, nats a token", kind="lines", series=[of_step("entropy", lambda step: step.entropy)], x_label="step"),
        ],
        tables=[_evaluated(evaluations)],
    )  # fmt: skip


def _evaluated(evaluations: Sequence[Evaluation]) -> Table:
    rows: Rows = [
        [str(one.step), _rate(one.pass_rate), _rate(one.exact_pass_at_1), f"{one.kl_exact:z.3f}",
         f"{one.entropy_exact:.4f}", _number(one.length), f"{one.truncated:,}"]
        for one in evaluations
    ]  # fmt: skip
    header = ["step", "pass rate, dev", "exact", "KL (nats)", "entropy", "tokens a completion", "truncated"]
    return Table(header=header, rows=rows, numbers=list(range(7)), caption="Measured on dev")


def _curve(summary: LearningSummary) -> Section:
    ks = [float(point.k) for point in summary.curve]
    series = [
        Series(name="base", x=ks, y=[point.change.before for point in summary.curve]),
        Series(name="learned", x=ks, y=[point.change.after for point in summary.curve]),
    ]
    crossed = "The curves do not cross beyond their intervals."
    if summary.crossing is not None:
        crossed = f"The curves cross: from k = {summary.crossing} on, the base policy solves more."
    rows: Rows = [[str(point.k), *_cells(point.change)[:3]] for point in summary.curve]
    how = "Exact, from probabilities" if summary.plan.exact else f"From {counted(summary.plan.draws, 'draw')}"
    return Section(
        title="pass@k before and after",
        text=[f"{how}. {crossed}"],
        charts=[Chart(title="pass@k", kind="lines", series=series, x_label="k (draws)", x_log=True, percent=True)],
        tables=[Table(header=["k", "base", "learned", "difference"], rows=rows, numbers=[0, 1, 2])],
    )


def _cost(summary: LearningSummary) -> Section:
    rows: Rows = [
        [row.policy, row.selector, str(row.n), _number(row.tokens), f"{row.accuracy:.4f}",
         "" if row.low is None or row.high is None else f"{row.low:.4f} to {row.high:.4f}"]
        for row in summary.deployed
    ]  # fmt: skip
    known = [row for row in summary.deployed if row.tokens is not None]
    series = [
        Series(name=policy, x=[row.tokens or 0.0 for row in known if row.policy == policy],
               y=[row.accuracy for row in known if row.policy == policy], style="points")
        for policy in dict.fromkeys(row.policy for row in known)
    ]  # fmt: skip
    chart = Chart(title="Right, against tokens spent on an example", kind="lines", series=series, x_label="tokens an example", x_log=True, percent=True)  # fmt: skip
    text = [line[:1].upper() + line[1:] for line in equal_sentences(summary.equal_tokens)]
    header = ["policy", "chosen by", "n", "tokens an example", "right", "interval"]
    return Section(title="Selection or learning", text=text, charts=[chart] if series else [],
                   tables=[Table(header=header, rows=rows, numbers=[2, 3, 4])])  # fmt: skip


def _controls(summary: LearningSummary) -> Section:
    rows: Rows = [
        [arm.name, *_cells(arm.gain)[:3], "distinguishable" if arm.distinguishable else "NOT distinguishable"]
        for arm in summary.controls
    ]
    header = ["control arm", "control", "learned", "difference", "verdict"]
    return Section(title="The same budget without the signal",
                   tables=[Table(header=header, rows=rows, numbers=[1, 2])])  # fmt: skip


def _cells(change: Change) -> list[str]:
    verdict = "" if change.verdict is None else change.verdict.name
    return [f"{change.before:.4f}", f"{change.after:.4f}", f"{signed(change.difference)} {_span(change)}", verdict]


def _changed(change: Change, summary: LearningSummary) -> str:
    return f"change {signed(change.difference)}, {summary.plan.confidence:.0%} interval {_span(change).strip('()')}"


def _span(change: Change) -> str:
    return (
        "no spread" if change.low is None or change.high is None else f"({signed(change.low)} to {signed(change.high)})"
    )


def _tone(change: Change) -> Tone:
    if change.low is not None and change.low > 0:
        return "good"
    return "bad" if change.high is not None and change.high < 0 else "plain"


def _rate(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4g}"
