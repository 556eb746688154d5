"""A selection's numbers as text: the same Markdown goes to `selection.md` and to the terminal."""

from __future__ import annotations

from typing import TypeAlias

from lockedroom.results.selection.numbers import AtN, Confirmed, Listed, Selection
from lockedroom.results.selection.selectors import NO_PARSER, PROXY
from lockedroom.results.selection.verifier import VerifierModel
from lockedroom.results.text_table import text_table
from lockedroom.stats.intervals import Interval
from lockedroom.stats.one_run import RunEstimate
from lockedroom.visible import visible
from lockedroom.wording import counted

CURVE_ROWS = 12
INTERVAL_AT = 3  # the column of `bought` that is not a number
DECIMALS, MOST_DECIMALS = 4, 9


# Heads with the cells below them.
Columns: TypeAlias = list[tuple[str, list[str]]]


def render_selection(selection: Selection) -> str:
    """Return a selection as Markdown that also reads well unrendered."""
    plan = selection.plan
    lines = [
        f"# Selection by {visible(plan.selector, 80)}",
        "",
        f"{counted(selection.examples, 'example')} × {counted(selection.draws, 'draw')}. The policy does not change: this is selection, not "
        "learning.",
        "",
        *_table(bought(selection), text=INTERVAL_AT),
        "",
        *_table(costs(selection)),
        "",
        *_curves(selection),
        "",
        *_remarks(selection),
    ]
    return "\n".join(lines) + "\n"


def shows_rewards(selection: Selection) -> bool:
    """Whether rewards say more than verdicts do: those of a proxy, or graded ones."""
    graded = any(one.told is not None and one.accuracy is not None and one.told.mean != one.accuracy.mean
                 for one in selection.at_n)  # fmt: skip
    return selection.plan.selector.startswith(PROXY) or graded


def bought(selection: Selection) -> Columns:
    """What the selector reached at each n; the fourth column is text, the others are numbers."""
    plan, at_n = selection.plan, selection.at_n
    columns = [
        ("n", [str(one.n) for one in at_n]),
        ("groups", [str(one.groups) for one in at_n]),
        ("accuracy", [_value(one.accuracy) for one in at_n]),
        (f"{plan.confidence:.0%} interval", [_interval(one.accuracy) for one in at_n]),
        ("ceiling", [_value(one.ceiling) for one in at_n]),
    ]
    if any(one.majority is not None for one in at_n):
        columns.append(("maj@n", [_value(one.majority) for one in at_n]))
    if shows_rewards(selection):
        name = "proxy's reward" if plan.selector.startswith(PROXY) else "reward"
        columns.append((name, [_value(one.told) for one in at_n]))
    if any(one.predicted is not None for one in at_n):
        columns.append(("predicted", [_number(one.predicted, 4, "none") for one in at_n]))
    return columns


def costs(selection: Selection) -> Columns:
    """What each n cost, and how far it strayed from the policy."""
    at_n = selection.at_n
    further = [one.tokens_per_solved if one.tokens is not None else one.draws_per_solved for one in at_n]
    unit = "tokens" if at_n[0].tokens is not None else "draws"
    columns = [
        ("n", [str(one.n) for one in at_n]),
        ("draws if stopped", [f"{one.stopped:.3f}" for one in at_n]),
        ("by the law", [f"{one.stopped_law:.3f}" for one in at_n]),
        ("saved", [f"{1 - one.stopped / one.n:.1%}" for one in at_n]),
    ]
    if unit == "tokens":
        columns.insert(1, ("tokens", [_number(one.tokens, 1) for one in at_n]))
        columns.append(("tokens if stopped", [_number(one.tokens_stopped, 1) for one in at_n]))
    columns.append((
        f"{unit} / further solved",
        ["" if one.n == 1 else _number(cost, 1, "no gain") for one, cost in zip(at_n, further, strict=True)],
    ))  # fmt: skip
    columns.append(("KL (nats)", [_kl(one, known=selection.known_p) for one in at_n]))
    return columns


def _table(columns: Columns, *, text: int | None = None) -> list[str]:
    """Return columns as a table; all but the one numbered `text` hold numbers."""
    rows = list(zip(*(cells for _, cells in columns), strict=True))
    return text_table([head for head, _ in columns], rows, numbers=[i for i in range(len(columns)) if i != text])


