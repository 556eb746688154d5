"""Loop A and Loop B as blocks: headline, failure modes, pass@k, records, provenance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from lockedroom.records import Outcome
from lockedroom.report.blocks import Cell, Chart, Fact, Rows, Section, Series, Table
from lockedroom.report.browse import MOST_CHARACTERS, MOST_RECORDS, browse
from lockedroom.report.numerals import span
from lockedroom.results.evaluation.exact import EXACT_JSON, Exact
from lockedroom.results.evaluation.inspection import read_summary
from lockedroom.results.evaluation.summary import CodeCount, Estimate, Summary
from lockedroom.results.selection.adaptive import ADAPTIVE_JSON, Adaptive
from lockedroom.results.selection.numbers import Selection
from lockedroom.results.selection.rendering import INTERVAL_AT, Columns, bought, costs, shows_rewards
from lockedroom.safeguards.manifest import Manifest
from lockedroom.stats.one_run import RunEstimate
from lockedroom.stats.pass_at_k import Curve, pass_curve
from lockedroom.visible import visible
from lockedroom.wording import counted

SELECTION_JSON = "selection.json"
MOST_BARS = 64
CURVE_DRAWS = 128  # beyond, a curve for the page is drawn at powers of two only
LONGEST = 300
METHODS = {"t": "t over examples", "wilson": "Wilson", "clopper-pearson": "Clopper-Pearson"}


def headline(manifest: Manifest, summary: Summary) -> list[Fact]:
    """The pass rate with its interval, what it was measured on, and what could not be judged."""
    rate = summary.pass_rate
    facts = [
        Fact(
            f"pass rate of {visible(manifest.policy.name, 60)}{selected_by(manifest)}",
            *_estimate(rate, summary.confidence),
        )
    ]
    if summary.mean_reward != rate:
        facts.append(Fact("mean reward", *_estimate(summary.mean_reward, summary.confidence)))
    facts += [
        Fact(
            "measured on",
            counted(summary.attempts, "attempt"),
            f"{counted(summary.examples, 'example')} of {visible(manifest.room.dataset.split, 60)} × "
            f"{counted(summary.draws, 'draw')}",
        ),
        _unjudged(summary),
    ]
    if summary.finish_reason_known:
        share = summary.truncated / summary.finish_reason_known
        facts.append(Fact("truncated", f"{share:.1%}", f"{summary.truncated:,} hit the token limit"))
    return facts


def selected_by(manifest: Manifest) -> str:
    """What is said beside the policy's name where the rate is not its own, but that of what a selector chose."""
    selector = str(manifest.selection.get("selector", "none"))
    return "" if selector == "none" else f", chosen by {visible(selector, 60)}"


def _unjudged(summary: Summary) -> Fact:
    """How many failed, and what the mean reward is without them, with them as 0, and at most and least."""
    three = summary.with_failures
    if three is None:
        return Fact("could not be judged", "0", "every attempt was judged")
    mean = "undefined" if three.mean_scored is None else f"{three.mean_scored:.4f}"
    note = (
        f"these have no reward. Mean reward {mean} without them, {three.mean_failures_as_zero:.4f} with each as 0, "
        f"{three.lowest:.4f} to {three.highest:.4f} whatever they would have earned"
    )
    return Fact("could not be judged", f"{summary.failed:,}", note, "bad")


def _estimate(rate: Estimate | None, confidence: float) -> tuple[str, str]:
    if rate is None:
        return "none", "nothing could be judged"
    if rate.low is None:
        return f"{rate.value:.4f}", "interval undefined"
    return (
        f"{rate.value:.4f}",
        f"{confidence:.0%} interval {rate.low:.4f} to {rate.high:.4f} ({METHODS.get(rate.method, rate.method)})",
    )


def evaluate_sections(run: Path, manifest: Manifest) -> list[Section]:
    """Failure modes, pass@k where there are several draws, and the records."""
    summary = read_summary(run)
    sections = [failure_modes(summary)]
    if summary.draws > 1:
        sections.append(pass_at_k_section(_curve_of(summary), draws=summary.draws, exact=_exact(run)))
    return [*sections, records_section(run, manifest)]


