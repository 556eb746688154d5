"""A comparison as blocks: the certificate, the numbers, where the codes went, and the examples that tell the runs apart."""

from __future__ import annotations

import json

from lockedroom.report.blocks import Chart, Fact, Row, Rows, Section, Series, Table, Tone
from lockedroom.results.compare import Against, Certificate, RunFacts
from lockedroom.results.migration import Discordant, ShownDraw
from lockedroom.stats.intervals import Interval
from lockedroom.visible import visible

LONGEST = 300
TONES: dict[str, Tone] = {"better": "good", "worse": "bad"}


def comparison_facts(certificate: Certificate) -> list[Fact]:
    """The verdict on each run against A, in one number each."""
    facts = []
    for one in certificate.against:
        numbers = one.numbers
        tone: Tone = TONES.get(one.verdict.value, "plain")
        note = f"A {numbers.mean_a:.4f} → {numbers.mean_b:.4f}, {_span(numbers.interval)}, p = {one.p_value:.3g}"
        facts.append(Fact(f"{one.b.label} against {certificate.a.label}", f"{numbers.difference:+.4f}", note, tone))
    return facts


def comparison_verdict(certificate: Certificate) -> str:
    """One sentence for the top of the page."""
    return "; ".join(f"{one.b.label}: {one.verdict.name}" for one in certificate.against)


def comparison_sections(certificate: Certificate) -> list[Section]:
    """The certificate first: a difference means nothing outside one room."""
    sections = [_certificate(certificate), _differences(certificate)]
    for one in certificate.against:
        sections += [_migration(one), _discordant(one)]
    return sections


def _certificate(certificate: Certificate) -> Section:
    room: Rows = [
        [visible(field, 80), visible(value if isinstance(value, str) else json.dumps(value), LONGEST)]
        for field, value in certificate.room.items()
    ]
    runs: Rows = [_run("A", certificate.a)]
    text = ["Both runs were verified against their manifests, and are in one room: they differ in nothing below."]
    for number, one in enumerate(certificate.against):
        runs.append(_run(chr(ord("B") + number) if number < 25 else f"run {number + 2}", one.b))
        text.append(f"Turned: {one.turned.word} ({visible(one.turned.meaning, LONGEST)}).")
        text += [visible(line, LONGEST) for line in one.turned.differences]
        text += [
            f"A person states, and nothing here shows, that {visible(field.field, 80)} is equal."
            for field in one.assumed
        ]
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
            one.b.label, f"{n.mean_a:.4f}", f"{n.mean_b:.4f}", f"{n.difference:+.4f}", _span(n.interval),
            f"{n.wins:,} / {n.losses:,} / {n.ties:,}", f"{one.p_value:.4g}",
            "undefined" if n.detectable is None else f"{n.detectable:.4f}", one.verdict.name,
        ])  # fmt: skip
    header = ["run", "A", "its own", "difference", "interval", "won / lost / tied", "p", "detectable", "verdict"]
    reasons = [f"{one.b.label}: {visible(reason, LONGEST)}." for one in certificate.against for reason in one.reasons]
    drawn = [one for one in certificate.against if one.numbers.interval is not None]
    chart = Chart(
        title="Difference from A, with its interval",
        kind="bars",
        series=[
            Series(
                name="difference",
                labels=[one.b.label for one in drawn],
                y=[one.numbers.difference for one in drawn],
                low=[one.numbers.interval.low if one.numbers.interval else None for one in drawn],
                high=[one.numbers.interval.high if one.numbers.interval else None for one in drawn],
            )
        ],
    )
    return Section(
        title="The difference, paired example by example",
        text=["Differences are its own rate minus A's; p is adjusted for the number of runs (Holm).", *reasons],
        charts=[chart] if drawn else [],
        tables=[Table(header=header, rows=rows, numbers=[1, 2, 3, 4, 6, 7])],
    )


def _migration(one: Against) -> Section:
    rows: Rows = [
        [visible(name, 60), f"{in_a:.1%}", f"{in_b:.1%}", f"{100 * (in_b - in_a):+.1f}"]
        for name, in_a, in_b in one.migration.shares
    ]
    names = [visible(name, 40) for name, _, _ in one.migration.shares]
    chart = Chart(
        title="Share of each code",
        kind="bars",
        percent=True,
        series=[
            Series(name="A", labels=names, y=[in_a for _, in_a, _ in one.migration.shares]),
            Series(name=one.b.label, labels=names, y=[in_b for _, _, in_b in one.migration.shares]),
        ],
    )
    return Section(
        title=f"Which codes changed in {one.b.label}",
        charts=[chart],
        tables=[Table(header=["code", "A", one.b.label, "points"], rows=rows, numbers=[1, 2, 3])],
    )


def _discordant(one: Against) -> Section:
    found = one.discordant
    rows: Rows = [_example(item) for item in found.shown]
    return Section(
        title=f"Examples that tell {one.b.label} from A",
        text=[
            f"{len(found.wins):,} won, {len(found.losses):,} lost; {len(rows):,} shown, the largest differences first."
        ],
        tables=[
            Table(header=["id", "prompt", "expected", "A wrote", f"{one.b.label} wrote"], rows=rows, filterable=True)
        ],
    )


def _example(item: Discordant) -> Row:
    expected = item.expected_answer if isinstance(item.expected_answer, str) else json.dumps(item.expected_answer)
    return [visible(item.id, 60), visible(item.prompt, LONGEST), visible(expected, 60), _draw(item.a), _draw(item.b)]


def _draw(draw: ShownDraw) -> str:
    text = "(none)" if draw.completion is None else (visible(draw.completion, LONGEST) or "(empty)")
    return f"{visible(draw.code, 60)}: {text}"


def _span(interval: Interval | None) -> str:
    return "undefined" if interval is None else f"{interval.low:+.4f} to {interval.high:+.4f}"
