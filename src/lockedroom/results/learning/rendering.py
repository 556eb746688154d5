"""A learning run as text: the same Markdown goes to `learning.md` and to the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from lockedroom.results.learning.summary import Change, ControlArm, EqualTokens, LearningSummary
from lockedroom.results.text_table import text_table
from lockedroom.visible import visible
from lockedroom.wording import counted


def render_learning(summary: LearningSummary) -> str:
    """Return a learning run's numbers as Markdown that also reads well unrendered."""
    plan, last = summary.plan, summary.last
    e = plan.estimator
    beta = "" if e.kl == "none" else f", KL {e.kl} β={e.beta:g}"
    limit = plan.sampling.max_tokens
    at_most = "any number of tokens" if limit is None else f"at most {counted(limit, 'token')}"
    lines = [
        f"# {visible(plan.policy, 80)}, {counted(plan.steps, 'step')} of {plan.prompts} × {counted(plan.group, 'completion')}",
        "",
        f"Estimator {plan.preset}: baseline {e.baseline}, scale {e.scale}{beta}, divided by {e.normalisation}. "
        + (f"Biased, and named on purpose: {'; '.join(plan.biased)}." if plan.biased else "Unbiased."),
        f"Reward by {visible(plan.scorer, 80)}, temperature {plan.sampling.temperature:g}, "
        f"{at_most}. Measured on {visible(plan.dev, 120)}; KL and truncation are of completions.",
        "",
        *_changes(summary),
        "",
        *(f"- {finding}." for finding in summary.findings),
        f"- KL to the base policy: {last.kl_exact:z.3f} nats a completion (exact in every state visited, "
        f"{counted(last.completions, 'completion')}). Entropy: {last.entropy_exact:.4f} nats a token.",
        f"- Spent: {counted(summary.completions, 'completion')}, {counted(summary.tokens, 'token')}. Not judged: {summary.failed:,}. "
        f"Truncated: {summary.truncated:,}. Tokenised otherwise than their text would be: {summary.drift:,}.",
        "",
        *_curve(summary),
        "",
        *_decomposition(summary),
        *_controls(summary.controls),
    ]
    return "\n".join(lines) + "\n"


def _changes(summary: LearningSummary) -> list[str]:
    split = summary.attribution
    rows = [_change("pass@1, sampled", summary.pass_at_1)]
    if summary.exact_pass_at_1 is not None:
        rows.append(_change("pass@1, exact", summary.exact_pass_at_1))
    rows += [
        _change("greedy", summary.greedy),
        ("well-formed", f"{split.format_before:.4f}", f"{split.format_after:.4f}", "", ""),
        ("right among well-formed", _share(split.arithmetic_before), _share(split.arithmetic_after), "", ""),
    ]
    header = ("", "base", "learned", f"difference, {summary.plan.confidence:.0%} interval", "verdict")
    return text_table(header, rows, numbers=(1, 2))


def _curve(summary: LearningSummary) -> list[str]:
    rows = [_change(f"pass@{point.k}", point.change) for point in summary.curve]
    how = "exact, from probabilities" if summary.plan.exact else f"from {counted(summary.plan.draws, 'draw')}"
    crossed = (
        f"The curves cross: from k = {summary.crossing} on, the base policy solves more, beyond its interval."
        if summary.crossing is not None
        else "The curves do not cross beyond their intervals."
    )
    header = (f"pass@k ({how})", "base", "learned", f"difference, {summary.plan.confidence:.0%} interval", "")
    return [*text_table(header, rows, numbers=(1, 2)), "", crossed]


def _decomposition(summary: LearningSummary) -> list[str]:
    rows = [
        (row.policy, row.selector, str(row.n), "unknown" if row.tokens is None else f"{row.tokens:.1f}",
         f"{row.accuracy:.4f}", _span(row.low, row.high))
        for row in summary.deployed
    ]  # fmt: skip
    header = ("policy", "chosen by", "n", "tokens an example", "right", f"{summary.plan.confidence:.0%} interval")
    return ["Selection or learning: what more draws buy, and what training bought.", "",
            *text_table(header, rows, numbers=(2, 3, 4)), "", *(f"- {line}" for line in equal_sentences(summary.equal_tokens))]  # fmt: skip


def equal_sentences(equal: EqualTokens) -> list[str]:
    """Return what a person should know of selection against learning, a sentence a line."""
    if equal.n is None:
        same = "no number of draws on the curve makes the base policy as good as one draw of the learned one"
    elif equal.n == 1:
        same = "one draw of the base policy is as good as one of the learned policy: training saves no draws"
    else:
        same = f"{counted(equal.n, 'draw')} of the base policy and a perfect selector are as good as one draw of the learned policy"
    after = "" if equal.break_even is None else f"; training is the cheaper way after {equal.break_even:,.0f} examples"
    known = (
        "beyond the measured curve" if equal.budget_pass is None else f"{equal.budget_pass:.4f} with a perfect selector"
    )
    draws = counted(equal.budget_n, "draw")
    return [
        f"{same}{after}.",
        f"Training spent {counted(equal.training_tokens, 'token')}. Spent on the dev examples instead they are {draws} "
        f"an example of the base policy: {known}.",
    ]


def _controls(controls: Sequence[ControlArm]) -> list[str]:
    if not controls:
        return []
    rows = [
        (arm.name, f"{arm.gain.before:.4f}", f"{arm.gain.after:.4f}", _difference(arm.gain),
         _against(arm))
        for arm in controls
    ]  # fmt: skip
    header = ("control arm", "control", "learned", "difference", "verdict")
    return ["", "The same budget without the signal:", "", *text_table(header, rows, numbers=(1, 2))]


def _against(arm: ControlArm) -> str:
    if not arm.distinguishable:
        return "NOT distinguishable from control"
    return "better than control" if arm.gain.difference > 0 else "WORSE than control"


def _change(name: str, change: Change) -> tuple[str, ...]:
    verdict = "" if change.verdict is None else change.verdict.name
    return (name, f"{change.before:.4f}", f"{change.after:.4f}", _difference(change), verdict)


def _difference(change: Change) -> str:
    return f"{_number(change.difference, '+')} {_span(change.low, change.high)}"


def _span(low: float | None, high: float | None) -> str:
    return "(no spread)" if low is None or high is None else f"[{_number(low)}, {_number(high)}]"


def _number(value: float, sign: str = "-") -> str:
    """Four decimals; what would be all zeros and is not zero keeps its first digit."""
    return f"{value:{sign}.4f}" if value == 0 or abs(value) >= 5e-5 else f"{value:{sign}.0e}"


def _share(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
