"""Reward against KL and against tokens for finished learning runs: where they stand, best-of-n beside them, the best possible.

Everything is exact on the dev examples that a run's evaluations read: pass probabilities are summed, not sampled, and KL comes
from whole distributions. Nothing here needs a model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from lockedroom.errors import BadInput, NotComparable
from lockedroom.jsonl import read_batches
from lockedroom.records import Record
from lockedroom.results.evaluation.exact import EXACT_JSONL, ExactExample
from lockedroom.results.learning.check import verify_learning
from lockedroom.results.learning.metrics import EVALUATIONS, Evaluation
from lockedroom.results.learning.summary import BASE, LEARNED, LEARNING_JSON, LearningSummary
from lockedroom.results.microscope.frontier import CurvePoint
from lockedroom.results.run_folder import RECORDS
from lockedroom.results.text_table import text_table
from lockedroom.safeguards.manifest import Manifest, read_manifest
from lockedroom.stats.frontier import optimum, reward_at_kl
from lockedroom.stats.pass_at_k import pass_at_k_of_probability
from lockedroom.stats.selection import best_of_n_kl_binary, best_of_n_kl_bound
from lockedroom.visible import visible
from lockedroom.wording import counted

FORMAT = "lockedroom.run-frontier/1"
NS = (1, 2, 4, 8, 16, 32, 64)
CURVE = [math.exp(5.0 - 0.12 * i) for i in range(85)]  # β from 148 to 0.006


class Stage(msgspec.Struct, frozen=True):
    """The policy after so many steps: exact pass@1 and exact KL."""

    step: int
    reward: float
    kl: float


class RunPlace(msgspec.Struct, frozen=True):
    """A learned policy. tokens: of one answer. best: what the best policy of the same KL would pass. repaid: answers after
    which its training tokens are repaid, against the smallest best-of-n that passes as much (None: no n tried does)."""

    run: str
    kl_term: str
    beta: float
    reward: float
    best: float
    kl: float
    tokens: float
    training_tokens: int
    repaid: float | None
    course: list[Stage]


class BestOfN(msgspec.Struct, frozen=True):
    """The best of n draws of the base policy by a perfect verifier: exact, with the bound on its KL."""

    n: int
    reward: float
    best: float
    kl: float
    kl_bound: float
    tokens: float


class RunFrontier(msgspec.Struct, frozen=True):
    """Everything the table and the figure show."""

    format: str
    policy: str
    dev: str
    examples: int
    runs: list[RunPlace]
    best_of_n: list[BestOfN]
    curve: list[CurvePoint]
    ceiling: float


def place_runs(paths: Sequence[Path], ns: Sequence[int] = NS) -> RunFrontier:
    """Place learning runs that began at one policy and were measured in one room.

    Raises BadInput for what is no learning run with exact pass@1, Tampered for one that does not verify, and NotComparable
    naming what differs.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise BadInput("--runs: a run stands there twice; name each once")
    for path in paths:
        verify_learning(path)
    return place_read(paths, ns)


def place_read(paths: Sequence[Path], ns: Sequence[int] = NS) -> RunFrontier:
    """The same of runs that were verified."""
    found = []
    for path in paths:
        summary = msgspec.json.decode((path / LEARNING_JSON).read_bytes(), type=LearningSummary)
        if not summary.plan.exact:
            raise BadInput(
                f"{path}: its pass@1 was counted, not computed; a frontier needs exact numbers (a tiny policy, final-int)"
            )
        found.append((path, summary, read_manifest(path / BASE)))
    _refuse_other_rooms([(path, manifest) for path, _, manifest in found])
    _, first, _ = found[0]
    examples = min(summary.last.scored + summary.last.failed for _, summary, _ in found)
    rates = _rates(found[0][0] / BASE, examples)
    best = [_best_of(rates, n, _tokens(found[0][0] / BASE)) for n in ns]
    return RunFrontier(
        FORMAT,
        first.plan.policy,
        first.plan.dev,
        examples,
        [_place(path, summary, rates, best) for path, summary, _ in found],
        best,
        [CurvePoint(beta, *msgspec.structs.astuple(optimum(rates, beta))) for beta in CURVE],
        sum(rate > 0 for rate in rates) / len(rates),
    )


