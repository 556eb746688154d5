"""What a selection bought: every number of `selection.json`, from the pool of draws and the picks, and nothing else.

A *pass* is the outcome `correct` of the measuring scorer. Sums are exact, so the numbers do not depend on the order of the
examples. Legend: N draws an example, n of them seen by the selector, c of N passed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import msgspec

from lockedroom.results.selection.exact import ExactCurve, compare_exact
from lockedroom.results.selection.picking import Plan
from lockedroom.results.selection.selectors import NO_PARSER, PROXY, TOLD
from lockedroom.results.selection.sums import Counts, SelectionSums, as_sums, group_sums, share_right
from lockedroom.results.selection.verifier import VerifierModel, mean_over, verifier_of
from lockedroom.stats.intervals import Interval, two_sided_z
from lockedroom.stats.one_run import RunEstimate, estimate_run, variance_within
from lockedroom.stats.pass_at_k import Curve, pass_curve
from lockedroom.stats.selection import (
    best_of_n_kl_binary,
    best_of_n_kl_bound,
    expected_draws,
    verified_accuracy,
    winners_curse,
)
from lockedroom.stats.verified_draws import verified_accuracy_of_draws
from lockedroom.wording import counted

FORMAT = "lockedroom.selection/3"
SHOWN = 5


class Listed(msgspec.Struct, frozen=True):
    """How many, and the ids of the first of them."""

    count: int
    first: list[str]


class Diversity(msgspec.Struct, frozen=True):
    """Means over examples, of all N draws: different texts, different parsed answers, draws from which none is parsed."""

    texts: float
    answers: float
    unparsed: float


class AtN(msgspec.Struct, frozen=True, kw_only=True):
    """The selector with n draws. None stands for undefined or unknown, never for zero.

    `accuracy` is over all subsets of n draws where the selector ranks them, else over `groups` disjoint ones; `ceiling` is a
    perfect selector's, pass@n; `majority` that of a majority vote (maj@n), None where no
    answer is parsed at all; `told` the mean reward of what was picked: a proxy's, where one chose, else the measuring scorer's.
    `unjudged` picks could not be judged and are in no accuracy: over all picks it lies between `lowest` (they are wrong) and
    `highest` (they are right). `stopped` is the mean number of draws when drawing stops at the first that the scorer that is
    followed (without one: the measuring one) passes, counted on the groups, and `stopped_law` is (1 − (1−p)^n)/p, at exact p
    where known, else estimated without bias from all N draws. Tokens are per example; `tokens_per_solved` and
    `draws_per_solved` are what each further solved example cost, relative to one draw. `kl_bound` is in nats, see
    `selection_kl`; `kl_binary` is the pass/fail part, at exact p where known, else at p = c/N.
    """

    n: int
    groups: int
    accuracy: RunEstimate | None
    ceiling: RunEstimate | None
    majority: RunEstimate | None
    told: RunEstimate | None
    unjudged: int
    lowest: float | None
    highest: float | None
    stopped: float
    stopped_law: float
    tokens: float | None
    tokens_stopped: float | None
    tokens_per_solved: float | None
    draws_per_solved: float | None
    kl_bound: float
    kl_binary: float | None
    predicted: float | None


class Confirmed(msgspec.Struct, frozen=True):
    """The n with the best measured accuracy of `candidates`, measured again on draws that had no part in choosing it.

    `expected_inflation` is SE·e_M, the mean excess of the best of M *independent* equals: an upper guide here, because
    the candidates share draws. `drop_interval` is that of measured − fresh, from sampling noise of both.
    """

    n: int
    candidates: int
    measured: float | None
    expected_inflation: float | None
    fresh: RunEstimate | None
    fresh_draws: int
    drop: float | None
    drop_interval: Interval | None


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `known_p` says whether p is exact in what depends on it."""

    format: str
    plan: Plan
    source_run_id: str
    examples: int
    draws: int
    failed: int
    examples_without_score: int
    pass_at_k: Curve | None
    pass_hat_k: Curve | None
    at_n: list[AtN]
    rescued: Listed
    lost: Listed
    diversity: Diversity
    known_p: bool
    exact: ExactCurve | None
    verifier: VerifierModel | None
    confirmed: Confirmed | None
    notes: list[str]


