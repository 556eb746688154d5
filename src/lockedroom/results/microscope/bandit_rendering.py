"""The microscope's findings as text: the run in a few lines, or slowly, draw by draw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lockedroom.results.microscope.bandit import BanditResult, BaselineTable, DrawLine, StepLine
from lockedroom.results.text_table import text_table
from lockedroom.wording import counted

SHOWN_COLUMNS = 8


def render_bandit(result: BanditResult, steps: Sequence[StepLine]) -> str:
    """Return the run's course, the comparison of baselines, and what is wrong."""
    return "\n".join([_head(result), "", *_course(result, steps), "", *_compared(result.baselines), *_troubles(result)])


def render_slowly(result: BanditResult, draws: Sequence[DrawLine], steps: Sequence[StepLine], count: int) -> str:
    """Return the first `count` updates, each with every draw: what it earned, what it was told, what moved and why."""
    lines = [_head(result), ""]
    before_CY = result.start_CY
    for step in steps[:count]:
        of_step = [draw for draw in draws if draw.step == step.step]
        lines += _slow_step(result, of_step, step, before_CY)
        before_CY = step.probabilities_CY
    return "\n".join([*lines[:-1], *_troubles(result)])


def _head(result: BanditResult) -> str:
    s = result.setting
    drawn = f"{counted(s.draws, 'draw')} × {counted(s.rounds, 'round')} an update"
    more = [f"sabotage: {s.sabotage}"] if s.sabotage != "none" else []
    more += [f"credit to the {s.credit} step only"] if s.credit != "both" else []
    return "\n".join([
        f"{s.world}: {result.about}",
        ", ".join([f"baseline {s.baseline}", drawn, f"{counted(s.steps, 'update')}", f"rate {s.learning_rate:g}", f"seed {s.seed}", *more]),
    ])  # fmt: skip


def _course(result: BanditResult, steps: Sequence[StepLine]) -> list[str]:
    named = [f"{context} {text}" if len(result.contexts) > 1 else text
             for context in result.contexts for text in result.texts]  # fmt: skip
    shown = len(named) <= SHOWN_COLUMNS
    header = ["update", "E[R]", "entropy", "‖∇J‖", "cosine", *(f"π({name})" for name in named if shown)]
    rows = [["0", _share(result.start), "", "", "", *_flat(result.start_CY, shown)]]
    for count in _logarithmic(len(steps)):
        step = steps[count - 1]
        cosine = "–" if step.cosine is None else f"{step.cosine:+.2f}"
        rows.append([str(count), _share(step.expected_reward), f"{abs(step.entropy):.3f}", f"{step.gradient_norm:.3f}", cosine,
                     *_flat(step.probabilities_CY, shown)])  # fmt: skip
    table = text_table(header, rows, numbers=range(len(header)))
    end = f"E[R] {_share(result.start)} → {_share(result.final)}; the best that any policy can do is {_share(result.ceiling)}"
    if len(result.contexts) > 1:
        end += f", of one that does not read its prompt {_share(result.blind_ceiling)}"
    if result.setting.credit != "both":
        end += f", of one that may change this step only {_share(result.reachable)}"
    return [*table, "", end + "."]


def _compared(table: BaselineTable) -> list[str]:
    rows = []
    for row in table.rows:
        m = row.measured
        rows.append((
            row.baseline,
            "–" if row.share is None else f"{row.share:.3f}",
            "–" if row.variance is None else f"{row.variance:.5f}",
            "–" if row.ratio is None else f"{row.ratio:.2f}",
            "" if m is None else f"{m.share:.2f} ± {m.share_error:.2f}",
            "" if m is None else f"{m.variance:.5f} ± {m.variance_error:.5f}",
            row.about,
        ))  # fmt: skip
    header = (
        "baseline",
        "share of ∇J",
        "variance",
        "× none",
        "measured share",
        "measured variance",
        "what is subtracted",
    )
    lines = [
        f"The gradient that learning starts with, from {counted(table.draws, 'draw')} of one round (exact, and by the learner itself):"
    ]
    lines += text_table(header, rows, numbers=(1, 2, 3, 4, 5))
    b, mean = table.optimal, table.expected_reward
    lines += [
        "",
        f"Least variance at b* = E[R·‖∇log π‖²]/E[‖∇log π‖²] = {b:.4f}; a constant b costs (b − b*)²·{table.mean_squared_score:.4f} more.",
        f"One draw: variance {table.one_none:.5f} with no baseline, {table.one_mean:.5f} with the mean reward {mean:.3f}, "
        f"{table.one_optimal:.5f} with b*.",
    ]
    if table.mean_helps:
        return [*lines, f"The mean helps here, because it lies between 0 and 2·b* = {2 * b:.4f}."]
    worse = (
        f"{table.one_mean / table.one_none:.1f} times the variance of no baseline" if table.one_none > 0 else "variance"
    )
    return [
        *lines,
        f"The mean makes it WORSE here: {worse}, because {mean:.3f} is more than 2·b* = {2 * b:.4f}. What is rewarded is",
        "probable already, so its ∇log π is short; subtracting the mean puts weight on rare failures, whose ∇log π is long.",
    ]


def _troubles(result: BanditResult) -> list[str]:
    return ["", "The lab's findings:", *(f"  ✗ {finding}" for finding in result.findings)] if result.findings else []


