"""A run's numbers as text: the same Markdown goes to `summary.md` and to the terminal."""

from __future__ import annotations

from typing import Any

from lockedroom.records import Outcome
from lockedroom.results.evaluation.summary import Estimate, Summary
from lockedroom.results.text_table import text_table
from lockedroom.safeguards.manifest import Manifest
from lockedroom.visible import visible
from lockedroom.wording import counted

# Up to so many draws the distribution of per-example pass rates is printed in full.
LISTED_DRAWS = 10


def render_summary(summary: Summary, manifest: Manifest) -> str:
    """Return the summary of a run as Markdown that also reads well unrendered."""
    room = manifest.room
    lines = [
        f"# {visible(manifest.policy.name, 80)} on {visible(room.dataset.split, 80)}",
        "",
        f"Prompts: {visible(str(room.prompts.get('template', 'undeclared')), 120)}. "
        f"Sampling: {visible(_sampling(room.sampling), 200)}.",
        "",
        f"{counted(summary.examples, 'example')} × {counted(summary.draws, 'draw')} = {counted(summary.attempts, 'attempt')}, "
        f"judged by {visible(room.scorer.name, 80)} version {room.scorer.version}.{_selection(manifest.selection)}",
        "",
        *text_table(
            ("", "value", f"{summary.confidence:.0%} interval", "standard error", "how"),
            _estimates(summary),
            numbers=(1,),
        ),
        "",
        *_remarks(summary),
        "",
        *_codes(summary),
    ]
    if manifest.inputs.extra_ids:
        shown = ", ".join(visible(name, 100) for name in manifest.inputs.extra_first)
        lines += ["", f"The completions file also holds {counted(manifest.inputs.extra_ids, 'id')} that are not in the dataset "
                  f"(not used): {shown}{', …' if manifest.inputs.extra_ids > 3 else ''}."]  # fmt: skip
    return "\n".join(lines) + "\n"


def _selection(selection: dict[str, Any]) -> str:
    if selection.get("selector", "none") == "none":
        return ""
    settings = ", ".join(f"{name} {value}" for name, value in selection.items() if name != "draws")
    return f"\nSelected, so this is not the policy's own rate: {visible(settings, 300)}."


def _sampling(sampling: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sampling.items())


def _estimates(summary: Summary) -> list[tuple[str, ...]]:
    if summary.pass_rate is None or summary.mean_reward is None:
        return [("pass rate", "none: nothing could be judged", "", "", "")]
    rows = [_estimate("pass rate", summary.pass_rate)]
    if summary.mean_reward != summary.pass_rate:
        rows.append(_estimate("mean reward", summary.mean_reward))
    return rows


def _estimate(name: str, estimate: Estimate) -> tuple[str, ...]:
    interval = "undefined" if estimate.low is None else f"[{estimate.low:.4f}, {estimate.high:.4f}]"
    error = "none: no spread" if estimate.degenerate else "undefined"
    if estimate.standard_error is not None:
        error = f"{estimate.standard_error:.4f}"
    how = "t over" if estimate.method == "t" else f"{estimate.method} over"
    return (name, f"{estimate.value:.4f}", interval, error, f"{how} {counted(estimate.examples, 'example')}")


def _remarks(summary: Summary) -> list[str]:
    lines = []
    if summary.mean_reward == summary.pass_rate and summary.pass_rate is not None:
        lines.append("- The mean reward is the pass rate: every reward is 1 for correct and 0 otherwise.")
    if summary.variance is not None:
        lines.append(
            f"- Variance of the reward: {summary.variance.within:.4f} within examples (over draws), "
            f"{summary.variance.between:z.4f} between examples."
        )
    if summary.draws > 1:
        lines.append(_pass_rates(summary))
    three = summary.with_failures
    if three is None:
        lines.append(f"- Failures: none, all {counted(summary.attempts, 'attempt was', 'attempts were')} judged.")
    else:
        scored = "undefined" if three.mean_scored is None else f"{three.mean_scored:.4f}"
        causes = ", ".join(f"{failure.count:,} {failure.code}" for failure in summary.failures)
        lines.append(
            f"- Failures: {summary.failed:,} of {counted(summary.attempts, 'attempt')} could not be judged ({causes})."
        )
        lines.append(
            f"  Mean reward {scored} over the judged, {three.mean_failures_as_zero:.4f} with failures as 0, "
            f"and anything in [{three.lowest:.4f}, {three.highest:.4f}] if they could be judged."
        )
        if summary.examples_without_score:
            lines.append(
                f"  {counted(summary.examples_without_score, 'example has no judged attempt and is', 'examples have no judged attempt and are')} in no estimate."
            )
    lines.append(_truncation(summary))
    lines.extend(f"- Note: {note}." for note in summary.notes)
    return lines


def _pass_rates(summary: Summary) -> str:
    full = {rate.correct: rate.examples for rate in summary.pass_rates if rate.scored == summary.draws}
    partly = sum(rate.examples for rate in summary.pass_rates if rate.scored < summary.draws)
    if summary.draws <= LISTED_DRAWS:
        shown = " · ".join(f"{correct}: {full.get(correct, 0):,}" for correct in range(summary.draws + 1))
    else:
        some = sum(examples for correct, examples in full.items() if 0 < correct < summary.draws)
        shown = f"none: {full.get(0, 0):,} · some: {some:,} · all: {full.get(summary.draws, 0):,}"
    rest = f" ({counted(partly, 'more has', 'more have')} draws that could not be judged)" if partly else ""
    return f"- Examples by how many of their {summary.draws:,} draws are correct: {shown}{rest}."


def _truncation(summary: Summary) -> str:
    known = summary.finish_reason_known
    if known == 0:
        return "- Truncation: unknown, no finish reasons were recorded."
    share = f"- Truncation: {summary.truncated:,} of {counted(known, 'completion')} hit the token limit ({summary.truncated / known:.1%})"
    return share + (
        "." if known == summary.attempts else f"; the finish reason of {summary.attempts - known:,} is unknown."
    )


def _codes(summary: Summary) -> list[str]:
    rows = []
    for code in summary.codes:
        interval = f"[{code.low:.1%}, {code.high:.1%}]"
        mark = {Outcome.CORRECT: "correct", Outcome.WRONG: "wrong", Outcome.MALFORMED: "malformed"}[code.outcome]
        first = ", ".join(visible(example_id, 40) for example_id in dict.fromkeys(name for name, _ in code.shown))
        rows.append((visible(code.code, 60), mark, f"{code.count:,}", f"{code.share:.1%}", interval, first))
    for failure in summary.failures:
        first = ", ".join(visible(example_id, 40) for example_id in dict.fromkeys(name for name, _ in failure.shown))
        rows.append((failure.code, "failure", f"{failure.count:,}", "", "", first))
    interval_head = f"{summary.confidence:.0%} interval (Holm)"
    return text_table(
        ("code", "outcome", "count", "share of judged", interval_head, "first examples"), rows, numbers=(2, 3)
    )