def finish(
    sums: SelectionSums,
    *,
    source_run_id: str,
    exact: Mapping[str, float] | None = None,
    confirmed: Confirmed | None = None,
) -> Selection:
    """Return every number; `exact` holds the exact pass probability of each example, where it is known."""
    plan = sums.plan
    judged = [(n, c) for n, c in sums.ps.values() if n]
    curves: list[Curve | None] = [None, None]
    if judged:
        draws, passes = [n for n, _ in judged], [c for _, c in judged]
        curves = [
            pass_curve(draws, passes, metric=metric, unequal=plan.unequal, confidence=plan.confidence,
                       resamples=plan.resamples, seed=plan.seed)
            for metric in ("pass@k", "pass^k")
        ]  # fmt: skip
    ps = _probabilities(sums, exact)
    verifier = verifier_of(plan, sums.confusion, ps)
    at_n = [_at_n(sums, index, ps, verifier, known=exact is not None) for index in range(len(plan.ns))]
    return Selection(
        format=FORMAT,
        plan=plan,
        source_run_id=source_run_id,
        examples=sums.examples,
        draws=sums.draws,
        failed=sums.failed,
        examples_without_score=len(sums.ps) - len(judged),
        pass_at_k=curves[0],
        pass_hat_k=curves[1],
        at_n=at_n,
        rescued=Listed(len(sums.rescued), sums.rescued[:SHOWN]),
        lost=Listed(len(sums.lost), sums.lost[:SHOWN]),
        diversity=Diversity(
            sums.texts / sums.examples, sums.answers / sums.examples, sums.unparsed / sums.examples / sums.draws
        ),
        known_p=exact is not None,
        exact=None
        if exact is None or sums.failed
        else compare_exact([exact[i] for i in sorted(exact)], curves[0], plan, sums.draws),
        verifier=verifier,
        confirmed=confirmed,
        notes=_notes(sums, curves[0]),
    )


def best_at(sums: SelectionSums) -> int:
    """Return the place in `plan.ns` of the n with the best measured accuracy, the smaller of equals."""
    found = [estimate_run(as_sums(counts.accuracy)) for counts in sums.counts]
    return max(range(len(found)), key=lambda i: (-1.0 if (one := found[i]) is None else one.mean, -i))


def confirm(sums: SelectionSums, fresh: SelectionSums) -> Confirmed:
    """Measure the best n of `sums` by fresh draws. The plan of `fresh` has that n alone."""
    at = best_at(sums)
    confidence = sums.plan.confidence
    measured = estimate_run(as_sums(sums.counts[at].accuracy), confidence)
    again = estimate_run(as_sums(fresh.counts[0].accuracy), confidence)
    inflation = drop = interval = None
    if measured is not None and measured.standard_error is not None:
        inflation = winners_curse(measured.standard_error, len(sums.plan.ns))
    if measured is not None and again is not None:
        drop = measured.mean - again.mean
        noise = _noise(sums.counts[at], measured), _noise(fresh.counts[0], again)
        if noise[0] is not None and noise[1] is not None:
            half = two_sided_z(confidence) * math.hypot(noise[0], noise[1])
            interval = Interval(drop - half, drop + half, confidence, "normal, sampling noise of the same examples")
    return Confirmed(
        n=sums.plan.ns[at],
        candidates=len(sums.plan.ns),
        measured=None if measured is None else measured.mean,
        expected_inflation=inflation,
        fresh=again,
        fresh_draws=fresh.draws,
        drop=drop,
        drop_interval=interval,
    )


def selection_kl(selector: str, n: int) -> float:
    """An upper bound, in nats, on KL(selected ‖ policy).

    Picking one of n draws gives nothing more than n times its probability, so ln n bounds every selector; one that ranks
    completions by a fixed order, as all but the votes do, is bounded by ln n − (n−1)/n (Beirami et al. 2024). `first` and
    `random` change nothing.
    """
    if selector in ("first", "random"):
        return 0.0
    ranks = selector in (*TOLD, "logprob", "mean-logprob") or selector.startswith(PROXY)
    return best_of_n_kl_bound(n) if ranks else math.log(n)


def _noise(counts: Counts, found: RunEstimate) -> float | None:
    """The standard error from drawing alone, for these examples: √(σ²_within/(m·groups)); None with one group.

    It is that of a mean over disjoint groups, which the mean over all subsets does not exceed.
    """
    within = variance_within(group_sums(counts.picked))
    if counts.groups < 2 or within is None:
        return None
    return math.sqrt(within / (found.examples * counts.groups))


def _probabilities(sums: SelectionSums, exact: Mapping[str, float] | None) -> Counter[float]:
    """p of the examples with a judged draw: the exact ones, or c/N."""
    if exact is not None:
        return Counter(min(1.0, exact[name]) for name, (n, _) in sums.ps.items() if n)
    return Counter(c / n for n, c in sums.ps.values() if n)