def _kl(one: AtN, *, known: bool) -> str:
    bound = "0" if one.kl_bound == 0 else f"≤ {one.kl_bound:.4f}"
    about = "" if known else "≈ "
    return bound if one.kl_binary is None else f"{bound}; pass/fail {about}{one.kl_binary:.4f}"


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
            str(point.k), *_point(point.estimate, point.pointwise, point.simultaneous), verdict,
            *_point(other.estimate, other.pointwise),
        ))  # fmt: skip
    exact_head = "exact" if exact else ""
    return text_table(
        ("k", "pass@k", "pointwise", "simultaneous", exact_head, "pass^k", "pointwise"), rows, numbers=(0, 1, 5)
    )


def _spread(ks: list[int]) -> set[int]:
    """All k of a short curve; powers of two and the last of a long one."""
    return set(ks) if len(ks) <= CURVE_ROWS else {k for k in ks if k & (k - 1) == 0 or k == ks[-1]}


def _remarks(selection: Selection) -> list[str]:
    last = selection.at_n[-1]
    p = (
        "exact probabilities"
        if selection.known_p
        else "c/N of each example (plug-in: biased, low where it passes right ones more often than wrong ones)"
    )
    proxy = selection.plan.selector.startswith(PROXY)
    law = "at exact probabilities" if selection.known_p and not proxy else "estimated without bias from all draws"
    lines = [
        f"- Against the first draw, n = {last.n} rescued {_listed(selection.rescued)} and lost {_listed(selection.lost)}.",
        _diversity(selection),
        f"- Draws if stopped: drawing ends at the first pass; the law is (1 − (1−p)^n)/p, {law}.",
    ]
    if last.unjudged:
        lines.append(
            f"- {last.unjudged:,} of the picks at n = {last.n} could not be judged and are in no accuracy; over all picks it lies "
            f"between {_number(last.lowest, 4)} (they are wrong) and {_number(last.highest, 4)} (they are right)."
        )
    if any(one.kl_binary is not None for one in selection.at_n):
        lines.append(
            f"- KL pass/fail: {'exact' if selection.known_p else 'at p = c/N of each example'} for a tie-break that knows nothing "
            "(and for rejection sampling); a fixed tie-break strays further, up to the bound."
        )
    if selection.verifier is not None:
        lines.append(_verifier(selection.verifier, p))
    if selection.plan.tie_break != "logprob":
        lines.append(f"- Ties among equals are broken by: {selection.plan.tie_break}.")
    if selection.confirmed is not None:
        lines.append(_confirmed(selection.confirmed))
    return [*lines, *(f"- Note: {note}." for note in selection.notes)]


def _diversity(selection: Selection) -> str:
    spread, parse = selection.diversity, selection.plan.parse
    if parse == NO_PARSER:
        return (
            f"- Diversity: {spread.texts:.2f} different texts of {counted(selection.draws, 'draw')}; answers were not read, so maj@n is "
            "unknown: --parse names what reads them."
        )
    return (
        f"- Diversity: {spread.texts:.2f} different texts and {spread.answers:.2f} different parsed answers of "
        f"{counted(selection.draws, 'draw')}; no answer parsed from {spread.unparsed:.1%} (parsed by {visible(parse, 60)})."
    )


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
        f"winner: {inflation}). On {counted(found.fresh_draws, 'fresh draw')}: {_value(found.fresh)} {_interval(found.fresh)}{drop}."
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


def _point(estimate: float, *bands: Interval | None) -> list[str]:
    """An estimate and its bands, with as many decimals as it takes to see that a band has a width."""
    decimals = DECIMALS
    while decimals < MOST_DECIMALS and any(
        band is not None and f"{band.low:.{decimals}f}" == f"{band.high:.{decimals}f}" for band in bands
    ):
        decimals += 1
    shown = ["no spread" if band is None else f"[{band.low:.{decimals}f}, {band.high:.{decimals}f}]" for band in bands]
    return [f"{estimate:.{decimals}f}", *shown]


def _number(value: float | None, digits: int, otherwise: str = "unknown") -> str:
    return otherwise if value is None else f"{value:.{digits}f}"