def failure_modes(summary: Summary) -> Section:
    """Every code with its share and interval; failures beside them, never among them."""
    rows: Rows = [
        [Cell(visible(one.code, 60), visible(_alone(one, summary), 200)), one.outcome.value, f"{one.count:,}",
         f"{one.share:.2%}", f"{one.low:.2%} to {one.high:.2%}"]
        for one in summary.codes
    ]  # fmt: skip
    rows += [
        [Cell(visible(one.code, 60), visible(one.code, 200)), "could not be judged", f"{one.count:,}", "", ""]
        for one in summary.failures
    ]
    codes = summary.codes[:20]
    chart = Chart(
        title="Share of each code among judged attempts: green correct, red wrong, amber malformed",
        kind="bars",
        percent=True,
        series=[
            Series(
                name="share",
                labels=[visible(one.code, 40) for one in codes],
                y=[one.share for one in codes],
                low=[one.low for one in codes],
                high=[one.high for one in codes],
                inks=[one.outcome.value for one in codes],
            )
        ],
    )
    formed = sum(one.count for one in summary.codes if one.outcome is not Outcome.MALFORMED)
    right = sum(one.count for one in summary.codes if one.outcome is Outcome.CORRECT)
    facts = []
    if summary.scored:
        judged = counted(summary.scored, "judged attempt")
        facts = [
            Fact("format right", f"{formed / summary.scored:.1%}", f"{formed:,} of {judged}"),
            Fact(
                "of those, answer right",
                f"{right / formed:.1%}" if formed else "none to be right",
                f"{right:,} of {formed:,}",
            ),
        ]
    return Section(
        title="Failure modes",
        text=["Press a code to see its records. Intervals hold for all codes at once (Holm)."],
        facts=facts,
        charts=[chart] if codes else [],
        tables=[Table(header=["code", "outcome", "count", "share", f"{summary.confidence:.0%} interval"], rows=rows,
                      numbers=[2, 3, 4], filterable=True)],
    )  # fmt: skip


def _alone(one: CodeCount, summary: Summary) -> str:
    """The code as records hold it: without the outcome that the summary adds where a code came with several."""
    stem = one.code.removesuffix(f" ({one.outcome.value})")
    others = [other for other in summary.codes if other is not one and other.code == f"{stem} ({other.outcome.value})"]
    return stem if others else one.code


def _curve_of(summary: Summary) -> Curve | None:
    draws, passes = [], []
    for rate in summary.pass_rates:
        if rate.scored:
            draws += [rate.scored] * rate.examples
            passes += [rate.correct] * rate.examples
    if not draws:
        return None
    least = min(draws)
    ks = range(1, least + 1) if least <= CURVE_DRAWS else [2**i for i in range(least.bit_length())]
    return pass_curve(draws, passes, ks=list(ks), confidence=summary.confidence, unequal="common minimum")


def _exact(run: Path) -> Exact | None:
    path = run / EXACT_JSON
    return msgspec.json.decode(path.read_bytes(), type=Exact) if path.is_file() else None


def pass_at_k_section(curve: Curve | None, *, draws: int, exact: Exact | None = None) -> Section:
    """pass@k with its pointwise band; the exact curve beside it where the policy's probabilities are known."""
    if curve is None:
        return Section(title="pass@k", text=["None: nothing could be judged."])
    series = [band_series("pass@k, estimated", curve)]
    if exact is not None:
        last = curve.points[-1].k
        points = [(k, value) for k, value in exact.pass_at_k.items() if k <= last]
        series.append(
            Series(name="exact", x=[float(k) for k, _ in points], y=[value for _, value in points], style="points")
        )
    text = ["The chance that at least one of k draws is right: what selection could reach with a perfect judge."]
    if curve.draws_min < draws:
        text.append(
            f"Some draws could not be judged: the curve ends at k = {curve.draws_min}, the fewest that any of its "
            f"{counted(curve.examples, 'example')} has."
        )
    rows: Rows = [
        [str(point.k), f"{point.estimate:.4f}", span(point.pointwise), span(point.simultaneous)]
        for point in curve.points
        if point.k & (point.k - 1) == 0 or point is curve.points[-1]
    ]
    return Section(
        title="pass@k",
        text=text,
        charts=[
            Chart(
                title="pass@k",
                kind="lines",
                series=series,
                x_label="k (draws)",
                y_label="pass@k",
                x_log=True,
                percent=True,
            )
        ],
        tables=[Table(header=["k", "pass@k", "each k alone", "all k at once"], rows=rows, numbers=[0, 1, 2, 3])],
    )


