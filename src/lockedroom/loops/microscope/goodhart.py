"""Goodhart's law, measured: a policy learns from a permissive scorer, and a strict one watches the same completions.

The learner is that of `lockedroom learn`; the strict scorer's verdicts never reach it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from lockedroom.dataset.load import canonical_line
from lockedroom.jsonl import encode_lines
from lockedroom.learning.estimator import Estimator
from lockedroom.loops.attempt import judge
from lockedroom.loops.learning.opening import LearnConfig, Learning, open_learning
from lockedroom.loops.learning.order import step_examples
from lockedroom.loops.learning.update import Learner, LearnerSettings
from lockedroom.loops.opening.named import open_scorer
from lockedroom.protocols import Scorer, TrainablePolicy
from lockedroom.records import Completion, Example, Failure, Sampling
from lockedroom.results.microscope.folder import write_microscope
from lockedroom.results.microscope.goodhart import (
    MEASURED,
    RESULT_JSON,
    RESULT_MD,
    GoodhartResult,
    GoodhartSetting,
    Measured,
    check_setting,
    derive,
    render_goodhart,
)
from lockedroom.results.plain_folder import refuse_existing
from lockedroom.results.run_folder import EXAMPLES, indented_json

MAX_TOKENS = 24
SCORER_TIMEOUT, SCORER_MEMORY = 5.0, 512
MEASURING_STEP = 1_000_000  # the dev draws of step t use the random numbers of this plus t: none of the trainer's


def watch_goodhart(
    setting: GoodhartSetting,
    out: Path | None = None,
    *,
    command: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
) -> GoodhartResult:
    """Train one arm for each KL weight, measure with both scorers, write the folder `out` if given. Raises BadInput."""
    started, wall = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    check_setting(setting)
    if out is not None:
        refuse_existing(out)
    rows: list[Measured] = []
    dev: list[Example] = []
    policies: dict[str, TrainablePolicy] = {}
    with open_scorer(setting.strict, timeout_s=SCORER_TIMEOUT, memory_mb=SCORER_MEMORY) as strict:
        for beta in setting.betas:
            with open_learning(_config(setting)) as (config, learning):
                dev = learning.dev[: setting.examples]
                rows += _arm(setting, config, learning, strict, beta=beta, progress=progress)
                if learning.policy.spec.kind == "tiny":  # a policy of one file; others are folders of gigabytes
                    policies[f"policy-beta-{beta:g}.safetensors"] = learning.policy
    result = derive(setting, rows)
    if out is not None:
        contents = {
            RESULT_JSON: indented_json(result),
            RESULT_MD: render_goodhart(result).encode(),
            MEASURED: encode_lines(rows),
            EXAMPLES: canonical_line(dev),
        }
        write_microscope(
            out, "goodhart", setting, contents, policies=policies, seed=setting.seed, command=command, started=started,
            seconds=round(time.monotonic() - wall, 3),
        )  # fmt: skip
    return result


def _config(setting: GoodhartSetting) -> LearnConfig:
    settings = LearnerSettings(steps=setting.steps, learning_rate=setting.learning_rate, group=setting.group)
    return LearnConfig(
        dataset=setting.dataset,
        dev=setting.dev,
        policy=setting.policy,
        scorer=setting.proxy,
        learner=settings,
        prompts=setting.prompts,
        sampling=Sampling(max_tokens=MAX_TOKENS, seed=setting.seed),
        exact=False,
    )


def _arm(
    setting: GoodhartSetting,
    config: LearnConfig,
    learning: Learning,
    strict: Scorer,
    *,
    beta: float,
    progress: Callable[[int], None] | None,
) -> Iterator[Measured]:
    estimator = Estimator(baseline="leave-one-out", kl="k1-in-reward" if beta else "none", beta=beta)
    proxy = learning.opened.scorer
    learner = Learner(
        learning.policy,
        learning.reference,
        lambda examples, completions: judge(proxy, examples, completions),
        estimator,
        settings=config.learner,
        sampling=config.sampling,
    )
    dev = learning.dev[: setting.examples]
    for step in range(setting.steps + 1):
        if step % setting.every == 0 or step == setting.steps:
            yield from _measure(setting, learning, (proxy, strict), dev, beta=beta, step=step)
        if step < setting.steps:
            learner.step(step_examples(learning.train, config, step), step)
            if progress is not None:
                progress(setting.prompts * setting.group)


def _measure(
    setting: GoodhartSetting,
    learning: Learning,
    scorers: tuple[Scorer, Scorer],
    dev: Sequence[Example],
    *,
    beta: float,
    step: int,
) -> Iterator[Measured]:
    """Draw from the policy as it is and judge every completion twice."""
    sampling = Sampling(max_tokens=MAX_TOKENS, seed=setting.seed)
    draws = range(setting.draws)
    completions = list(learning.policy.complete(dev, draws, sampling, step=MEASURING_STEP + step))
    asked = [example for example in dev for _ in draws]
    by_proxy, by_strict = (judge(scorer, asked, completions) for scorer in scorers)
    ratios = iter(_log_ratios(learning, asked, completions, sampling))
    for i, (example, drawn) in enumerate(zip(asked, completions, strict=True)):
        text, ratio = (drawn.text, next(ratios)) if isinstance(drawn, Completion) else ("", 0.0)
        yield Measured(beta, step, example.id, i % setting.draws, text, ratio, by_proxy[i], by_strict[i])


def _log_ratios(
    learning: Learning, asked: Sequence[Example], completions: Sequence[Completion | Failure], sampling: Sampling
) -> list[float]:
    """log π − log π_ref of each completion drawn (k1, in nats)."""
    drawn = [(example, one) for example, one in zip(asked, completions, strict=True) if isinstance(one, Completion)]
    prompts = [learning.reference.prompt_ids(example.prompt) for example, _ in drawn]
    referred = learning.reference.logprobs(prompts, [one.token_ids or () for _, one in drawn], sampling)
    return [(one.logprob or 0.0) - sum(reference) for (_, one), reference in zip(drawn, referred, strict=True)]