def _at_n(sums: SelectionSums, index: int, ps: Counter[float], verifier: VerifierModel | None, *, known: bool) -> AtN:
    plan, counts, n = sums.plan, sums.counts[index], sums.plan.ns[index]
    trials = sums.examples * counts.groups
    accuracy = estimate_run(as_sums(counts.accuracy), plan.confidence)
    gain = _gain(sums, accuracy, n)
    proxy = plan.selector.startswith(PROXY)
    tokens = counts.tokens / trials if sums.tokens_known else None
    binary = None
    if plan.selector == "rejection-sampling" or (plan.selector == "best-of-n" and not counts.graded):
        binary = mean_over(ps, lambda p: best_of_n_kl_binary(p, n))
    predicted = None
    if verifier is not None:
        t, f = 1 - verifier.false_negative_rate, verifier.false_positive_rate
        predicted = mean_over(ps, lambda p: verified_accuracy(p, t, f, n)) if known else _predicted(sums, t, f, n)
    return AtN(
        n=n,
        groups=counts.groups,
        accuracy=accuracy,
        ceiling=estimate_run(as_sums(counts.ceiling), plan.confidence),
        majority=estimate_run(as_sums(counts.majority), plan.confidence) if sums.answers else None,
        told=estimate_run(counts.told(), plan.confidence, reward_range=None),
        unjudged=counts.unjudged,
        lowest=share_right(counts.accuracy, sums.examples, unjudged=False) if counts.unjudged else None,
        highest=share_right(counts.accuracy, sums.examples, unjudged=True) if counts.unjudged else None,
        stopped=counts.stopped / trials,
        stopped_law=mean_over(ps, lambda p: expected_draws(p, n)) if known and not proxy else _estimated_law(sums, n),
        tokens=tokens,
        tokens_stopped=counts.tokens_stopped / trials if sums.tokens_known else None,
        tokens_per_solved=None if tokens is None or gain is None else tokens * (n - 1) / n / gain,
        draws_per_solved=None if gain is None else (n - 1) / gain,
        kl_bound=selection_kl(plan.selector, n),
        kl_binary=binary,
        predicted=predicted,
    )


def _estimated_law(sums: SelectionSums, n: int) -> float:
    """(1 − (1−p)^n)/p = Σ (1−p)^k over k < n, each term estimated without bias by C(N−c, k)/C(N, k)."""
    parts = []
    for c, times in sums.told_passes.items():
        term, total = 1.0, 0.0
        for k in range(n):
            total += term
            term *= max(sums.draws - c - k, 0) / (sums.draws - k)
        parts.append(total * times)
    return math.fsum(sorted(parts)) / sums.examples


def _predicted(sums: SelectionSums, t: float, f: float, n: int) -> float | None:
    """The mean over examples with at least n judged draws; None where there is none."""
    pairs = Counter(pair for pair in sums.ps.values() if pair[0] >= n)
    if not pairs:
        return None
    total = math.fsum(
        times * verified_accuracy_of_draws(scored, c, t, f, [n])[0] for (scored, c), times in pairs.items()
    )
    return total / pairs.total()


def _gain(sums: SelectionSums, accuracy: RunEstimate | None, n: int) -> float | None:
    """How many examples more n draws solve than one draw does, as a share; None where it is no gain."""
    drawn = sum(scored for scored, _ in sums.ps.values())
    if accuracy is None or n == 1 or not drawn:
        return None
    gain = accuracy.mean - _mean_pass(sums)
    return gain if gain > 0 else None


def _mean_pass(sums: SelectionSums) -> float:
    rates = [c / n for n, c in sums.ps.values() if n]
    return math.fsum(rates) / len(rates)


def _notes(sums: SelectionSums, curve: Curve | None) -> list[str]:
    notes = []
    left = [n for n in sums.plan.ns if sums.draws % n]
    if left:
        notes.append(
            f"{counted(sums.draws, 'draw does', 'draws do')} not divide into groups of {', '.join(map(str, left))}: the draws left over are in no "
            "group there"
        )
    if sums.failed:
        notes.append(
            f"{sums.failed:,} of {counted(sums.examples * sums.draws, 'draw')} could not be judged: they are in no estimate; a "
            "selector that sees verdicts takes one only where nothing else was judged"
        )
    silent = sum(not scored for scored, _ in sums.ps.values())
    if silent:
        notes.append(
            f"{silent:,} of {counted(sums.examples, 'example has', 'examples have')} no judged draw: they are in no curve and no accuracy"
        )
    if sums.proxy_failed:
        notes.append(
            f"the proxy could not judge {counted(sums.proxy_failed, 'draw')}: it takes one only where it judged nothing else"
        )
    if curve is not None and curve.unequal_draws is not None:
        notes.append(
            f"examples have between {curve.draws_min} and {counted(curve.draws_max, 'judged draw')}: the curves stop at "
            f"k = {curve.draws_min} (the common minimum), and each example keeps all its draws"
        )
    if not sums.answers and sums.plan.parse != NO_PARSER:
        notes.append(
            f"{sums.plan.parse} parses no answer from any draw, so there is nothing to vote on: --parse names what reads them"
        )
    if not sums.tokens_known:
        notes.append("tokens are unknown: not every completion has token ids")
    return notes
