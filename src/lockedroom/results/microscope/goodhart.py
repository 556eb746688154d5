"""What an optimizer does to a permissive scorer: its reward and a strict one's, on the same completions, against KL.

Everything but the settings is derived from the measured completions (`Measured` rows), so that `verify` can do it again.
The *gap* is the proxy's mean reward minus the strict pass rate. It has *opened* where the growth of the gap since the start,
paired example by example, has a confidence interval above 0 at this and every later measurement (Bonferroni over them).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from lockedroom.errors import BadInput
from lockedroom.records import Failure, Outcome, Score
from lockedroom.results.text_table import text_table
from lockedroom.stats.intervals import Interval, mean_t_interval
from lockedroom.stats.one_run import RunEstimate, RunSums, estimate_run
from lockedroom.visible import visible
from lockedroom.wording import counted

FORMAT = "lockedroom.goodhart/1"
RESULT_JSON, RESULT_MD, MEASURED = "summary.json", "summary.md", "measured.jsonl"
EXPLOITS_SHOWN = 3


class GoodhartSetting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Train on `proxy`, measure with `strict`; one arm for each KL weight of `betas`.

    steps, prompts, group, learning_rate: as of `lockedroom learn`. Every `every` steps, `draws` completions of each of the
    first `examples` dev examples are measured.
    """

    policy: str = "tiny-hedge"
    dataset: str
    dev: str
    proxy: str = "permissive"
    strict: str = "final-int"
    betas: tuple[float, ...] = (0.0, 0.05)
    steps: int = 80
    prompts: int = 64
    group: int = 8
    learning_rate: float = 1e-3
    every: int = 10
    examples: int = 200
    draws: int = 4
    confidence: float = 0.95
    seed: int = 0


