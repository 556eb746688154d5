"""What a learning run amounts to: derived from its steps and from the ordinary runs that measured it, and nothing else.

`sum_up_learning` reads the files of the run folder, so `verify` derives every number again with no model. Differences are
learned − base, paired by dev example; intervals are t over examples. Legend: E examples, K values of k.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from lockedroom.jsonl import read_batches
from lockedroom.learning.estimator import Estimator
from lockedroom.records import Sampling
from lockedroom.results.compare import Against, CompareOptions, compare
from lockedroom.results.comparison.columns import Columns, read_columns
from lockedroom.results.evaluation.exact import EXACT_JSONL, ExactExample
from lockedroom.results.evaluation.inspection import read_summary
from lockedroom.results.evaluation.summary import Summary
from lockedroom.results.learning.metrics import EVALUATIONS, STEPS, Evaluation, StepMetrics
from lockedroom.results.selection.files import SELECTION_JSON
from lockedroom.results.selection.numbers import AtN, Selection
from lockedroom.safeguards import manifest as manifests
from lockedroom.stats.intervals import mean_t_interval
from lockedroom.stats.one_run import RunEstimate
from lockedroom.stats.pass_at_k import pass_at_k, pass_at_k_of_probability
from lockedroom.stats.verdict import Verdict

FORMAT = "lockedroom.learning/1"
LEARNING_JSON, LEARNING_MD = "learning.json", "learning.md"
BASE, LEARNED, GREEDY, VOTE, CONTROL = "base", "learned", "greedy", "vote", "control"
EXACT_KS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for. `exact`: pass@k comes from probabilities, not from counted draws."""

    policy: str
    preset: str
    estimator: Estimator
    biased: tuple[str, ...]
    scorer: str
    dataset: str
    dev: str
    steps: int
    prompts: int
    group: int
    draws: int
    sampling: Sampling
    exact: bool
    controls: tuple[str, ...]
    confidence: float


class Change(msgspec.Struct, frozen=True):
    """A pass rate before and after. The interval is None where no example's rate changed."""

    before: float
    after: float
    difference: float
    low: float | None
    high: float | None
    verdict: Verdict | None = None


class CurveChange(msgspec.Struct, frozen=True):
    """pass@k before and after."""

    k: int
    change: Change


class Attribution(msgspec.Struct, frozen=True):
    """pass@1 = format_share · arithmetic_share: well-formed completions, and right ones among them.

    `format_part` and `arithmetic_part` split log(after / before) into the two; they add up to 1, and are None when
    pass@1 did not change or was 0.
    """

    format_before: float
    format_after: float
    arithmetic_before: float | None
    arithmetic_after: float | None
    format_part: float | None
    arithmetic_part: float | None


class Deployed(msgspec.Struct, frozen=True):
    """A policy with a way of choosing among n draws: what it gets right, and the tokens an example it costs."""

    policy: str
    selector: str
    n: int
    tokens: float | None
    accuracy: float
    low: float | None
    high: float | None


class EqualTokens(msgspec.Struct, frozen=True):
    """Selection against learning. `n`: draws of the base policy at which a perfect selector is as good as one draw of the
    learned one (None: not within the curve). `budget_n`: draws an example that the training tokens would pay for on the
    dev examples; `budget_pass`: base pass@budget_n (None: beyond the curve). `break_even`: examples after which
    training was cheaper than drawing n from the base policy (None: never, or n is 1)."""

    training_tokens: int
    n: int | None
    budget_n: int
    budget_pass: float | None
    break_even: float | None


class ControlArm(msgspec.Struct, frozen=True):
    """The learned policy against a control arm on the same budget: `gain` is learned − control."""

    name: str
    gain: Change
    distinguishable: bool


