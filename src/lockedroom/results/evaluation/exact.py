"""Exact pass rates: what they are, how they are summed up, and how a sampled estimate stands beside them.

With p_i the exact probability that one completion of example i is accepted, over these m examples: pass@1 = mean p_i,
pass@k = mean 1 − (1 − p_i)^k. A sampled estimate from K draws of the same examples differs from pass@1 by sampling noise
alone, whose standard error is √(Σ p_i(1 − p_i) / K) / m; the interval printed is ± z of that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from lockedroom.results.evaluation.summary import Summary
from lockedroom.stats.intervals import two_sided_z
from lockedroom.stats.pass_at_k import pass_at_k_of_probability
from lockedroom.wording import counted

FORMAT = "lockedroom.exact/1"
EXACT_JSON, EXACT_JSONL = "exact.json", "exact.jsonl"
KS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class ExactExample(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Of one example: the probability of being accepted, and the parts of it that are canonically tokenised and truncated."""

    id: str
    accepted: float
    canonical: float
    truncated: float


class Beside(msgspec.Struct, frozen=True):
    """The sampled pass rate of the same examples, and the interval around it from sampling noise alone."""

    value: float
    low: float
    high: float
    covers: bool
    draws: int


class Exact(msgspec.Struct, frozen=True):
    """`canonical` and `truncated` are means like `pass_at_1`; 1 − canonical/pass_at_1 sits on odd tokenisations."""

    format: str
    confidence: float
    examples: int
    pass_at_1: float
    canonical: float
    truncated: float
    pass_at_k: dict[int, float]
    sampled: Beside | None


def sum_up(rows: Sequence[ExactExample], sampled: float | None, draws: int, confidence: float) -> Exact:
    """Return the exact means, and the sampled pass rate (None: nothing comparable was sampled) beside them."""
    m = len(rows)
    accepted = [min(1.0, row.accepted) for row in rows]  # a sum of float64 probabilities may exceed 1 by rounding
    mean = math.fsum(accepted) / m
    return Exact(
        format=FORMAT,
        confidence=confidence,
        examples=m,
        pass_at_1=mean,
        canonical=math.fsum(row.canonical for row in rows) / m,
        truncated=math.fsum(row.truncated for row in rows) / m,
        pass_at_k={k: math.fsum(pass_at_k_of_probability(p, k) for p in accepted) / m for k in KS},
        sampled=None if sampled is None else _beside(sampled, mean, accepted, draws, confidence),
    )


def sampled_beside(summary: Summary) -> float | None:
    """Return the pass rate that stands beside exact ones: None when some attempts could not be judged."""
    return summary.pass_rate.value if summary.pass_rate is not None and summary.failed == 0 else None


def render_exact(exact: Exact) -> str:
    """Return the exact pass rates as text."""
    odd = 1 - exact.canonical / exact.pass_at_1 if exact.pass_at_1 else 0.0
    lines = [
        f"exact pass@1  {exact.pass_at_1:.6f}   from the policy's own probabilities, over all tokenisations; no sampling",
        f"  of it       {exact.canonical:.6f}   is canonically tokenised ({odd:.3%} of the mass sits on odd tokenisations)",
    ]
    if exact.truncated:
        lines.append(f"  of it       {exact.truncated:.6f}   ends at the token limit")
    if exact.sampled is not None:
        found = exact.sampled
        verdict = "covers the exact value" if found.covers else "DOES NOT COVER the exact value"
        lines.append(
            f"sampled       {found.value:.6f}   {exact.confidence:.0%} interval [{found.low:.6f}, {found.high:.6f}] "
            f"of {counted(found.draws, 'draw')} of these examples {verdict}"
        )
    curve = "  ".join(f"{k}: {value:.4f}" for k, value in exact.pass_at_k.items())
    return "\n".join([*lines, f"exact pass@k  {curve}"]) + "\n"


def _beside(sampled: float, mean: float, accepted: Sequence[float], draws: int, confidence: float) -> Beside:
    error = math.sqrt(math.fsum(p * (1 - p) for p in accepted) / draws) / len(accepted)
    half = two_sided_z(confidence) * error
    # rounding of the probabilities themselves (float32 kernels) must not count as a miss where the noise is nothing
    slack = 1e-6
    return Beside(sampled, sampled - half, sampled + half, abs(sampled - mean) <= half + slack, draws)