class Measured(msgspec.Struct, frozen=True, gc=False):
    """One completion of a dev example, drawn after `step` updates of an arm, and what both scorers say of it."""

    beta: float
    step: int
    id: str
    draw: int
    text: str
    kl: float
    proxy: Score | Failure
    strict: Score | Failure


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement of an arm. `opened`: the growth of the gap since step 0 and its interval, None at step 0."""

    step: int
    kl: float
    proxy: RunEstimate | None
    strict: RunEstimate | None
    gap: float | None
    grown: float | None
    grown_interval: Interval | None
    paid_wrongly: float
    failed: int


class Exploit(msgspec.Struct, frozen=True):
    """A strict code that the proxy pays at the end: its share of all completions, at the start too, and texts."""

    code: str
    share: float
    share_at_start: float
    texts: list[str]


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """One KL weight. `onset`: the first step from which on the gap has opened. `best`: the step with the best strict rate,
    where early stopping by the strict scorer would have stopped (it needs the strict scorer, or a holdout judged by it)."""

    beta: float
    points: list[Point]
    onset: int | None
    onset_kl: float | None
    best: int
    exploits: list[Exploit]


class GoodhartResult(msgspec.Struct, frozen=True, kw_only=True):
    """All arms."""

    format: str
    setting: GoodhartSetting
    arms: list[Arm]


def check_setting(setting: GoodhartSetting) -> None:
    """Raise BadInput for what cannot be run."""
    counts = {"--steps": setting.steps, "--prompts": setting.prompts, "--group": setting.group, "--every": setting.every,
              "--examples": setting.examples, "--draws": setting.draws}  # fmt: skip
    for name, value in counts.items():
        if value < 1:
            raise BadInput(f"{name} {value}: must be at least 1")
    if not setting.betas or len(set(setting.betas)) < len(setting.betas):
        raise BadInput(f"--kl {','.join(map(str, setting.betas))}: name each weight once, e.g. 0,0.05")
    if not all(math.isfinite(beta) and beta >= 0 for beta in setting.betas):
        raise BadInput(f"--kl {','.join(map(str, setting.betas))}: finite numbers, 0 or above")
    if setting.proxy == setting.strict:
        raise BadInput(f"--proxy and --strict are both {setting.proxy}: with one scorer there is no gap to see")
    if not 0.5 < setting.confidence < 1:
        raise BadInput(f"--confidence {setting.confidence}: must lie between 0.5 and 1, e.g. 0.95")


def derive(setting: GoodhartSetting, rows: Iterable[Measured]) -> GoodhartResult:
    """Return every number from the measured completions, which come arm by arm, step by step, example by example."""
    arms = [
        _arm(setting, beta, {step: list(some) for step, some in itertools.groupby(arm, key=lambda row: row.step)})
        for beta, arm in itertools.groupby(rows, key=lambda row: row.beta)
    ]
    return GoodhartResult(format=FORMAT, setting=setting, arms=arms)


def _arm(setting: GoodhartSetting, beta: float, steps: dict[int, list[Measured]]) -> Arm:
    first = _gaps(steps[0])
    confidence = 1 - (1 - setting.confidence) / max(1, len(steps) - 1)
    points = [_point(setting, step, rows, first, confidence) for step, rows in steps.items()]
    open_ = [point.grown_interval is not None and point.grown_interval.low > 0 for point in points]
    onset = next((i for i in range(1, len(points)) if all(open_[i:])), None)
    rated = [point for point in points if point.strict is not None]
    best = max(rated, key=lambda point: point.strict.mean if point.strict else 0.0).step if rated else 0
    return Arm(
        beta=beta,
        points=points,
        onset=None if onset is None else points[onset].step,
        onset_kl=None if onset is None else points[onset].kl,
        best=best,
        exploits=_exploits(steps[points[-1].step], steps[0]),
    )


def _point(
    setting: GoodhartSetting, step: int, rows: list[Measured], first: dict[str, float], confidence: float
) -> Point:
    proxy = _estimate([row.proxy for row in rows], rows, setting.confidence)
    strict = _estimate([_passed(row.strict) for row in rows], rows, setting.confidence)
    gaps = _gaps(rows)
    both = sorted(gaps.keys() & first.keys())
    grown = [gaps[name] - first[name] for name in both]
    mean = math.fsum(grown) / len(grown) if grown else None
    return Point(
        step=step,
        kl=math.fsum(row.kl for row in rows) / len(rows),
        proxy=proxy,
        strict=strict,
        gap=None if proxy is None or strict is None else proxy.mean - strict.mean,
        grown=mean if step else None,
        grown_interval=_mean_interval(grown, confidence) if step else None,
        paid_wrongly=sum(map(_paid_wrongly, rows)) / len(rows),
        failed=sum(isinstance(row.proxy, Failure) or isinstance(row.strict, Failure) for row in rows),
    )


def _mean_interval(values: Sequence[float], confidence: float) -> Interval | None:
    n = len(values)
    if n < 2:
        return None
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return mean_t_interval(mean, math.sqrt(variance / n), n - 1, confidence) if variance > 0 else None


def _estimate(
    results: Sequence[Score | Failure | float], rows: Sequence[Measured], confidence: float
) -> RunEstimate | None:
    sums = RunSums()
    for _, group in itertools.groupby(zip(rows, results, strict=True), key=lambda pair: pair[0].id):
        some = [result for _, result in group]
        rewards = [one.reward if isinstance(one, Score) else one for one in some if not isinstance(one, Failure)]
        sums.add_example(rewards, failures=len(some) - len(rewards))
    return estimate_run(sums, confidence, reward_range=None)


def _passed(result: Score | Failure) -> float | Failure:
    return result if isinstance(result, Failure) else float(result.details.outcome is Outcome.CORRECT)


def _gaps(rows: Sequence[Measured]) -> dict[str, float]:
    """Each example's mean of proxy reward minus strict pass, over the draws that both judged."""
    found: dict[str, list[float]] = {}
    for row in rows:
        passed = _passed(row.strict)
        if isinstance(row.proxy, Score) and isinstance(passed, float):
            found.setdefault(row.id, []).append(row.proxy.reward - passed)
    return {name: math.fsum(some) / len(some) for name, some in found.items()}


