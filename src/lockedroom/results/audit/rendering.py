"""An audit as text that reads well in a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from lockedroom.results.text_table import text_table
from lockedroom.safeguards.audit.constants import Constants, Policy
from lockedroom.safeguards.audit.examination import Report
from lockedroom.safeguards.audit.report import DRAWS, Contested, ErrorBudget, FamilyBudget, Finding, Verdict
from lockedroom.stats.intervals import Interval
from lockedroom.visible import visible
from lockedroom.wording import counted

LONGEST = 70
# How the note of a finding begins that was not seen again (safeguards/audit/examination.py).
_LOST = "not seen again"


def render_audit(report: Report) -> str:
    """Return the whole report, worst news first."""
    name = visible(report.scorer.name, 80)
    lines = [f"# Audit of {name}, version {report.scorer.version}: {report.verdict.value}", ""]
    if report.verdict is Verdict.NOT_AUDITED:
        lines += [
            "Could not audit. This is not a pass.",
            "",
            *(f"- {visible(reason, 600)}" for reason in report.reasons),
            "",
        ]
    lines += _findings(report.findings)
    if report.errors is not None:
        lines += _errors(report.errors)
    if report.constants is not None:
        lines += _constants(report.constants)
    if report.contested:
        lines += _contested(report.contested)
    return "\n".join([*lines, *_circumstances(report)])


def _findings(findings: list[Finding]) -> list[str]:
    if not findings:
        return []
    lost = [finding for finding in findings if finding.note.startswith(_LOST)]
    unsteady = [
        f"{len(lost)} were {visible(finding.note, 200)}. Verdicts are not stable: read that one first."
        for finding in lost[:1]
    ]
    rows = [
        [
            finding.id,
            finding.reading.value if finding.reading is not None else "",
            visible(str(finding.expected_answer), 24),
            visible(str(finding.completion), LONGEST),
            visible(finding.said, LONGEST) + (f" ({_LOST})" if finding in lost else ""),
            f"{finding.cases:,} of {finding.asked:,}",
        ]
        for finding in findings
    ]
    lines = [
        f"## {counted(len(findings), 'finding')}",
        "",
        *((*unsteady, "") if lost else ()),
        *text_table(("finding", "reading", "expected", "completion", "the scorer says", "cases"), rows, numbers=(5,)),
        "",
    ]
    odd = [f"- {finding.id}: {', '.join(finding.characters)}" for finding in findings if finding.characters]
    return lines + (["Characters that do not show:", "", *odd, ""] if odd else [])


def _errors(errors: ErrorBudget) -> list[str]:
    rows = [_family_row(row) for row in errors.families]
    lines = [
        "## Error budget",
        "",
        *text_table(
            ("family", "paid", "judged", "rate", "interval", "no verdict", "not asked"), rows, numbers=(1, 2, 3, 5, 6)
        ),
        "",
    ]
    lines.append(f"Right completions paid: {errors.correct_paid:,} of {errors.correct_judged:,}.")
    overall = errors.overall
    if overall is not None:
        lines += [
            f"All families together: false positives {overall.false_positive_rate:.4f} {_interval(overall.false_positive_interval)}, "
            f"false negatives {overall.false_negative_rate:.4f} {_interval(overall.false_negative_interval)}, Youden J {overall.youden_j:.4f}.",
            "The cases were built, not drawn: a rate is of these attacks, never of a policy's completions.",
            "",
            "What best-of-n with this scorer can reach if a share of completions is right and the rest are such attacks:",
            "",
            *text_table(
                ("share right", *(f"n = {draws}" for draws in DRAWS), "ceiling", "ceiling at the worst ends"),
                [
                    [f"{one.share_right:g}", *(f"{one.by_draws[draws]:.3f}" for draws in DRAWS), f"{one.ceiling:.3f}", f"{one.ceiling_at_worst:.3f}"]
                    for one in errors.implied
                ],
                numbers=range(6),
            ),
        ]  # fmt: skip
    return [*lines, ""]


def _family_row(row: FamilyBudget) -> list[str]:
    rate = f"{row.paid / row.judged:.4f}" if row.judged else "-"
    interval = _interval(row.interval) if row.interval is not None else ""
    return [row.family, f"{row.paid:,}", f"{row.judged:,}", rate, interval, f"{row.failures:,}", f"{row.not_asked:,}"]


def _constants(found: Constants) -> list[str]:
    lines = [
        "## Without reading the question", "",
        f"On {counted(found.examples, 'example')} ({visible(found.dataset, 80)}); the most frequent answer is right for {found.honest:.4f} of them.",
    ]  # fmt: skip
    return [*lines, *(f"- {_policy(one)}" for one in (found.best, found.echo) if one is not None), ""]


def _policy(policy: Policy) -> str:
    text = "" if policy.name == "echo" else f": {visible(policy.completion, LONGEST)}"
    return f"{policy.name} earns {policy.mean_reward:.4f}, paid {policy.paid:,} of {policy.examples:,} {_interval(policy.interval)}{text}"


def _contested(rows: list[Contested]) -> list[str]:
    table = [
        [row.choice, row.attack[:60], f"{row.paid:,} of {row.asked:,}", f"{row.failures:,}", visible(row.example, 40)]
        for row in rows
    ]
    return [
        "## Contested: the author's choice, in no rate",
        "",
        *text_table(("choice", "what", "paid", "no verdict", "for example"), table, numbers=(2, 3)),
        "",
    ]


def _circumstances(report: Report) -> Iterator[str]:
    if report.impure:
        yield (
            "Besides returning, it: "
            + ", ".join(f"{visible(what, 80)} ({counted(count, 'call')})" for what, count in report.impure.items())
            + "."
        )
    for note in report.notes:
        yield f"- {visible(note, 300)}"
    if report.incomplete:
        yield f"- the budget ended during: {', '.join(report.incomplete)}; what follows was not asked"
    allowed = f"; allowed by --allow: {', '.join(report.allowed)}" if report.allowed else ""
    yield (
        f"- {counted(report.calls, 'call')}, {counted(report.goldens, 'golden')}, of which {len(report.seeds)} were transformed; more than half of the full "
        f"reward {report.scorer.reward_range[1]:g} counts as paid{allowed}"
    )


def _interval(interval: Interval) -> str:
    return f"[{interval.low:.4f}, {interval.high:.4f}]"
