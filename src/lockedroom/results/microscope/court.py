"""What the court found, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from lockedroom.learning.court import Finding, Verdict
from lockedroom.learning.enumeration import BaselineFacts
from lockedroom.learning.estimator import Estimator
from lockedroom.results.text_table import text_table
from lockedroom.visible import visible
from lockedroom.wording import counted

SEVERITY: tuple[Verdict, ...] = ("UNBIASED", "BIASED", "BROKEN")


class Judged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One estimator, or a person's function, and how it did.

    said: what the verdict rests on; for a person's function also the questions of `learning.probes` that it fails.
    beta: weight of KL in the J it is compared with. reasons: what is known to be wrong with an estimator. needs: what it costs beside its arithmetic. milliseconds: CPU time
    of loss and gradient for 64 prompts × 8 completions of at most 8 tokens; None where it could not be run.
    """

    name: str
    verdict: Verdict
    said: str
    beta: float
    findings: tuple[Finding, ...] = ()
    estimator: Estimator | None = None
    shape: str | None = None
    reasons: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    milliseconds: float | None = None


class WorldFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Exact numbers of one world. kl, entropy: nats a completion, means over prompts; pass_at and best_of: by k and n."""

    name: str
    prompts: int
    completions: int
    mean_reward: float
    kl: float
    forward_kl: float
    entropy: float
    pass_at: dict[int, float]
    best_of: dict[int, float]
    baselines: tuple[BaselineFacts, ...]


class Combination(msgspec.Struct, frozen=True, kw_only=True):
    """One of all combinations: its verdict by enumeration, the worst of the worlds, and what is known to be wrong."""

    estimator: Estimator
    verdict: Verdict
    said: str
    reasons: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """True where what `biased` says of it is what enumeration finds."""
        return bool(self.reasons) == (self.verdict != "UNBIASED")


class CourtResult(msgspec.Struct, frozen=True, kw_only=True):
    """asked: what the person named. builtin: rows beside it. combinations: empty unless all were judged."""

    asked: tuple[Judged, ...]
    builtin: tuple[Judged, ...]
    combinations: tuple[Combination, ...]
    worlds: tuple[WorldFacts, ...]
    samples: int
    seed: int
    cpu_seconds: float

    @property
    def found(self) -> bool:
        """True when something asked about is biased or broken, or a known answer was not found again."""
        return any(one.verdict != "UNBIASED" for one in self.asked) or not all(one.agrees for one in self.combinations)


def worst(findings: Sequence[Finding]) -> Finding:
    """Return the finding with the worst verdict; of several, the exact one of the richest world."""
    return max(findings, key=lambda f: (SEVERITY.index(f.verdict), f.exact, f.batches))


def render_court(result: CourtResult) -> str:
    """Return the court's tables as Markdown."""
    lines = []
    if result.asked:
        for one in result.asked:
            lines += [f"{visible(one.name)}: **{one.verdict}**. {_capital(visible(one.said))}.", *_reasons(one), ""]
    lines += _table([*result.asked, *result.builtin])
    lines += ["", *_legend(result), ""]
    if result.combinations:
        lines += [_combined(result), ""]
    lines += _baseline_lines(result.worlds)
    lines += ["", *_world_table(result.worlds), "", f"{result.cpu_seconds:.1f} CPU-s, seed {result.seed}"]
    return "\n".join(lines)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _reasons(one: Judged) -> list[str]:
    return [f"- {visible(said)}" for said in one.reasons]


def _table(judged: Sequence[Judged]) -> list[str]:
    header = ("estimator", "J", "bias", "large world", "cosine", "length", "KL cosine", "noise", "noise of 4", "ms",
              "needs", "verdict", "")  # fmt: skip
    rows = [_row(one) for one in judged]
    return text_table(header, rows, numbers=(1, 2, 3, 4, 5, 6, 7, 8, 9))