def _paid_wrongly(row: Measured) -> bool:
    return (
        isinstance(row.proxy, Score)
        and isinstance(row.strict, Score)
        and row.proxy.details.outcome is Outcome.CORRECT
        and row.strict.details.outcome is not Outcome.CORRECT
    )


def _exploits(last: Sequence[Measured], first: Sequence[Measured]) -> list[Exploit]:
    """The strict codes of completions that only the proxy pays, the most frequent first."""

    def codes(rows: Sequence[Measured]) -> Counter[str]:
        return Counter(row.strict.details.code for row in rows if _paid_wrongly(row) and isinstance(row.strict, Score))

    now, then = codes(last), codes(first)
    texts: dict[str, dict[str, None]] = {}
    for row in last:
        if _paid_wrongly(row) and isinstance(row.strict, Score):
            texts.setdefault(row.strict.details.code, {})[row.text] = None
    return [
        Exploit(code, count / len(last), then[code] / len(first), list(texts[code])[:EXPLOITS_SHOWN])
        for code, count in sorted(now.items(), key=lambda item: (-item[1], item[0]))[:EXPLOITS_SHOWN]
    ]


def render_goodhart(result: GoodhartResult) -> str:
    """Return the result as Markdown that also reads well unrendered."""
    setting = result.setting
    lines = [
        f"# Trained on {visible(setting.proxy, 60)}, measured with {visible(setting.strict, 60)}",
        "",
        f"{visible(setting.policy, 80)}, {counted(setting.steps, 'step')} of {setting.prompts} × {setting.group}; every measurement is "
        f"{counted(setting.examples, 'dev example')} × {counted(setting.draws, 'draw')}, judged by both scorers.",
    ]
    for arm in result.arms:
        lines += ["", f"## KL weight β = {arm.beta:g}", "", *_table(arm), "", *_says(arm, setting)]
    return "\n".join(lines) + "\n"


def _table(arm: Arm) -> list[str]:
    rows = [
        (str(point.step), f"{point.kl:z.3f}", _value(point.proxy), _value(point.strict), _number(point.gap, "{:+.4f}"),
         "" if point.grown_interval is None else f"[{point.grown_interval.low:+.4f}, {point.grown_interval.high:+.4f}]",
         f"{point.paid_wrongly:.1%}")
        for point in arm.points
    ]  # fmt: skip
    header = ("step", "KL (nats)", "proxy reward", "strict pass rate", "gap", "gap's growth", "paid wrongly")
    return text_table(header, rows, numbers=(0, 1, 2, 3, 4, 6))


def _says(arm: Arm, setting: GoodhartSetting) -> list[str]:
    last, best = arm.points[-1], next(point for point in arm.points if point.step == arm.best)
    if arm.onset is None:
        lines = ["- The gap did not open: at no step does its growth since the start stay above 0."]
    else:
        lines = [
            f"- **The gap opened** at step {arm.onset}, {arm.onset_kl:.2f} nats from the reference policy, and stayed open."
        ]
    if best.strict is not None and last.strict is not None and best.step != last.step:
        lines.append(
            f"- Early stopping by {visible(setting.strict, 60)} would have kept step {best.step}: {best.strict.mean:.4f} "
            f"instead of {last.strict.mean:.4f}. That choice has seen these examples: confirm it on others."
        )
    for one in arm.exploits:
        shown = " · ".join(f"`{visible(text, 80)}`" for text in one.texts)
        lines.append(
            f"- Paid by {visible(setting.proxy, 60)}, refused by {visible(setting.strict, 60)} as "
            f"{visible(one.code, 60)}: {one.share:.1%} of completions ({one.share_at_start:.1%} at the start): {shown}"
        )
    return lines


def _value(estimate: RunEstimate | None) -> str:
    return "undefined" if estimate is None else f"{estimate.mean:.4f}"


def _number(value: float | None, form: str) -> str:
    return "undefined" if value is None else form.format(value)
