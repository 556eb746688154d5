"""Loop A and Loop B as blocks: headline, failure modes, pass@k, records, provenance."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import msgspec

from lockedroom.records import Outcome
from lockedroom.report.blocks import Cell, Chart, Fact, Rows, Section, Series, Table
from lockedroom.report.browse import browse
from lockedroom.results.exact import EXACT_JSON, Exact
from lockedroom.results.inspection import read_summary
from lockedroom.results.room_difference import room_fields
from lockedroom.results.selection import Selection
from lockedroom.results.selection_rendering import shows_rewards
from lockedroom.results.summary import Estimate, Summary
from lockedroom.safeguards.manifest import Manifest
from lockedroom.stats.one_run import RunEstimate
from lockedroom.stats.pass_at_k import Curve, pass_curve
from lockedroom.visible import visible

SELECTION_JSON = "selection.json"
CURVE_DRAWS = 128  # beyond, a curve for the page is drawn at powers of two only
LONGEST = 300


def headline(manifest: Manifest, summary: Summary) -> list[Fact]:
    """The pass rate with its interval, what it was measured on, and what could not be judged."""
    rate = summary.pass_rate
    facts = [
        Fact(f"pass rate of {visible(manifest.policy.name, 60)}", *_estimate(rate, summary.confidence)),
        Fact(
            "measured on",
            f"{summary.attempts:,} attempts",
            f"{summary.examples:,} examples × {summary.draws} of {visible(manifest.room.dataset.split, 60)}",
        ),
        Fact(
            "could not be judged",
            f"{summary.failed:,}",
            "failures have no reward and are in no average" if summary.failed else "every attempt was judged",
            "bad" if summary.failed else "plain",
        ),
    ]
    if summary.finish_reason_known:
        share = summary.truncated / summary.finish_reason_known
        facts.append(Fact("truncated", f"{share:.1%}", f"{summary.truncated:,} hit the token limit"))
    return facts


def _estimate(rate: Estimate | None, confidence: float) -> tuple[str, str]:
    if rate is None:
        return "none", "nothing could be judged"
    if rate.low is None:
        return f"{rate.value:.4f}", "interval undefined"
    return f"{rate.value:.4f}", f"{confidence:.0%} interval {rate.low:.4f} to {rate.high:.4f} ({rate.method})"


def evaluate_sections(run: Path, manifest: Manifest) -> list[Section]:
    """Failure modes, pass@k where there are several draws, and the records."""
    summary = read_summary(run)
    sections = [failure_modes(summary)]
    if summary.draws > 1:
        sections.append(pass_at_k_section(_curve_of(summary), exact=_exact(run)))
    return [*sections, records_section(run, manifest)]


def failure_modes(summary: Summary) -> Section:
    """Every code with its share and interval; failures beside them, never among them."""
    rows: Rows = [
        [Cell(visible(one.code, 60), visible(one.code.partition(" (")[0], 200)), one.outcome.value, f"{one.count:,}",
         f"{one.share:.2%}", f"{one.low:.2%} to {one.high:.2%}"]
        for one in summary.codes
    ]  # fmt: skip
    rows += [
        [Cell(visible(one.code, 60), visible(one.code, 200)), "could not be judged", f"{one.count:,}", "", ""]
        for one in summary.failures
    ]
    codes = summary.codes[:20]
    chart = Chart(
        title="Share of each code among judged attempts",
        kind="bars",
        percent=True,
        series=[
            Series(
                name="share",
                labels=[visible(one.code, 40) for one in codes],
                y=[one.share for one in codes],
                low=[one.low for one in codes],
                high=[one.high for one in codes],
            )
        ],
    )
    formed = sum(one.count for one in summary.codes if one.outcome is not Outcome.MALFORMED)
    right = sum(one.count for one in summary.codes if one.outcome is Outcome.CORRECT)
    facts = []
    if summary.scored:
        facts = [
            Fact("format right", f"{formed / summary.scored:.1%}", f"{formed:,} of {summary.scored:,} judged attempts"),
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


def pass_at_k_section(curve: Curve | None, exact: Exact | None = None) -> Section:
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
    rows: Rows = [
        [str(point.k), f"{point.estimate:.4f}", _span(point.pointwise), _span(point.simultaneous)]
        for point in curve.points
        if point.k & (point.k - 1) == 0 or point is curve.points[-1]
    ]
    return Section(
        title="pass@k",
        text=["The chance that at least one of k draws is right: what selection could reach with a perfect judge."],
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


def _span(interval: object) -> str:
    low, high = getattr(interval, "low", None), getattr(interval, "high", None)
    return "undefined" if low is None or high is None else f"{low:.4f} to {high:.4f}"


def records_section(run: Path, manifest: Manifest, title: str = "Completions") -> Section:
    return Section(title=title, records=browse(run, manifest))


def selection_sections(run: Path, manifest: Manifest) -> list[Section]:
    """What the selector bought at every n, what it cost, and the records it chose."""
    selection = msgspec.json.decode((run / SELECTION_JSON).read_bytes(), type=Selection)
    parts = [_bought(selection)]
    if selection.pass_at_k is not None:
        parts.append(pass_at_k_section(selection.pass_at_k))
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
    rows: Rows = [
        [str(one.n), _value(one.accuracy), _span(one.accuracy.interval if one.accuracy else None), _value(one.ceiling),
         _value(one.majority), "unknown" if one.tokens is None else f"{one.tokens:.1f}", f"≤ {one.kl_bound:.3f}"]
        for one in at
    ]  # fmt: skip
    return Section(
        title=f"Selection by {visible(selection.plan.selector, 80)}",
        text=[
            "The policy does not change: this is selection, not learning.",
            *(visible(note, LONGEST) for note in selection.notes),
            f"Rescued {selection.rescued.count:,} examples that the first draw missed, lost {selection.lost.count:,}.",
        ],
        charts=[
            Chart(title="What n draws buy", kind="lines", series=lines, x_label="n (draws)", y_label="share right",
                  x_log=True, percent=True)
        ],
        tables=[
            Table(header=["n", "accuracy", "interval", "ceiling", "maj@n", "tokens an example", "KL (nats)"], rows=rows,
                  numbers=list(range(7)))
        ],
    )  # fmt: skip


def run_series(name: str, x: Sequence[int], y: Sequence[RunEstimate | None], style: str = "line") -> Series:
    """Estimates with their intervals as one line."""
    spans = [one.interval if one is not None else None for one in y]
    series = Series(
        name=name,
        x=[float(value) for value in x],
        y=[None if one is None else one.mean for one in y],
        low=[None if span is None else span.low for span in spans],
        high=[None if span is None else span.high for span in spans],
    )
    return msgspec.structs.replace(series, style=style)


def _value(estimate: RunEstimate | None) -> str:
    return "undefined" if estimate is None else f"{estimate.mean:.4f}"


def provenance(run: Path, manifest: Manifest) -> Section:
    """What pins the run down, and the command that makes it again."""
    facts: dict[str, object] = {
        "run": manifest.run_id,
        "kind": manifest.kind,
        "folder": run.name,
        "policy": manifest.policy.name,
        **{f"policy.{key}": value for key, value in manifest.policy.identity.items()},
        **room_fields(manifest.room),
        **{f"selection.{key}": value for key, value in manifest.selection.items()},
        "seed": manifest.seed,
        "threads": manifest.threads,
        **{f"version of {key}": value for key, value in manifest.versions.items()},
        **{f"hardware.{key}": value for key, value in msgspec.to_builtins(manifest.hardware).items()},
        **({} if manifest.git is None else {f"git.{k}": v for k, v in msgspec.to_builtins(manifest.git).items()}),
        "started": manifest.timing.started,
        "seconds": manifest.timing.seconds,
        **{f"sha256 of {name}": entry.sha256 for name, entry in manifest.files.items()},
    }
    rows: Rows = [
        [visible(name, 80), visible(value if isinstance(value, str) else json.dumps(value), LONGEST)]
        for name, value in facts.items()
    ]
    return Section(
        title=f"Provenance of {visible(run.name, 80)}",
        text=["Made by:"],
        quotes=[
            visible(shlex.join(_command(manifest)), 1000),
            f"lockedroom verify {visible(shlex.quote(str(run)), 500)}",
        ],
        tables=[Table(header=["what", "value"], rows=rows, filterable=True)],
        folded=True,
    )


def _command(manifest: Manifest) -> list[str]:
    if not manifest.command:
        return ["(called", "from", "Python)"]
    return [Path(manifest.command[0]).name, *manifest.command[1:]]