class LearningSummary(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `runs`: sha256 of the manifest of each run that was measured, by its folder."""

    format: str
    plan: Plan
    completions: int
    tokens: int
    failed: int
    truncated: int
    drift: int
    last: Evaluation
    pass_at_1: Change
    exact_pass_at_1: Change | None
    greedy: Change
    format_errors_before: float
    format_errors_after: float
    attribution: Attribution
    curve: list[CurveChange]
    crossing: int | None
    findings: list[str]
    deployed: list[Deployed]
    equal_tokens: EqualTokens
    controls: list[ControlArm]
    runs: dict[str, str]


def control_run(name: str) -> str:
    """Return the folder of the run that measured a control arm."""
    return f"{CONTROL}-{name}"


def sum_up_learning(run: Path, plan: Plan) -> LearningSummary:
    """Return every number of a finished learning run, from its files. Raises Tampered and NotComparable as `compare`."""
    steps = [step for batch in read_batches(run / STEPS, StepMetrics) for step in batch.rows]
    evaluations = [one for batch in read_batches(run / EVALUATIONS, Evaluation) for one in batch.rows]
    summaries = {name: read_summary(run / name) for name in (BASE, LEARNED)}
    curve = _curve(run, plan)
    main = _compare(run / BASE, run / LEARNED, plan)
    greedy = _compare(run / f"{BASE}-{GREEDY}", run / f"{LEARNED}-{GREEDY}", plan)
    tokens = sum(step.tokens for step in steps)
    pass_at_1 = _changed(main)
    attribution = _attribution(summaries[BASE], summaries[LEARNED])
    deployed = _deployed(run, plan, summaries)
    return LearningSummary(
        format=FORMAT,
        plan=plan,
        completions=sum(step.completions for step in steps),
        tokens=tokens,
        failed=sum(step.failed for step in steps),
        truncated=sum(step.truncated for step in steps),
        drift=sum(step.drift for step in steps),
        last=evaluations[-1],
        pass_at_1=pass_at_1,
        exact_pass_at_1=curve[0].change if plan.exact else None,
        greedy=_changed(greedy),
        format_errors_before=1 - attribution.format_before,
        format_errors_after=1 - attribution.format_after,
        attribution=attribution,
        curve=curve,
        crossing=_crossing(curve),
        findings=_findings(pass_at_1, _changed(greedy), curve, attribution),
        deployed=deployed,
        equal_tokens=equal_tokens(curve, deployed, tokens, summaries[BASE].examples),
        controls=[_control(run, name, plan) for name in plan.controls],
        runs={path.parent.name: _sha256(path) for path in sorted(run.glob(f"*/{manifests.NAME}"))},
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _compare(a: Path, b: Path, plan: Plan, knobs: tuple[str, ...] = ()) -> Against:
    options = CompareOptions(confidence=plan.confidence, knobs=knobs, show=0)
    return compare([a, b], options, labels=[a.name, b.name]).against[0]


def _changed(against: Against) -> Change:
    numbers = against.numbers
    interval = numbers.interval
    return Change(
        numbers.mean_a,
        numbers.mean_b,
        numbers.difference,
        None if interval is None else interval.low,
        None if interval is None else interval.high,
        against.verdict,
    )


def _curve(run: Path, plan: Plan) -> list[CurveChange]:
    """Return pass@k of both policies: from exact probabilities, or without bias from the draws that were judged."""
    before, after = ({k: _pass_at(run / name, plan, k) for k in _ks(plan)} for name in (BASE, LEARNED))
    return [CurveChange(k, _paired(before[k], after[k], plan.confidence)) for k in before]


def _ks(plan: Plan) -> list[int]:
    return list(EXACT_KS) if plan.exact else [k for k in EXACT_KS if k <= plan.draws]


def _pass_at(run: Path, plan: Plan, k: int) -> dict[str, float]:
    """Return pass@k of every example that allows it: one with fewer than k judged draws is left out."""
    if plan.exact:
        rows = [row for batch in read_batches(run / EXACT_JSONL, ExactExample) for row in batch.rows]
        return {row.id: pass_at_k_of_probability(min(1.0, row.accepted), k) for row in rows}
    columns: Columns = read_columns(run, manifests.read_manifest(run))
    scored_E, passed_E = columns.scored.sum(1).tolist(), (columns.passed & columns.scored).sum(1).tolist()
    rows_E = zip(columns.ids, scored_E, passed_E, strict=True)
    return {name: pass_at_k(n, c, k) for name, n, c in rows_E if n >= k}


def _paired(before: dict[str, float], after: dict[str, float], confidence: float) -> Change:
    shared = [name for name in before if name in after]
    m = len(shared)
    if m == 0:
        return Change(0.0, 0.0, 0.0, None, None)
    differences = [after[name] - before[name] for name in shared]
    mean = math.fsum(differences) / m
    variance = math.fsum((one - mean) ** 2 for one in differences) / (m - 1) if m > 1 else 0.0
    error = math.sqrt(variance / m)
    interval = mean_t_interval(mean, error, m - 1, confidence, bounds=(-1.0, 1.0)) if error > 0 else None
    means = [math.fsum(side[name] for name in shared) / m for side in (before, after)]
    return Change(
        means[0],
        means[1],
        mean,
        None if interval is None else interval.low,
        None if interval is None else interval.high,
    )


def _crossing(curve: Sequence[CurveChange]) -> int | None:
    """Return the first k at which the learned policy is behind, having been ahead before; both beyond their intervals."""
    ahead = False
    for point in curve:
        if ahead and _fell(point.change):
            return point.k
        ahead = ahead or _rose(point.change)
    return None


def _attribution(before: Summary, after: Summary) -> Attribution:
    (format_a, right_a), (format_b, right_b) = (_shares(summary) for summary in (before, after))
    pass_a, pass_b = format_a * (right_a or 0.0), format_b * (right_b or 0.0)
    format_part = None
    if pass_a > 0 and pass_b > 0 and pass_a != pass_b:
        format_part = math.log(format_b / format_a) / math.log(pass_b / pass_a)
    return Attribution(
        format_a, format_b, right_a, right_b, format_part, None if format_part is None else 1 - format_part
    )


def _shares(summary: Summary) -> tuple[float, float | None]:
    """Return the share of well-formed completions, and of right ones among them."""
    counts = {outcome: sum(code.count for code in summary.codes if code.outcome.value == outcome)
              for outcome in ("correct", "wrong", "malformed")}  # fmt: skip
    formed = counts["correct"] + counts["wrong"]
    return formed / max(formed + counts["malformed"], 1), counts["correct"] / formed if formed else None


def _findings(pass_1: Change, greedy: Change, curve: Sequence[CurveChange], split: Attribution) -> list[str]:
    """Say in sentences whether it learned or sharpened; every sentence rests on an interval printed beside it."""
    said = []
    if not _rose(pass_1):
        return ["pass@1 did not rise beyond its interval: nothing was learned that this measures"]
    if _rose(greedy):
        said.append("taught: what the policy says with its first choice (greedy) became right more often")
    else:
        said.append("sharpened: pass@1 rose, greedy decoding did not: the right answers were its first choice before")
    if split.format_part is not None and split.arithmetic_part is not None:
        said.append(
            f"of the gain in log pass@1, {split.format_part:.0%} is format and {split.arithmetic_part:.0%} is arithmetic"
        )
    last = curve[-1]
    if _fell(last.change):
        said.append(f"narrowed: pass@{last.k} fell, so some examples that many draws used to solve are out of reach")
    elif _rose(last.change):
        said.append(f"widened: pass@{last.k} rose, so examples were solved that many draws did not solve before")
    else:
        said.append(f"pass@{last.k} did not change beyond its interval: what many draws can solve stayed the same")
    return said


def _rose(change: Change) -> bool:
    return change.low is not None and change.low > 0


def _fell(change: Change) -> bool:
    return change.high is not None and change.high < 0


def _deployed(run: Path, plan: Plan, summaries: dict[str, Summary]) -> list[Deployed]:
    rows = []
    for name in (BASE, LEARNED):
        rate = summaries[name].pass_rate
        tokens = None
        if plan.draws > 1:
            saved = msgspec.json.decode((run / f"{name}-{VOTE}" / SELECTION_JSON).read_bytes(), type=Selection)
            at: AtN = saved.at_n[-1]
            tokens = None if at.tokens is None else at.tokens / at.n
            rows += [_row(name, "majority vote", at, at.accuracy), _row(name, "perfect selector", at, at.ceiling)]
        if rate is not None:
            rows.insert(
                -2 if plan.draws > 1 else len(rows), Deployed(name, "none", 1, tokens, rate.value, rate.low, rate.high)
            )
    return [row for row in rows if row is not None]


def _row(policy: str, selector: str, at: AtN, found: RunEstimate | None) -> Deployed | None:
    if found is None:
        return None
    interval = found.interval
    return Deployed(policy, selector, at.n, at.tokens, found.mean, interval.low if interval else None,
                    interval.high if interval else None)  # fmt: skip


def equal_tokens(
    curve: Sequence[CurveChange], deployed: Sequence[Deployed], training: int, examples: int
) -> EqualTokens:
    target = curve[0].change.after
    n = next((point.k for point in curve if point.change.before >= target), None)
    costs = {row.policy: row.tokens for row in deployed if row.n == 1}
    base, learned = costs.get(BASE), costs.get(LEARNED)
    budget_n = max(1, int(training / (examples * base))) if base else 1
    reached = [point for point in curve if point.k <= budget_n]
    known = (
        reached[-1].change.before if reached and (budget_n <= curve[-1].k or reached[-1].change.before == 1) else None
    )
    saved = 0.0
    if n is not None and n > 1 and base is not None and learned is not None:  # at n = 1 there is nothing to repay
        saved = n * base - learned
    return EqualTokens(training, n, budget_n, known, training / saved if saved > 0 else None)


def _control(run: Path, name: str, plan: Plan) -> ControlArm:
    """Compare with the arm; a control by selection is compared across both knobs, by name."""
    if name == "best-of-n":
        against = _compare(run / f"{BASE}-{VOTE}", run / LEARNED, plan, ("policy", "selection"))
    else:
        against = _compare(run / control_run(name), run / LEARNED, plan, ("policy",))
    gain = _changed(against)
    return ControlArm(name, gain, against.verdict in (Verdict.BETTER, Verdict.WORSE))
