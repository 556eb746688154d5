"""A comparison as blocks: the certificate, the numbers, where the codes went, and the examples that tell the runs apart."""

from __future__ import annotations

import json

from lockedroom.report.blocks import Chart, Fact, Row, Rows, Section, Series, Table, Tone
from lockedroom.report.numerals import signed, signed_span
from lockedroom.results.compare import Against, Anyway, Certificate, RunFacts
from lockedroom.results.comparison.migration import Discordant, ShownDraw
from lockedroom.results.comparison.paired_numbers import FailureBounds
from lockedroom.results.evaluation.summary import Estimate
from lockedroom.stats.verdict import Verdict
from lockedroom.visible import visible
from lockedroom.wording import counted

LONGEST = 300
SAID = {
    Verdict.BETTER: "{b} is BETTER than {a}",
    Verdict.WORSE: "{b} is WORSE than {a}",
    Verdict.EQUIVALENT: "{b} is EQUIVALENT to {a}",
    Verdict.INCONCLUSIVE: "INCONCLUSIVE: {b} and {a} cannot be told apart",
}
TONES: dict[str, Tone] = {"better": "good", "worse": "bad"}


def comparison_facts(certificate: Certificate) -> list[Fact]:
    """The verdict on each run against A, in one number each."""
    facts = []
    for one in certificate.against:
        numbers = one.numbers
        tone: Tone = TONES.get(one.verdict.value, "plain")
        note = (
            f"{one.verdict.name}: {numbers.mean_a:.4f} → {numbers.mean_b:.4f}, {certificate.options.confidence:.0%} interval "
            f"{signed_span(numbers.interval)}, p = {one.p_value:.2g}"
        )
        facts.append(Fact(f"{one.b.label} against {certificate.a.label}", signed(numbers.difference), note, tone))
    return facts


def comparison_verdict(certificate: Certificate) -> str:
    """One sentence for the top of the page."""
    said = "; ".join(SAID[one.verdict].format(a=certificate.a.label, b=one.b.label) for one in certificate.against)
    return f"{said}."


def comparison_sections(certificate: Certificate) -> list[Section]:
    """The certificate first: a difference means nothing outside one room."""
    sections = [_certificate(certificate), _differences(certificate)]
    for one in certificate.against:
        sections += [_migration(certificate.a.label, one), _discordant(certificate.a.label, one)]
    return sections


def _certificate(certificate: Certificate) -> Section:
    room: Rows = [[visible(field, 80), _value(value)] for field, value in certificate.room.items()]
    runs: Rows = [_run("A", certificate.a)]
    every = "Both" if len(certificate.against) == 1 else f"All {len(certificate.against) + 1}"
    text = [
        f"{every} runs were verified against their manifests and are in one room: each field below is equal in them."
    ]
    for number, one in enumerate(certificate.against):
        runs.append(_run(chr(ord("B") + number) if number < 25 else f"run {number + 2}", one.b))
        text.append(
            f"What {one.b.label} turned against {certificate.a.label}: {one.turned.word} ({visible(one.turned.meaning, LONGEST)})."
        )
        text += [visible(line, LONGEST) for line in one.turned.differences]
        text += [
            f"A person states, and nothing here shows, that {visible(field.field, 80)} is equal."
            for field in one.assumed
        ]
        if one.drawn_once:
            names = ", ".join(visible(field.field, 80) for field in one.drawn_once)
            text.append(f"Both hold the very same completions, drawn once: what nobody declared is the same ({names}).")
    return Section(
        title="Comparison certificate",
        text=text,
        tables=[
            Table(header=["", "run", "policy", "draws", "run id", "manifest sha256"], rows=runs, numbers=[3]),
            Table(header=["field of the room", "value"], rows=room, caption="The room", filterable=True),
        ],
    )


def _run(name: str, facts: RunFacts) -> Row:
    return [
        name,
        facts.label,
        visible(facts.policy, 80),
        str(facts.draws),
        visible(facts.run_id, 40),
        facts.manifest_sha256,
    ]


def _differences(certificate: Certificate) -> Section:
    rows: Rows = []
    for one in certificate.against:
        n = one.numbers
        rows.append([
            one.b.label, f"{n.mean_a:.4f}", f"{n.mean_b:.4f}", signed(n.difference), signed_span(n.interval),
            f"{n.wins:,} / {n.losses:,} / {n.ties:,}", f"{one.p_value:.2g}",
            "undefined" if n.detectable is None else f"{n.detectable:.4f}", one.verdict.name,
        ])  # fmt: skip
    header = [
        "run",
        f"{certificate.a.label} (A)",
        "its own",
        "difference",
        "interval",
        "won / lost / tied",
        "p",
        "detectable",
        "verdict",
    ]
    reasons = [
        f"{one.b.label}: {visible(reason, LONGEST)}."
        for one in certificate.against
        for reason in (*one.reasons, *one.notes)
    ]
    reasons += [f"{one.b.label}: {_failures(one.bounds)}" for one in certificate.against if one.bounds is not None]
    return Section(
        title="The difference, paired example by example",
        text=[
            f"A difference is the run's own {'mean reward' if certificate.options.metric == 'reward' else 'pass rate'} minus that of A, "
            f"over {counted(certificate.examples, 'example')}. p is adjusted for the number of runs (Holm); detectable is the smallest "
            "difference that these examples would show four times in five.",
        ],
        points=reasons,
        charts=_drawn_differences(certificate),
        tables=[Table(header=header, rows=rows, numbers=[1, 2, 3, 4, 6, 7])],
    )