def _refuse_other_rooms(runs: Sequence[tuple[Path, Manifest]]) -> None:
    (first, a), *others = runs
    for path, b in others:
        differing = [name for name in a.room.__struct_fields__ if getattr(a.room, name) != getattr(b.room, name)]
        differing += ["policy"] if a.policy != b.policy else []
        if differing:
            raise NotComparable(
                f"{first} and {path} cannot stand on one chart: their base runs differ in {', '.join(differing)}; learn both "
                "from one policy and measure them on one dev file with the same sampling"
            )


def _rates(run: Path, examples: int) -> list[float]:
    rows = [row for batch in read_batches(run / EXACT_JSONL, ExactExample) for row in batch.rows]
    return [min(1.0, row.accepted) for row in rows[:examples]]


def _tokens(run: Path) -> float:
    """Return the mean length of a completion, in tokens with its end."""
    lengths = [
        len(record.completion.token_ids or ())
        for batch in read_batches(run / RECORDS, Record)
        for record in batch.rows
        if record.completion is not None
    ]
    return sum(lengths) / max(len(lengths), 1)


def _best_of(rates: Sequence[float], n: int, tokens: float) -> BestOfN:
    kl = math.fsum(best_of_n_kl_binary(rate, n) for rate in rates) / len(rates)
    reward = math.fsum(pass_at_k_of_probability(rate, n) for rate in rates) / len(rates)
    return BestOfN(n, reward, reward_at_kl(rates, kl), kl, best_of_n_kl_bound(n), n * tokens)


def _place(path: Path, summary: LearningSummary, rates: Sequence[float], best: Sequence[BestOfN]) -> RunPlace:
    evaluations = [one for batch in read_batches(path / EVALUATIONS, Evaluation) for one in batch.rows]
    course = [Stage(one.step, one.exact_pass_at_1 or 0.0, one.kl_exact) for one in evaluations]
    last, tokens, e = course[-1], _tokens(path / LEARNED), summary.plan.estimator
    as_good = [one for one in best if one.n > 1 and one.reward >= last.reward]
    saved = as_good[0].tokens - tokens if as_good else 0.0
    return RunPlace(
        path.name, e.kl, e.beta, last.reward, reward_at_kl(rates, last.kl), last.kl, tokens, summary.tokens,
        summary.tokens / saved if saved > 0 else None, course,
    )  # fmt: skip


def render_run_frontier(result: RunFrontier) -> str:
    """Return the frontier as two tables of text."""
    lines = [
        f"Learned from {visible(result.policy, 80)}, measured on {counted(result.examples, 'example')} of {visible(result.dev, 120)}; exact: "
        "pass@1 and KL (nats a completion).",
        "",
    ]
    rows = [
        (visible(one.run, 40), "none" if one.kl_term == "none" else f"{one.beta:g}", f"{one.reward:.4f}", f"{one.best:.4f}",
         f"{one.kl:z.3f}", f"{one.tokens:.1f}", f"{one.training_tokens:,}", "–" if one.repaid is None else f"{one.repaid:,.0f}")
        for one in result.runs
    ]  # fmt: skip
    header = ("run", "β", "pass@1", "best at this KL", "KL", "tokens an answer", "training tokens", "answers to repay")
    lines += text_table(header, rows, numbers=range(1, len(header)))
    lines += ["", "Best of n draws of the base policy, by a perfect verifier (nothing is learned; every answer costs n times the tokens):"]  # fmt: skip
    of_n = [
        (str(one.n), f"{one.reward:.4f}", f"{one.best:.4f}", f"{one.kl:z.3f}", f"{one.kl_bound:z.3f}", f"{one.tokens:.1f}")
        for one in result.best_of_n
    ]  # fmt: skip
    header_n = ("n", "pass@1", "best at this KL", "KL", "ln n − (n−1)/n", "tokens an answer")
    lines += text_table(header_n, of_n, numbers=range(len(header_n)))
    lines += [
        "",
        "best at this KL: the closed form π* ∝ π_ref·exp(R/β), from every example's pass probability. Learning moves more than "
        "the verdict (which right line is written, and in what style), so it spends more KL than the least.",
    ]
    return "\n".join(lines)
