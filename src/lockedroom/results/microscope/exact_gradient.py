"""What the court found on a real policy, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from lockedroom.learning.estimator import Estimator
from lockedroom.learning.exact_gradient import GradientFinding
from lockedroom.records import PolicySpec
from lockedroom.results.text_table import text_table
from lockedroom.visible import visible
from lockedroom.wording import counted


class JudgedGradient(msgspec.Struct, frozen=True, kw_only=True):
    """One estimator on a real policy. `estimator` is what was judged, `changed` how it differs from what was named.

    reasons: what the lab knows to be wrong with it. noise: variance of a batch's gradient at length one, over that of
    REINFORCE on the same completions; None where its length cannot be told from 0.
    """

    name: str
    estimator: Estimator
    changed: tuple[str, ...]
    reasons: tuple[str, ...]
    finding: GradientFinding
    noise: float | None


class ExactGradientResult(msgspec.Struct, frozen=True, kw_only=True):
    """asked: what the person named; builtin: rows beside it.

    objective: J, the mean exact pass probability of the examples. gradient_norm: ‖∇J‖. sequences: token sequences that
    were summed. disagreement: largest difference, over examples, between that sum and the policy's own
    `completion_probabilities`.
    """

    policy: PolicySpec
    dataset: str
    scorer: str
    examples: tuple[str, ...]
    parameters: int
    group: int
    batches: int
    max_tokens: int
    seed: int
    objective: float
    gradient_norm: float
    sequences: int
    disagreement: float
    asked: tuple[JudgedGradient, ...]
    builtin: tuple[JudgedGradient, ...]
    cpu_seconds: float

    @property
    def found(self) -> bool:
        """True when something asked about is not unbiased, or a built-in row is although nothing is known against it."""
        named = any(one.finding.verdict != "UNBIASED" for one in self.asked)
        return named or any(one.finding.verdict != "UNBIASED" and not one.reasons for one in self.builtin)


def render_exact_gradient(result: ExactGradientResult) -> str:
    """Return the court's table on a real policy as Markdown."""
    lines = [
        f"{visible(result.policy.name, 80)} ({counted(result.parameters, 'parameter')}), {counted(len(result.examples), 'example')} of "
        f"{visible(result.dataset, 120)}, scorer {result.scorer}",
        f"exact J = {result.objective:.6f}, ‖∇J‖ = {result.gradient_norm:.4f}: the sum of {counted(result.sequences, 'token sequence')}, "
        f"all that the scorer pays (at most {result.disagreement:.0e} from the probabilities of evaluate --exact)",
        "",
    ]
    for one in result.asked:
        lines += [
            f"{visible(one.name)}: **{one.finding.verdict}**. {one.finding.said[:1].upper()}{one.finding.said[1:]}."
        ]
        lines += [*(f"- {reason}" for reason in one.reasons), ""]
    lines += [
        *_table([*result.asked, *result.builtin]),
        "",
        *_legend(result),
        "",
        f"{result.cpu_seconds:.1f} CPU-s, seed {result.seed}",
    ]
    return "\n".join(lines)


def _table(rows: Sequence[JudgedGradient]) -> list[str]:
    header = ("estimator", "bias", "length", "cosine", "if noise alone", "one batch", "noise", "verdict", "", "judged")
    cells = []
    for one in rows:
        found = one.finding
        cells.append(
            (
                visible(one.name),
                f"{found.bias_low:.2f} to {found.bias_high:.2f}",
                f"{found.length:.3f} ± {(found.length_high - found.length_low) / 2:.3f}",
                f"{found.cosine:.3f}",
                f"{found.cosine_of_noise:.3f}",
                f"{found.cosine_single:.3f}",
                "" if one.noise is None else f"{one.noise:.2f}",
                f"**{found.verdict}**",
                _said(one),
                ", ".join(one.changed) or "as named",
            )
        )
    return text_table(header, cells, numbers=(1, 2, 3, 4, 5, 6))


def _said(one: JudgedGradient) -> str:
    if one.finding.verdict != "UNBIASED":
        return one.finding.said
    return "what is known against it is too small to be told from noise here" if one.reasons else ""


def _legend(result: ExactGradientResult) -> list[str]:
    return [
        f"{counted(result.batches, 'batch')} of the same {counted(len(result.examples), 'example')} × {counted(result.group, 'completion')}, through the trainer's own "
        "update. bias: ‖E[gradient] − ∇J‖ / ‖∇J‖; length: of E[gradient] along ∇J; both with 99.9 % intervals.",
        "cosine: of the mean of all batches with ∇J; if noise alone: what a gradient exactly along ∇J would show with that much "
        "noise; one batch: mean cosine of single batches. noise: variance at length one, over that of REINFORCE.",
        "KL terms are left out: the exact KL of a language model sums over all completions, which nobody can list. "
        "lockedroom court without --policy judges them where it can be listed.",
    ]
