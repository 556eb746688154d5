"""A comparison as text: the certificate, the numbers, who won where, and one word."""

from __future__ import annotations

from collections.abc import Sequence

from lockedroom.results.compare import Against, Anyway, Certificate, RunFacts
from lockedroom.results.comparison.migration import Discordant, Migration, ShownDraw
from lockedroom.results.comparison.paired_numbers import FailureBounds, PairedNumbers
from lockedroom.results.comparison.room_difference import shown
from lockedroom.results.text_table import text_table
from lockedroom.stats.intervals import Interval
from lockedroom.visible import visible
from lockedroom.wording import counted

LONGEST_SHOWN = 300
STAMP = "NOT COMPARABLE"
_SAYS = {
    "better": "B is better than A",
    "worse": "B is worse than A",
    "equivalent": "B and A differ by less than the margin",
    "inconclusive": "these runs do not tell which is better",
}


def render_certificate(certificate: Certificate) -> str:
    """Return a comparison as Markdown that also reads well unrendered. Nothing in it can move a terminal's cursor."""
    if len(certificate.against) == 1:
        one = certificate.against[0]
        title = f"# {one.verdict.name}: {_SAYS[one.verdict.value]}"
        body = [
            *_room(certificate),
            "",
            *_numbers(certificate, one),
            "",
            *_migration(one.migration),
            "",
            *_discordant(one),
        ]
    else:
        title = f"# {counted(len(certificate.against), 'run')} against A"
        body = [*_room(certificate), "", *_many(certificate)]
    return "\n".join([title, "", *body]).rstrip() + "\n"


def render_anyway(anyway: Anyway) -> str:
    """Return runs that are not compared, side by side, stamped."""
    rows = []
    for name, facts, summary in zip(_names(len(anyway.runs)), anyway.runs, anyway.summaries, strict=True):
        rate = summary.pass_rate
        value = "none" if rate is None else f"{rate.value:.4f}"
        span = "undefined" if rate is None or rate.low is None else f"[{rate.low:.4f}, {rate.high:.4f}]"
        rows.append((name, facts.label, visible(facts.policy, 60), value, span, f"{summary.examples:,}", str(summary.draws),
                     str(summary.failed)))  # fmt: skip
    head = ("", "run", "policy", "pass rate", "interval", "examples", "draws", "failures")
    lines = [f"# {STAMP}", "", f"{STAMP}: no difference and no verdict can be taken from these numbers.", ""]
    lines += text_table(head, rows, numbers=(3, 5, 6, 7))
    for name, differences in zip(_names(len(anyway.runs))[1:], anyway.differences, strict=True):
        listed = [f"- {visible(one.field, 80)}: {shown(one.a)} in A, {shown(one.b)} in {name}" for one in differences]
        lines += ["", f"Not known to be equal in A and {name}:" if listed else
                  f"The rooms of A and {name} are the same; leave out --not-comparable to compare them.", *listed]  # fmt: skip
    return "\n".join([*lines, "", STAMP]) + "\n"


def _names(count: int) -> list[str]:
    return [chr(ord("A") + i) if i < 26 else f"run {i + 1}" for i in range(count)]


def _room(certificate: Certificate) -> list[str]:
    room = certificate.room
    lines = [_run("A", certificate.a)]
    for name, one in zip(_names(len(certificate.against) + 1)[1:], certificate.against, strict=True):
        lines.append(_run(name, one.b))
    facts = [certificate.a, *(one.b for one in certificate.against)]
    unchecked = list(dict.fromkeys(line for one in facts for line in one.not_checked))
    lines += ["", "The room (each run verified against its manifest first):", ""]
    stated = {field.field: field for one in certificate.against for field in one.assumed}
    once = {field.field for one in certificate.against for field in one.drawn_once} - stated.keys()
    said = dict.fromkeys(once, "not said, drawn once: see below") | dict.fromkeys(
        stated, "stated, not known: see below"
    )
    rows = [
        (visible(field, 60), said.get(field) or shown(value))
        for field, value in {**room, **{field: None for field in stated if field not in room}}.items()
    ]
    lines += text_table(("field", "value"), rows, numbers=())
    for name, one in zip(_names(len(certificate.against) + 1)[1:], certificate.against, strict=True):
        lines += [f"- A person states, and nothing here shows, that {visible(field.field, 60)} is the same in A and {name} "
                  f"({shown(field.a)} in A, {shown(field.b)} in {name})." for field in one.assumed]  # fmt: skip
        if one.drawn_once:
            names = ", ".join(visible(field.field, 60) for field in one.drawn_once)
            lines.append(
                f"- A and {name} hold the very same completions, drawn once: what nobody declared is the same ({names})."
            )
        lines.append(f"- Turned from A to {name}: **{one.turned.word}** ({one.turned.meaning}).")
        lines += [f"  {line.removesuffix(' in B')} in {name}" for line in one.turned.differences]
        lines += [f"- Note on {name}: {note}." for note in one.notes]
    return [*lines, *(f"- Not checked: {visible(line, 200)}." for line in unchecked)]


