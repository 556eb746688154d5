"""An audit as blocks: what the scorer pays for by mistake, its error budget, and what an audited run was paid for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec

from lockedroom.jsonl import read_batches
from lockedroom.report.blocks import Chart, Fact, Rows, Section, Series, Table
from lockedroom.report.numerals import span
from lockedroom.results.audit.folder import FINDINGS
from lockedroom.results.run_folder import SUMMARY_JSON
from lockedroom.safeguards.audit.examination import Report
from lockedroom.safeguards.audit.mining import Find, Mined, Share
from lockedroom.safeguards.audit.report import DRAWS, ErrorBudget, Finding, Verdict
from lockedroom.visible import visible
from lockedroom.wording import counted

LONGEST = 300
FAMILIES_DRAWN = 30


def audit_title(report: Report) -> str:
    return f"Audit of {visible(report.scorer.name, 80)} version {report.scorer.version}"


def audit_verdict(report: Report) -> str:
    """One sentence: never green when there was no audit."""
    if report.verdict is Verdict.NOT_AUDITED:
        return f"Could not audit, which is not a pass: {visible('; '.join(report.reasons), 600)}"
    if report.verdict is Verdict.CLEAN:
        return f"No finding in {counted(report.calls, 'call')}."
    worst = Counter(finding.what.value for finding in report.findings)
    return f"{counted(len(report.findings), 'finding')}: " + ", ".join(f"{what} {n}" for what, n in worst.items()) + "."


def audit_facts(report: Report) -> list[Fact]:
    """Both error rates with their intervals, and whether learning can go the right way at all."""
    overall = report.errors.overall if report.errors is not None else None
    if overall is None:
        return []
    false, missed = overall.false_positive_interval, overall.false_negative_interval
    return [
        Fact("attacks paid", f"{overall.false_positive_rate:.2%}", f"interval {false.low:.2%} to {false.high:.2%} (Clopper-Pearson)",
             "bad" if overall.false_positive_rate > 0 else "good"),
        Fact("right answers refused", f"{overall.false_negative_rate:.2%}", f"interval {missed.low:.2%} to {missed.high:.2%} (Clopper-Pearson)",
             "bad" if overall.false_negative_rate > 0 else "good"),
        Fact("Youden J", f"{overall.youden_j:.4f}", "1 is perfect; at 0 or below, learning from it cannot go the right way",
             "bad" if overall.youden_j <= 0 else "plain"),
    ]  # fmt: skip


def audit_sections(report: Report) -> list[Section]:
    """Findings, error budget, what best-of-n would make of it, choices of the author, circumstances."""
    parts = [_findings(report.findings)]
    if report.errors is not None:
        parts.append(_budget(report.errors))
        if report.errors.implied:
            parts.append(_implied(report.errors))
    parts.append(_blind(report))
    if report.contested:
        parts.append(_contested(report))
    return [*parts, _circumstances(report)]


def _findings(findings: list[Finding]) -> Section:
    rows: Rows = [
        [visible(one.id, 80), one.what.value, visible(str(one.expected_answer), 60), _text(one.completion, one.characters),
         visible(one.said, LONGEST), f"{one.cases:,} of {one.asked:,}"]
        for one in findings
    ]  # fmt: skip
    header = ["finding", "what", "expected", "smallest completion", "the scorer says", "cases"]  # fmt: skip
    return Section(
        title="Findings",
        text=["Each with its smallest known example; all can be asked again with lockedroom audit --replay."] if rows else ["None."],
        tables=[Table(header=header, rows=rows, numbers=[5], filterable=True)] if rows else [],
    )  # fmt: skip


def _text(completion: object, characters: list[str]) -> str:
    """A completion, and the names of its characters that do not show."""
    text = visible(str(completion), LONGEST) or "(empty)"
    return f"{text}  ({', '.join(characters)})" if characters else text


def _budget(errors: ErrorBudget) -> Section:
    families = sorted(errors.families, key=lambda one: (-one.paid / max(1, one.judged), one.family))
    rows: Rows = [
        [visible(one.family, 60), f"{one.paid:,}", f"{one.judged:,}", f"{one.paid / one.judged:.2%}" if one.judged else "",
         span(one.interval) if one.interval is not None else "", f"{one.failures:,}", f"{one.not_asked:,}"]
        for one in families
    ]  # fmt: skip
    drawn = [one for one in families if one.judged and one.interval is not None][:FAMILIES_DRAWN]
    chart = Chart(
        title="Share of the attacks of a family that are paid",
        kind="bars",
        percent=True,
        series=[
            Series(
                name="paid",
                labels=[visible(one.family, 40) for one in drawn],
                y=[one.paid / one.judged for one in drawn],
                low=[one.interval.low if one.interval else None for one in drawn],
                high=[one.interval.high if one.interval else None for one in drawn],
                inks=["wrong" if one.paid else "correct" for one in drawn],
            )
        ],
    )
    return Section(
        title="Error budget",
        text=[
            f"Right completions paid: {errors.correct_paid:,} of {errors.correct_judged:,}.",
            "The cases were built, not drawn: a rate is of these attacks, never of a policy's completions.",
        ],
        charts=[chart] if drawn else [],
        tables=[Table(header=["family", "paid", "judged", "rate", "Clopper-Pearson", "no verdict", "not asked"], rows=rows,
                      numbers=[1, 2, 3, 4, 5, 6], filterable=True)],
    )  # fmt: skip


def _implied(errors: ErrorBudget) -> Section:
    rows: Rows = [
        [f"{one.share_right:g}", *(f"{one.by_draws[draws]:.3f}" for draws in DRAWS), f"{one.ceiling:.3f}", f"{one.ceiling_at_worst:.3f}"]
        for one in errors.implied
    ]  # fmt: skip
    header = ["share right", *(f"n = {draws}" for draws in DRAWS), "ceiling", "ceiling at the worst ends"]
    return Section(
        title="What best-of-n can reach with this scorer",
        text=["If a share of the completions is right and the rest are such attacks."],
        tables=[Table(header=header, rows=rows, numbers=list(range(len(header))))],
    )


def _blind(report: Report) -> Section:
    found = report.constants
    if found is None:
        return Section(title="Without reading the question", text=["Not measured."])
    rows: Rows = [
        [one.name, visible(str(one.completion), LONGEST) if one.name != "echo" else "its prompt", f"{one.mean_reward:.4f}",
         f"{one.paid:,} of {one.examples:,}", span(one.interval)]
        for one in (found.best, found.echo)
        if one is not None
    ]  # fmt: skip
    return Section(
        title="Without reading the question",
        text=[f"On {counted(found.examples, 'example')}; the most frequent answer is right for {found.honest:.4f} of them."],
        tables=[Table(header=["policy", "writes", "earns", "paid", "interval"], rows=rows, numbers=[2, 3, 4])],
    )  # fmt: skip


def _contested(report: Report) -> Section:
    rows: Rows = [
        [visible(one.choice, 80), visible(one.attack, 80), f"{one.paid:,} of {one.asked:,}", f"{one.failures:,}", visible(one.example, 80)]
        for one in report.contested
    ]  # fmt: skip
    header = ["choice", "what", "paid", "no verdict", "for example"]
    return Section(
        title="Contested: the author's choice, in no rate",
        tables=[Table(header=header, rows=rows, numbers=[2, 3], filterable=True)],
    )


def _circumstances(report: Report) -> Section:
    points = [
        f"besides returning, it {visible(what, 80)}: {counted(count, 'call')}" for what, count in report.impure.items()
    ]
    points += [visible(note, LONGEST) for note in report.notes]
    if report.incomplete:
        points.append(f"the budget ended during: {', '.join(report.incomplete)}; what follows was not asked")
    if report.allowed:
        points.append(f"allowed by --allow: {visible(', '.join(report.allowed), LONGEST)}")
    points.append(
        f"{counted(report.calls, 'call')}, {counted(report.goldens, 'golden')}, of which {len(report.seeds)} were transformed"
    )
    points.append(f"more than half of the full reward {report.scorer.reward_range[1]:g} counts as paid")
    return Section(title="Circumstances", points=points)


class _MinedSummary(msgspec.Struct):
    """What `summary.json` of an audit of a run's own completions holds."""

    run: str
    scorer: str
    mined: Mined