def _drawn_differences(certificate: Certificate) -> list[Chart]:
    drawn = [(one, one.numbers.interval) for one in certificate.against if one.numbers.interval is not None]
    series = Series(
        name="difference",
        labels=[one.b.label for one, _ in drawn],
        y=[one.numbers.difference for one, _ in drawn],
        low=[interval.low for _, interval in drawn],
        high=[interval.high for _, interval in drawn],
    )
    title = f"Difference from {certificate.a.label} (A), with its interval"
    return [Chart(title=title, kind="bars", series=[series])] if drawn else []


def _failures(bounds: FailureBounds) -> str:
    """What attempts that could not be judged leave open."""
    said = f"{counted(bounds.failed_a, 'attempt')} of A and {bounds.failed_b:,} of this run could not be judged, and are in no estimate"
    if bounds.left_out:
        said += f"; {counted(bounds.left_out, 'example')} had no judged attempt on one side"
    if bounds.lowest is None or bounds.highest is None:
        return f"{said}; the scorer declares no range of rewards, so nothing bounds what they would have earned."
    return f"{said}; whatever they would have earned, the difference lies in {signed(bounds.lowest.difference)} to {signed(bounds.highest.difference)}."


def _migration(a: str, one: Against) -> Section:
    rows: Rows = [
        [visible(name, 60), f"{in_a:.1%}", f"{in_b:.1%}", signed(100 * (in_b - in_a), 2)]
        for name, in_a, in_b in one.migration.shares
    ]
    names = [visible(name, 40) for name, _, _ in one.migration.shares]
    chart = Chart(
        title="Share of each code",
        kind="bars",
        percent=True,
        series=[
            Series(name=f"{a} (A)", labels=names, y=[in_a for _, in_a, _ in one.migration.shares]),
            Series(name=one.b.label, labels=names, y=[in_b for _, _, in_b in one.migration.shares]),
        ],
    )
    return Section(
        title=f"Which codes changed in {one.b.label}",
        charts=[chart],
        tables=[
            Table(header=["code", f"{a} (A)", one.b.label, "points"], rows=rows, numbers=[1, 2, 3]),
            *_flips(a, one),
        ],
    )


def _flips(a: str, one: Against) -> list[Table]:
    """With one draw each: how many examples went from which code to which."""
    counts = one.migration.counts
    if counts is None:
        return []
    header = [f"{a} ↓  {one.b.label} →", *(visible(name, 40) for name in one.migration.codes_b)]
    rows: Rows = [
        [visible(name, 40), *(f"{count:,}" if count else "·" for count in row)]
        for name, row in zip(one.migration.codes_a, counts, strict=True)
    ]
    return [
        Table(
            header=header, rows=rows, numbers=list(range(1, len(header))), caption="Where each code went, in examples"
        )
    ]


def _discordant(a: str, one: Against) -> Section:
    found = one.discordant
    rows: Rows = [_example(item) for item in found.shown]
    return Section(
        title=f"Examples that tell {one.b.label} from {a}",
        text=[
            f"{len(found.wins):,} won, {len(found.losses):,} lost; {len(rows):,} shown, the largest differences first."
        ],
        tables=[
            Table(header=["id", "prompt", "expected", f"{a} wrote", f"{one.b.label} wrote"], rows=rows, filterable=True)
        ],
    )


def _example(item: Discordant) -> Row:
    expected = item.expected_answer if isinstance(item.expected_answer, str) else json.dumps(item.expected_answer)
    return [visible(item.id, 60), visible(item.prompt, LONGEST), visible(expected, 60), _draw(item.a), _draw(item.b)]


def _draw(draw: ShownDraw) -> str:
    text = "(none)" if draw.completion is None else (visible(draw.completion, LONGEST) or "(empty)")
    return f"{visible(draw.code, 60)}: {text}"


def anyway_sections(anyway: Anyway) -> list[Section]:
    """Runs of different rooms, side by side, and what keeps each from being compared with the first."""
    rows: Rows = [
        [facts.label, visible(facts.policy, 60), *_rate(summary.pass_rate), f"{summary.examples:,}",
         str(summary.draws), f"{summary.failed:,}"]
        for facts, summary in zip(anyway.runs, anyway.summaries, strict=True)
    ]  # fmt: skip
    header = ["run", "policy", "pass rate", "interval", "examples", "draws", "failures"]
    sections = [
        Section(title="Side by side", text=["No difference and no verdict can be taken from these numbers."],
                tables=[Table(header=header, rows=rows, numbers=[2, 4, 5, 6])])
    ]  # fmt: skip
    for facts, differences in zip(anyway.runs[1:], anyway.differences, strict=True):
        listed: Rows = [[visible(one.field, 80), _value(one.a), _value(one.b)] for one in differences]
        title = f"Not known to be equal in {anyway.runs[0].label} and {facts.label}"
        same = ["Nothing: the rooms are the same. Leave out --not-comparable to compare them."]
        table = Table(header=["field of the room", anyway.runs[0].label, facts.label], rows=listed)
        sections.append(Section(title=title, text=[] if listed else same, tables=[table] if listed else []))
    return sections


def _rate(rate: Estimate | None) -> tuple[str, str]:
    if rate is None or rate.low is None or rate.high is None:
        return "none" if rate is None else f"{rate.value:.4f}", "undefined"
    return f"{rate.value:.4f}", f"{rate.low:.4f} to {rate.high:.4f}"


def _value(value: object) -> str:
    return "none" if value in (None, []) else visible(value if isinstance(value, str) else json.dumps(value), LONGEST)
