"""A selection's numbers as text: the same Markdown goes to `selection.md` and to the terminal."""

from __future__ import annotations

from lockedroom.results.selection import AtN, Confirmed, Listed, Selection, VerifierModel
from lockedroom.results.text_table import text_table
from lockedroom.stats.intervals import Interval
from lockedroom.stats.one_run import RunEstimate
from lockedroom.visible import visible

CURVE_ROWS = 12


def render_selection(selection: Selection) -> str:
    """Return a selection as Markdown that also reads well unrendered."""
    plan = selection.plan
    lines = [
        f"# Selection by {visible(plan.selector, 80)}",
        "",
        f"{selection.examples:,} examples × {selection.draws} draws. The policy does not change: this is selection, not "
        "learning.",
        "",
        *_at_n(selection),
        "",
        *_costs(selection),
        "",
        *_curves(selection),
        "",
        *_remarks(selection),
    ]
    return "\n".join(lines) + "\n"


def _at_n(selection: Selection) -> list[str]:
    plan = selection.plan
    rows = []
    for one in selection.at_n:
        rows.append((
            str(one.n), str(one.groups), _value(one.accuracy), _interval(one.accuracy), _value(one.ceiling),
            _value(one.majority), _value(one.told) if one.told is not None else "",
            "" if one.predicted is None else f"{one.predicted:.4f}",
        ))  # fmt: skip
    proxy = plan.selector.startswith("proxy:")
    header = ("n", "groups", "accuracy", f"{plan.confidence:.0%} interval", "ceiling", "maj@n",
              "proxy's reward" if proxy else "", "predicted")  # fmt: skip
    if not proxy:
        rows = [(*row[:6], "", row[7]) for row in rows]
    return text_table(header, rows, numbers=(0, 1, 2, 4, 5, 6, 7))


def _costs(selection: Selection) -> list[str]:
    rows = []
    for one in selection.at_n:
        rows.append((
            str(one.n), _number(one.tokens, 1), f"{one.stopped:.3f}", f"{one.stopped_law:.3f}",
            f"{1 - one.stopped / one.n:.1%}", _number(one.tokens_stopped, 1),
            "" if one.n == 1 else _number(one.tokens_per_solved, 1, "unknown" if one.tokens is None else "no gain"), _kl(one),
        ))  # fmt: skip
    header = ("n", "tokens", "draws if stopped", "by the law", "saved", "tokens if stopped", "tokens / further solved",
              "KL (nats)")  # fmt: skip
    return text_table(header, rows, numbers=range(8))


def _kl(one: AtN) -> str:
    bound = "0" if one.kl_bound == 0 else f"≤ {one.kl_bound:.4f}"
    return bound if one.kl_binary is None else f"{bound}; pass/fail {one.kl_binary:.4f}"


def _curves(selection: Selection) -> list[str]:
    curve, hat = selection.pass_at_k, selection.pass_hat_k
    if curve is None or hat is None:
        return ["pass@k: none, nothing could be judged"]
    shown = _spread([point.k for point in curve.points])
    exact = {} if selection.exact is None else {point.k: point for point in selection.exact.points}
    rows = []
    for point, other in zip(curve.points, hat.points, strict=True):
        if point.k not in shown:
            continue
        known = exact.get(point.k)
        verdict = "" if known is None else f"{known.exact:.4f} {'agrees' if known.agrees else 'DOES NOT AGREE'}"
        rows.append((
            str(point.k), f"{point.estimate:.4f}", _band(point.pointwise), _band(point.simultaneous), verdict,
            f"{other.estimate:.4f}", _band(other.pointwise),
        ))  # fmt: skip
    exact_head = "exact" if exact else ""
    return text_table(
        ("k", "pass@k", "pointwise", "simultaneous", exact_head, "pass^k", "pointwise"), rows, numbers=(0, 1, 5)
    )


def _spread(ks: list[int]) -> set[int]:
    """All k of a short curve; powers of two and the last of a long one."""
    return set(ks) if len(ks) <= CURVE_ROWS else {k for k in ks if k & (k - 1) == 0 or k == ks[-1]}