def mined_verdict(folder: Path) -> str:
    found = _mined(folder)
    return f"What {visible(found.scorer, 80)} paid for in {visible(found.run, 200)}."


def mined_sections(folder: Path) -> list[Section]:
    """How a run's own completions were paid, why some payments are doubted, and completions to look at."""
    mined = _mined(folder).mined
    finds = [one for batch in read_batches(folder / FINDINGS, Find) for one in batch.rows]
    rows: Rows = [
        [visible(one.id, 80), visible(one.why, 200), f"{one.reward:g}", visible(str(one.expected_answer), 60),
         _text(one.completion, one.characters)]
        for one in finds
    ]  # fmt: skip
    header = ["id", "why", "reward", "expected", "completion"]
    return [
        Section(
            title="Attempts",
            text=[f"{counted(mined.scored, 'scored attempt')} of {counted(mined.examples, 'example')}; "
                  f"{counted(mined.failures, 'failure')}, in no share."],
            charts=[_shares("Share of the scored attempts", mined.split)],
            tables=[_share_table("attempts", mined.split),
                    *(_share_table(title, shares) for title, shares in (
                        ("why paid completions are doubted", mined.doubts),
                        ("where the answer stands in what was lost", mined.losses)) if shares)],
        ),
        Section(title="Completions to look at", text=[] if rows else ["None."],
                tables=[Table(header=header, rows=rows, numbers=[2], filterable=True)] if rows else []),
    ]  # fmt: skip


def _mined(folder: Path) -> _MinedSummary:
    return msgspec.json.decode((folder / SUMMARY_JSON).read_bytes(), type=_MinedSummary)


def _shares(title: str, shares: list[Share]) -> Chart:
    return Chart(
        title=title,
        kind="bars",
        percent=True,
        series=[
            Series(
                name="share",
                labels=[one.what for one in shares],
                y=[one.share for one in shares],
                low=[one.interval.low if one.interval else None for one in shares],
                high=[one.interval.high if one.interval else None for one in shares],
            )
        ],
    )


def _share_table(title: str, shares: list[Share]) -> Table:
    rows: Rows = [[one.what, f"{one.count:,}", f"{one.share:.4f}", span(one.interval)] for one in shares]
    return Table(header=[title, "count", "share", "interval"], rows=rows, numbers=[1, 2, 3])
