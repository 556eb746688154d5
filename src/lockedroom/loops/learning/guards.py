"""What learning refuses to go on with: no signal, too many failures, truncation, a policy that has left its reference."""

from __future__ import annotations

from collections import Counter

from lockedroom.errors import BadInput
from lockedroom.loops.learning.batch import Draw
from lockedroom.loops.learning.opening import LearnConfig
from lockedroom.records import Completion, Failure, FinishReason, Score
from lockedroom.results.learning.metrics import StepMetrics
from lockedroom.wording import counted


def refuse_no_signal(draw: Draw) -> None:
    """Raise BadInput when every reward of the first step is the same: there is nothing to learn from.

    Nothing is said of a draw in which nothing was scored; `refuse_undrawn` does that.
    """
    scores = [result for result in draw.results if isinstance(result, Score)]
    rewards = {score.reward for score in scores}
    if len(rewards) != 1:
        return
    reward = rewards.pop()
    codes = Counter(score.details.code for score in scores).most_common(3)
    found = ", ".join(f"{code} {count:,}" for code, count in codes)
    what = (
        "the policy solves these examples already: use harder ones"
        if reward > 0
        else "look at the completions (lockedroom evaluate … then inspect) for the format the scorer wants; show it in "
        "the prompt, use easier examples or a stronger policy, or teach the format first; a larger --group or more "
        "--prompts finds rarer successes"
    )
    raise BadInput(
        f"before the first update: all {counted(len(scores), 'scored completion')} got the same reward, {reward:g} ({found}); "
        f"learning from it is impossible, and nothing was spent on it; {what}"
    )


def refuse_undrawn(config: LearnConfig, draw: Draw, step: int) -> None:
    """Raise BadInput when too many completions of a step failed or were truncated."""
    failures = Counter(result.code.value for result in draw.results if isinstance(result, Failure))
    share = failures.total() / len(draw.results)
    if share > config.max_failed:
        found = ", ".join(f"{code} {count:,}" for code, count in failures.most_common())
        first = next(result.message for result in draw.results if isinstance(result, Failure))
        raise BadInput(
            f"step {step}: {share:.0%} of {counted(len(draw.results), 'completion')} could not be judged ({found}; the first: {first}), "
            f"more than --max-failed {config.max_failed:g}; this step was not learned from: make what failed work again, then "
            + ("start again" if step == 0 else "continue with --resume (a scorer that was changed needs a new run)")
        )
    drawn = [one for one in draw.completions if isinstance(one, Completion)]
    cut = sum(one.finish_reason is FinishReason.LENGTH for one in drawn)
    limit = config.sampling.max_tokens
    if drawn and limit is not None and cut / len(drawn) > config.max_truncated:
        never = " (the policy never gave its end token)" if cut == len(drawn) else ""
        learned = (
            f"it did not begin so: learning led there, so lower --learning-rate (now {config.learner.learning_rate:g}) or "
            "raise --kl; else "
        )
        raise BadInput(
            f"step {step}: {cut:,} of {counted(len(drawn), 'completion')} hit the limit of {counted(limit, 'token')}{never}, "
            f"more than --max-truncated {config.max_truncated:g}: they would be learned from as wrong; "
            f"{learned if step else ''}raise --max-tokens, or --max-truncated if that is what you mean, in a new run"
        )


def refuse_far(config: LearnConfig, metrics: StepMetrics) -> None:
    """Raise BadInput when the policy has moved further from its reference than anybody asked for."""
    distance = metrics.distance
    if distance is not None and distance > config.max_kl:
        raise BadInput(
            f"step {metrics.step}: KL to the reference is {distance:.1f} nats a completion, more than --max-kl "
            f"{config.max_kl:g}: the policy has left its reference; lower --learning-rate (now "
            f"{config.learner.learning_rate:g}) or raise --kl, in a new run"
        )