def _slow_step(
    result: BanditResult, draws: Sequence[DrawLine], step: StepLine, before_CY: Sequence[Sequence[float]]
) -> list[str]:
    lines = [f"update {step.step + 1}"]
    for draw in draws:
        probability_Y = before_CY[result.contexts.index(draw.context)]
        lines += [
            f"  {draw.context}: drew {draw.text} (probability {_share(draw.probability)}), reward {_pay(draw.reward)}"
        ]
        for t, (prefix, weights) in enumerate(score_terms(result.texts, probability_Y, draw.text)):
            lines += _slow_term(result, draw, t, prefix, weights)
    for context, before_Y, after_Y in zip(result.contexts, before_CY, step.probabilities_CY, strict=True):
        if any(draw.context == context for draw in draws):
            moved = "   ".join(
                f"{text} {_share(before)} → {_share(after)} {_arrow(before, after)}"
                for text, before, after in zip(result.texts, before_Y, after_Y, strict=True)
            )
            lines.append(f"    probability    {moved}")
    lines += list(_contradictions(result, draws, step, before_CY))
    return [*lines, ""]


def _slow_term(
    result: BanditResult, draw: DrawLine, t: int, prefix: str, weights: Sequence[tuple[str, float]]
) -> list[str]:
    baseline, advantage = draw.baselines[t], draw.advantages[t]
    chosen = draw.text[len(prefix) : len(prefix) + len(weights[0][0])]
    asked = {1: f"better than expected: {chosen} should become more probable",
             -1: f"worse than expected: {chosen} should become less probable",
             0: "as expected: nothing to learn"}[(advantage > 0) - (advantage < 0)]  # fmt: skip
    of_step = f"step {t + 1}: " if len(draw.text) > len(weights[0][0]) else ""
    after = f"{chosen}|{prefix}" if prefix else chosen
    n = result.setting.draws * result.setting.rounds
    rate = result.setting.learning_rate * (100 if result.setting.sabotage == "learning-rate" else 1)
    told = credited(result, t)
    gradient = "   ".join(f"{action} {_signed(weight)}" for action, weight in weights)
    moves = "   ".join(f"{action} {_signed(told * rate * advantage * weight / n)}" for action, weight in weights)
    share = f" / {counted(n, 'draw')}" if n > 1 else ""
    sign = " × −1" if told < 0 else (" × 0, no credit" if told == 0 else "")
    return [
        f"    {of_step}advantage {_pay(draw.reward)} − {baseline:.3f} = {_signed(advantage)}, {asked}",
        f"    ∇log π({after})    {gradient}   (1 − π for the one drawn, −π for the others)",
        f"    logits move    {moves}   (rate {rate:g} × advantage × ∇log π{share}{sign})",
    ]


def credited(result: BanditResult, t: int) -> float:
    """Return what the gradient of step t was multiplied by."""
    silent = {"both": None, "first": 1, "second": 0}[result.setting.credit]
    return 0.0 if t == silent else (-1.0 if result.setting.sabotage == "sign" else 1.0)


def _contradictions(
    result: BanditResult, draws: Sequence[DrawLine], step: StepLine, before_CY: Sequence[Sequence[float]]
) -> Iterator[str]:
    """Where one draw alone decides, what it asked for and what happened must agree."""
    if len(draws) != 1:
        return
    draw = draws[0]
    c, y = result.contexts.index(draw.context), result.texts.index(draw.text)
    change = step.probabilities_CY[c][y] - before_CY[c][y]
    if draw.advantages[0] * change < 0:
        yield f"    ✗ {draw.text} was told {'up' if draw.advantages[0] > 0 else 'down'} and went the other way"


def score_terms(
    texts: Sequence[str], probability_Y: Sequence[float], text: str
) -> list[tuple[str, list[tuple[str, float]]]]:
    """Return, for each step of a completion, what came before and ∂ log π / ∂ logit of every action: 1[drawn] − π.

    Texts are all completions, of actions of one character.
    """
    terms = []
    for t in range(len(text)):
        prefix = text[:t]
        actions = sorted({one[t] for one in texts})
        mass = {
            a: sum(p for one, p in zip(texts, probability_Y, strict=True) if one.startswith(prefix + a))
            for a in actions
        }
        whole = sum(mass.values())
        terms.append((prefix, [(a, float(a == text[t]) - mass[a] / whole) for a in actions]))
    return terms


def _logarithmic(last: int) -> list[int]:
    """Return 1, 2, 5, 10, 20, … and the last."""
    marks = [m * 10**k for k in range(len(str(last))) for m in (1, 2, 5)]
    return [*(mark for mark in marks if mark < last), last]


def _flat(probability_CY: Sequence[Sequence[float]], shown: bool) -> list[str]:
    return [_share(p) for row in probability_CY for p in row] if shown else []


def _arrow(before: float, after: float) -> str:
    return "▲" if after > before else ("▼" if after < before else "=")


def _share(value: float) -> str:
    return f"{value:.3f}"


def _signed(value: float) -> str:
    """With its sign, and without one where nothing is left to show."""
    return f"{value:+.3f}" if abs(value) >= 0.0005 else "0.000"


def _pay(value: float) -> str:
    return f"{value:g}"