def _run(name: str, facts: RunFacts) -> str:
    origin = ""
    if facts.rescored_from is not None:
        origin = f", re-scored from run {visible(facts.rescored_from.run_id, 40)}"
    return (
        f"{name}: {facts.label}, {visible(facts.policy, 80)}, {counted(facts.draws, 'draw')} an example "
        f"(run {visible(facts.run_id, 40)}, manifest {facts.manifest_sha256[:12]}…{origin})"
    )


def _numbers(certificate: Certificate, one: Against) -> list[str]:
    numbers, options = one.numbers, certificate.options
    what = "pass rate" if options.metric == "pass" else "mean reward"
    unpaired = numbers.unpaired
    rows = [
        ("B − A, paired", f"{numbers.difference:+.4f}", _span(numbers.interval), _error(numbers.standard_error),
         numbers.interval.method if numbers.interval else ""),
        ("the same, as if unpaired", f"{unpaired.difference:+.4f}", _span(unpaired.interval),
         _error(unpaired.standard_error), "for contrast only"),
    ]  # fmt: skip
    lines = [
        f"{what.capitalize()} over {numbers.examples:,} of {counted(certificate.examples, 'example')}: A {numbers.mean_a:.4f}, "
        f"B {numbers.mean_b:.4f}. Differences are B − A: above 0, B is better.",
        "",
        *text_table(
            ("", what, f"{100 * options.confidence:.6g}% interval", "standard error", "how"), rows, numbers=(1,)
        ),
        "",
        f"- B wins on {counted(numbers.wins, 'example')}, loses on {numbers.losses:,}, ties on {numbers.ties:,}. "
        f"Correlation {_correlation(numbers.correlation)}.",
        f"- {_test(numbers)}",
    ]
    lines += _anytime(numbers, options.confidence)
    lines.append(_detectable(numbers, certificate.options.confidence))
    if one.bounds is not None:
        lines += _failures(one.bounds)
    lines += _margin(one, options.margin)
    lines += [f"- {reason}." for reason in one.reasons]
    return [*lines, "", f"**{one.verdict.name}**: {_SAYS[one.verdict.value]}."]


def _test(numbers: PairedNumbers) -> str:
    test = numbers.test
    if test.no_evidence:
        return "No example tells the runs apart (no discordant pair): p = 1, which is no evidence of equality."
    drawn = f", {counted(test.resamples, 'sign pattern')}" if test.resamples else ""
    return f"p = {test.p_value:.4g} ({test.method}{drawn})."


def _anytime(numbers: PairedNumbers, confidence: float) -> list[str]:
    test = numbers.anytime
    if test is None:
        return []
    word = "reached" if test.reject else "not reached"
    return [
        f"- Anytime-valid: e-value {test.e_value:.4g}, p = {test.p_value:.4g}; the bar of {1 / (1 - confidence):.4g} is {word}. "
        "This decides the verdict, however often you look; the interval above holds for one look only."
    ]


def _detectable(numbers: PairedNumbers, confidence: float) -> str:
    if numbers.detectable is None:
        return "- Minimum detectable effect: undefined (no spread of the differences was seen)."
    return (
        f"- Minimum detectable effect: so many examples show a difference of {numbers.detectable:.4f} with power 0.8 "
        f"(at α = {1 - confidence:.3g})."
    )


def _failures(bounds: FailureBounds) -> list[str]:
    lines = [
        f"- Failures: {counted(bounds.failed_a, 'attempt')} of A and {bounds.failed_b:,} of B could not be judged; they have no "
        "reward and are in no estimate above."
    ]
    if bounds.left_out:
        first = ", ".join(visible(name, 40) for name in bounds.left_out_first)
        more = ", …" if bounds.left_out > len(bounds.left_out_first) else ""
        lines.append(
            f"  {counted(bounds.left_out, 'example has no judged attempt on one side and is', 'examples have no judged attempt on one side and are')} left out: {first}{more}."
        )
    if bounds.lowest is None or bounds.highest is None:
        lines.append("  The scorer declares no range of rewards, so nothing bounds what they could have been.")
    else:
        lines.append(
            f"  Could they be judged, B − A over all examples would lie in [{bounds.lowest.difference:+.4f}, "
            f"{bounds.highest.difference:+.4f}]; a verdict has to hold at both ends."
        )
    return lines