def band_series(name: str, curve: Curve) -> Series:
    """A pass@k curve as a line with its pointwise band."""
    return Series(
        name=name,
        x=[float(point.k) for point in curve.points],
        y=[point.estimate for point in curve.points],
        low=[point.pointwise.low if point.pointwise else None for point in curve.points],
        high=[point.pointwise.high if point.pointwise else None for point in curve.points],
    )


def records_section(
    run: Path,
    manifest: Manifest,
    title: str = "Completions",
    *,
    most: int = MOST_RECORDS,
    characters: int = MOST_CHARACTERS,
) -> Section:
    return Section(title=title, records=browse(run, manifest, most, characters))


def adaptive_sections(run: Path, manifest: Manifest) -> list[Section]:
    """What stopping at the first pass cost and saved, and the draws it kept."""
    found = msgspec.json.decode((run / ADAPTIVE_JSON).read_bytes(), type=Adaptive)
    chart = Chart(
        title="Examples solved at each draw",
        kind="bars",
        series=[
            Series(
                name="examples",
                labels=[f"draw {i + 1}" for i in range(found.budget)],
                y=[float(count) for count in found.stopped_at],
            )
        ],
    )
    facts = [
        Fact("solved", f"{found.solved:,} of {found.examples:,}", f"{found.unsolved:,} spent the whole budget of {counted(found.budget, 'draw')}"),
        Fact("draws made", f"{found.draws:,}", f"{found.draws_each:.2f} an example; {found.saved:,} were never made, so never paid for"),
    ]  # fmt: skip
    if found.tokens is not None:
        each = "" if found.tokens_per_solved is None else f"{found.tokens_per_solved:.1f} for each solved example"
        facts.append(Fact("tokens", f"{found.tokens:,}", each))
    drawing = Section(title="Drawing until one passes", text=["The policy does not change: this is selection, not learning."], facts=facts,
                      charts=[chart] if found.budget <= MOST_BARS else [])  # fmt: skip
    return [drawing, failure_modes(read_summary(run)), records_section(run, manifest, "The completions it kept")]


def selection_sections(run: Path, manifest: Manifest) -> list[Section]:
    """What the selector bought at every n, what it cost, and the records it chose."""
    selection = msgspec.json.decode((run / SELECTION_JSON).read_bytes(), type=Selection)
    parts = [_bought(selection)]
    if selection.pass_at_k is not None:
        parts.append(pass_at_k_section(selection.pass_at_k, draws=selection.draws))
    return [*parts, failure_modes(read_summary(run)), records_section(run, manifest, "The completions it chose")]


def _bought(selection: Selection) -> Section:
    at = selection.at_n
    lines = [
        run_series("accuracy of the selector", [one.n for one in at], [one.accuracy for one in at]),
        run_series("ceiling: a perfect selector", [one.n for one in at], [one.ceiling for one in at], style="dashed"),
    ]
    if shows_rewards(selection):
        lines.append(
            run_series("what its own scorer said", [one.n for one in at], [one.told for one in at], style="dashed")
        )
    return Section(
        title=f"Selection by {visible(selection.plan.selector, 80)}",
        text=[
            "The policy does not change: this is selection, not learning.",
            *(visible(note, LONGEST) for note in selection.notes),
            f"Rescued {counted(selection.rescued.count, 'example')} that the first draw missed, lost {selection.lost.count:,}.",
        ],
        charts=[
            Chart(title="What n draws buy", kind="lines", series=lines, x_label="n (draws)", y_label="share right",
                  x_log=True, percent=True)
        ],
        tables=[
            _columns(bought(selection), [i for i in range(len(bought(selection))) if i != INTERVAL_AT]),
            _columns(costs(selection), list(range(len(costs(selection))))),
        ],
    )  # fmt: skip


def _columns(columns: Columns, numbers: list[int]) -> Table:
    rows: Rows = [list(row) for row in zip(*(cells for _, cells in columns), strict=True)]
    return Table(header=[head for head, _ in columns], rows=rows, numbers=numbers)


def run_series(name: str, x: Sequence[int], y: Sequence[RunEstimate | None], style: str = "line") -> Series:
    """Estimates with their intervals as one line."""
    intervals = [one.interval if one is not None else None for one in y]
    series = Series(
        name=name,
        x=[float(value) for value in x],
        y=[None if one is None else one.mean for one in y],
        low=[None if one is None else one.low for one in intervals],
        high=[None if one is None else one.high for one in intervals],
    )
    return msgspec.structs.replace(series, style=style)


def _value(estimate: RunEstimate | None) -> str:
    return "undefined" if estimate is None else f"{estimate.mean:.4f}"