def _remarks(selection: Selection) -> list[str]:
    last, spread = selection.at_n[-1], selection.diversity
    p = "exact probabilities" if selection.known_p else "c/N of each example (plug-in)"
    proxy = selection.plan.selector.startswith("proxy:")
    law = "at exact probabilities" if selection.known_p and not proxy else "estimated without bias from all draws"
    lines = [
        f"- Against the first draw, n = {last.n} rescued {_listed(selection.rescued)} and lost {_listed(selection.lost)}.",
        f"- Diversity: {spread.texts:.2f} different texts and {spread.answers:.2f} different parsed answers of "
        f"{selection.draws} draws; no answer parsed from {spread.unparsed:.1%} (parsed by {selection.plan.parse}).",
        f"- Draws if stopped: drawing ends at the first pass; the law is (1 − (1−p)^n)/p, {law}.",
    ]
    if last.unjudged:
        lines.append(f"- {last.unjudged:,} of the picks at n = {last.n} could not be judged and are in no accuracy.")
    if any(one.kl_binary is not None for one in selection.at_n):
        lines.append(
            "- KL pass/fail: exact for a tie-break that knows nothing (and for rejection sampling); a fixed tie-break "
            "strays further, up to the bound."
        )
    if selection.verifier is not None:
        lines.append(_verifier(selection.verifier, p))
    if selection.plan.tie_break != "logprob":
        lines.append(f"- Ties among equals are broken by: {selection.plan.tie_break}.")
    if selection.confirmed is not None:
        lines.append(_confirmed(selection.confirmed))
    return [*lines, *(f"- Note: {note}." for note in selection.notes)]


def _verifier(model: VerifierModel, p: str) -> str:
    rates = [
        f"{rate:.2%}" + ("" if interval is None else f" [{interval.low:.2%}, {interval.high:.2%}]")
        for rate, interval in (
            (model.false_positive_rate, model.false_positive_interval),
            (model.false_negative_rate, model.false_negative_interval),
        )
    ]
    line = (
        f"- Verifier model: false positives {rates[0]}, false negatives {rates[1]} ({model.source}); its ceiling, at {p}, is "
        f"{model.ceiling:.4f}"
    )
    if model.ceiling_at_worst is None or model.ceiling_at_best is None:
        return f"{line}."
    return (
        f"{line}, and from {model.ceiling_at_worst:.4f} to {model.ceiling_at_best:.4f} at the ends of these intervals."
    )


def _confirmed(found: Confirmed) -> str:
    inflation = "undefined" if found.expected_inflation is None else f"up to {found.expected_inflation:.4f}"
    drop = "" if found.drop is None else f", a drop of {found.drop:.4f}"
    if found.drop_interval is not None:
        drop += f" [{found.drop_interval.low:.4f}, {found.drop_interval.high:.4f}]"
    return (
        f"- Confirmed: n = {found.n} looked best of {found.candidates}, with {_number(found.measured, 4)} (expected inflation of a "
        f"winner: {inflation}). On {found.fresh_draws} fresh draws: {_value(found.fresh)} {_interval(found.fresh)}{drop}."
    )


def _listed(listed: Listed) -> str:
    if not listed.count:
        return "0 examples"
    shown = ", ".join(visible(name, 40) for name in listed.first)
    return f"{listed.count:,} ({shown}{', …' if listed.count > len(listed.first) else ''})"


def _value(estimate: RunEstimate | None) -> str:
    return "none" if estimate is None else f"{estimate.mean:.4f}"


def _interval(estimate: RunEstimate | None) -> str:
    if estimate is None or estimate.interval is None:
        return "undefined"
    return f"[{estimate.interval.low:.4f}, {estimate.interval.high:.4f}]"


def _band(interval: Interval | None) -> str:
    return "no spread" if interval is None else f"[{interval.low:.4f}, {interval.high:.4f}]"


def _number(value: float | None, digits: int, otherwise: str = "unknown") -> str:
    return otherwise if value is None else f"{value:.{digits}f}"