def _margin(one: Against, margin: float | None) -> list[str]:
    if margin is None:
        return []
    span = one.numbers.equivalence_interval
    within = "undefined" if span is None else f"[{span.low:+.4f}, {span.high:+.4f}] at {100 * span.confidence:.6g}%"
    family = one.numbers.family_interval
    low = "undefined" if family is None else f"{family.low:+.4f}"
    return [
        f"- Margin {margin:g}: EQUIVALENT asks the interval {within} to lie within ±{margin:g}; not worse asks the lower "
        f"end {low} to be at least {-margin:g}: {'yes' if one.not_worse else 'no'}."
    ]


def _migration(migration: Migration) -> list[str]:
    if migration.counts is not None:
        head = ["A ↓  B →", *(visible(name, 40) for name in migration.codes_b), "all"]
        rows = [
            [visible(name, 40), *(f"{count:,}" if count else "·" for count in row), f"{sum(row):,}"]
            for name, row in zip(migration.codes_a, migration.counts, strict=True)
        ]
        return ["Where each code went (examples):", "", *text_table(head, rows, numbers=tuple(range(1, len(head))))]
    rows = [
        [visible(name, 40), f"{in_a:.1%}", f"{in_b:.1%}", f"{100 * (in_b - in_a):+.1f}"]
        for name, in_a, in_b in migration.shares
    ]
    return ["Share of each code among all attempts, in percent:", "",
            *text_table(("code", "A", "B", "points"), rows, numbers=(1, 2, 3))]  # fmt: skip


def _discordant(one: Against) -> list[str]:
    found = one.discordant
    total = len(found.wins) + len(found.losses)
    if not total:
        return ["No example tells the runs apart."]
    lines = [f"Examples that tell them apart: {total:,} (B ahead on {len(found.wins):,}, A on {len(found.losses):,})"]
    for item in found.shown:
        lines += ["", *_example(item)]
    if total > len(found.shown):
        lines += ["", f"{total - len(found.shown):,} more: --show {total} prints them, --json lists every id."]
    return lines


def _example(item: Discordant) -> list[str]:
    return [
        f"- {visible(item.id, 60)} (A {item.mean_a:.3g}, B {item.mean_b:.3g}), expected "
        f"{visible(str(item.expected_answer), 60)}: {visible(item.prompt, LONGEST_SHOWN)}",
        f"  - A, {_draw(item.a)}",
        f"  - B, {_draw(item.b)}",
    ]


def _draw(draw: ShownDraw) -> str:
    text = "(none)" if draw.completion is None else (visible(draw.completion, LONGEST_SHOWN) or "(empty)")
    return f"draw {draw.draw}, {visible(draw.code, 60)}: {text}"


def _many(certificate: Certificate) -> list[str]:
    what = "pass rate" if certificate.options.metric == "pass" else "mean reward"
    rows = []
    for name, one in zip(_names(len(certificate.against) + 1)[1:], certificate.against, strict=True):
        numbers = one.numbers
        rows.append((name, f"{numbers.mean_a:.4f}", f"{numbers.mean_b:.4f}", f"{numbers.difference:+.4f}",
                     _span(numbers.interval), f"{numbers.wins:,}/{numbers.losses:,}/{numbers.ties:,}",
                     f"{numbers.test.p_value:.4g}", f"{one.p_value:.4g}", one.verdict.name))  # fmt: skip
    head = ("run", f"{what} of A", "its own", "its own − A", f"{100 * certificate.options.confidence:.6g}% interval",
            "won/lost/tied", "p", "p, Holm", "verdict")  # fmt: skip
    lines = text_table(head, rows, numbers=(1, 2, 3, 6, 7))
    lines += ["", f"Verdicts use p-values adjusted by Holm for {counted(len(rows), 'comparison')}; each interval is for its own row. "
              "EQUIVALENT and not-worse use Bonferroni."]  # fmt: skip
    for name, one in zip(_names(len(certificate.against) + 1)[1:], certificate.against, strict=True):
        lines += [f"- {name}: {reason}." for reason in one.reasons]
        if one.bounds is not None:
            lines += [f"- {name}: {line.strip().removeprefix('- ')}" for line in _failures(one.bounds)]
    return lines


def _span(interval: Interval | None) -> str:
    return "undefined" if interval is None else f"[{interval.low:+.4f}, {interval.high:+.4f}]"


def _error(error: float | None) -> str:
    return "undefined" if error is None else f"{error:.4f}"


def _correlation(value: float | None) -> str:
    return "undefined (a run has no spread)" if value is None else f"{value:.3f}"


def satisfied(certificate: Certificate, required: str | None) -> bool:
    """Whether every comparison is as `--require` asks: `better`, or `not-worse` by the margin."""
    checks: Sequence[bool | None]
    if required is None:
        return True
    checks = [one.verdict.value == "better" if required == "better" else one.not_worse for one in certificate.against]
    return all(checks)