def _row(one: Judged) -> tuple[str, ...]:
    shown = {finding.world: finding for finding in one.findings}
    main = worst([f for f in one.findings if f.exact]) if one.findings else None
    if main is not None and main.verdict == "UNBIASED" and "text" in shown:
        main = shown["text"]
    cells = [""] * 7
    if main is not None:
        # What is wrong with a second update is not seen in the large world's first.
        large = shown.get("large") if "reused" not in main.world else None
        drawn = "" if large is None else f"{large.bias_low:.2f} to {large.bias_high:.2f}"
        kl_cosine = "" if main.kl_cosine is None else f"{main.kl_cosine:.4f}"
        noises = ["" if one is None or one.noise is None else f"{one.noise:.2f}" for one in (main, large)]
        cells = [_bias(main.bias), drawn, f"{main.cosine:.4f}", f"{main.scale:.3f}", kl_cosine, *noises]
    cost = "" if one.milliseconds is None else f"{one.milliseconds:.1f}"
    target = "E[R]" if one.beta == 0 else f"E[R] − {one.beta:g}·KL"
    said = one.said if one.verdict != "UNBIASED" else ""
    return (visible(one.name), target, *cells, cost, ", ".join(one.needs), f"**{one.verdict}**", visible(said, 200))


def _bias(bias: float) -> str:
    return f"{bias:.0e}" if bias < 0.001 else f"{bias:.3f}"


def _legend(result: CourtResult) -> list[str]:
    return [
        "bias: ‖E[gradient] − ∇J‖ / ‖∇J‖, exact: every batch of 2 prompts × 2 completions is listed (the worst of bandit, "
        "text world and, for reuse, its second update). cosine, length: of the expected gradient against ∇J. KL cosine: of "
        "the KL term alone.",
        f"large world: the bias's 99.9 % interval from {counted(result.samples, 'drawn batch')} of 3 prompts × 4 completions, which "
        "cannot be listed.",
        "noise: variance of a batch's gradient at length one, over that of REINFORCE with the best constant baseline of each "
        "prompt (b*); noise of 4: the same in the large world. ms: CPU time of loss and gradient for 512 completions of at most 8 tokens.",
    ]


def _combined(result: CourtResult) -> str:
    counts = {verdict: sum(one.verdict == verdict for one in result.combinations) for verdict in SEVERITY}
    wrong = [one for one in result.combinations if not one.agrees]
    text = (
        f"All {counted(len(result.combinations), 'combination')} of baseline, scale, KL, placement and normalisation, by enumeration: "
        + ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    )
    if not wrong:
        return f"{text}. In each, the lab's own reasons say the same."
    return f"{text}. **In {len(wrong)} the lab's own reasons say otherwise**, first: {wrong[0].estimator}: {wrong[0].said}."


def _baseline_lines(worlds: Sequence[WorldFacts]) -> list[str]:
    rows = []
    for world in worlds:
        for prompt, facts in enumerate(world.baselines):
            mean = facts.second_mean / facts.second_none
            rows.append(
                (f"{world.name}, prompt {prompt + 1}", f"{facts.mean_reward:.3f}", f"{facts.best_baseline:.3f}",
                 f"{facts.second_none:.4f}", f"{facts.second_mean:.4f}", f"{facts.second_best:.4f}",
                 f"the mean makes it {mean:.1f} × larger" if mean > 1 else "")
            )  # fmt: skip
    header = ("second moment of one completion's gradient", "mean reward", "b*", "none", "mean", "b*", "")
    return [
        "A baseline lowers the variance only if it is near b* = E[R·‖∇log π‖²] / E[‖∇log π‖²]. With b the second moment is "
        "that of b* plus (b − b*)²·E[‖∇log π‖²]: the mean reward helps if it is nearer to b* than 0 is, and hurts if not.",
        "",
        *text_table(header, rows, numbers=(1, 2, 3, 4, 5)),
    ]


def _world_table(worlds: Sequence[WorldFacts]) -> list[str]:
    header = ("world", "prompts", "completions", "E[R]", "KL(π‖ref)", "KL(ref‖π)", "entropy", "pass@1", "pass@4",
              "best of 4")  # fmt: skip
    rows = [
        (w.name, str(w.prompts), str(w.completions), f"{w.mean_reward:.4f}", f"{w.kl:.4f}", f"{w.forward_kl:.4f}",
         f"{w.entropy:.4f}", f"{w.pass_at[1]:.4f}", f"{w.pass_at[4]:.4f}", f"{w.best_of[4]:.4f}")
        for w in worlds
    ]  # fmt: skip
    return text_table(header, rows, numbers=tuple(range(1, 10)))
