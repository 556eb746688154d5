"""Loop C: draw, judge, move the policy; then ask in a locked room whether that taught it anything.

Read top to bottom: `learn` opens what the configuration names, `_train` makes the steps (each is `Learner.step`, see
`learner`), and `measure` evaluates the policy before and after on the dev examples, as ordinary runs in one room. The
holdout is never read. Memory does not grow with the number of steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from lockedroom.errors import BadInput
from lockedroom.loops.attempt import judge
from lockedroom.loops.learning.batch import Draw
from lockedroom.loops.learning.guards import refuse_far, refuse_no_signal, refuse_undrawn
from lockedroom.loops.learning.measure import evaluate_now, learned_name, measure, save_learned, weight_files
from lockedroom.loops.learning.opening import LearnConfig, Learning, open_learning
from lockedroom.loops.learning.order import step_examples
from lockedroom.loops.learning.update import Learner, LearnerState
from lockedroom.loops.opening.named import room_of
from lockedroom.records import Completion, Example, Failure, Score
from lockedroom.results.learning.folder import LearningFolder
from lockedroom.results.learning.metrics import Evaluation, StepMetrics
from lockedroom.results.learning.rendering import render_learning
from lockedroom.results.learning.summary import LEARNING_JSON, LEARNING_MD, LearningSummary, Plan, sum_up_learning
from lockedroom.results.notebook import as_html
from lockedroom.results.run_folder import indented_json
from lockedroom.safeguards import manifest as manifests


class Learned(msgspec.Struct, frozen=True):
    """A finished learning run."""

    path: Path
    manifest: manifests.Manifest
    summary: LearningSummary

    def __fspath__(self) -> str:
        """The run folder: a result stands wherever a path may."""
        return str(self.path)

    def _repr_html_(self) -> str:
        """What learning amounts to, as a notebook shows it."""
        return as_html(render_learning(self.summary))


# Called after every step and every evaluation, and with a sentence when something else begins.
Progress = Callable[[StepMetrics | Evaluation | str], None]


def learn(
    config: LearnConfig,
    out: Path | str,
    *,
    resume: bool = False,
    command: Sequence[str] = (),
    progress: Progress = lambda _: None,
) -> Learned:
    """Train a policy on the scorer's rewards and write the run folder `out`, which is then a policy itself.

    Raises BadInput for anything that cannot be used as given, and when learning has to stop (a failing scorer, truncation,
    divergence); what was finished stays on disk and `resume` continues from the last checkpoint, bit for bit.
    """
    began, wall, cpu, out = datetime.now(UTC), time.monotonic(), time.process_time(), Path(out)
    with open_learning(config) as (settled, learning):
        run = LearningFolder(out, _encode(settled), learning.train, group=settled.learner.group, resume=resume)
        try:
            learner = _learner(settled, learning)
            if run.step:
                learner.restore(LearnerState(run.tensors, run.ema, run.updates))
            _train(settled, learning, learner, run, progress)
            origin = {"learned_from": learning.policy.spec.identity, "steps": settled.learner.steps}
            save_learned(learning.policy, out / learned_name(learning.policy), origin=origin)
            measure(settled, learning, out, command=command, progress=progress)
            seconds = time.monotonic() - wall, time.process_time() - cpu
            timing = manifests.Timing(began.isoformat(timespec="seconds"), *seconds, attempts=run.run.records.lines)
            return _close(settled, learning, run, timing=timing, command=command)
        except BadInput:
            run.abandon(remove=run.run.records.lines == 0)
            raise
        except BaseException:  # Ctrl-C and bugs too: the files are closed, and what is finished stays for --resume
            run.abandon(remove=False)
            raise


def _train(config: LearnConfig, learning: Learning, learner: Learner, run: LearningFolder, progress: Progress) -> None:
    for step in range(run.step, config.learner.steps):
        draw = learner.draw(step_examples(learning.train, config, step), step)
        _refuse_or_keep(config, learner, run, draw, step)
        if step == 0:
            refuse_no_signal(draw)
        if step % config.eval_every == 0:
            _evaluate(config, learning, run, step, progress)
        result = learner.update(draw, step)
        run.add_step(result.metrics, result.records, result.timing)
        progress(result.metrics)
        refuse_far(config, result.metrics)
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.learner.steps:
            _checkpoint(learner, run, step + 1)
    _evaluate(config, learning, run, config.learner.steps, progress)


def _refuse_or_keep(config: LearnConfig, learner: Learner, run: LearningFolder, draw: Draw, step: int) -> None:
    """Stop before a step whose completions cannot be learned from, keeping what was learned until then."""
    try:
        refuse_undrawn(config, draw, step)
    except BadInput:
        if step > 0:
            _checkpoint(learner, run, step)
        raise


def _checkpoint(learner: Learner, run: LearningFolder, step: int) -> None:
    state = learner.state()
    run.checkpoint(step, state.tensors, ema=state.ema, updates=state.updates)


def _evaluate(config: LearnConfig, learning: Learning, run: LearningFolder, step: int, progress: Progress) -> None:
    evaluation, records = evaluate_now(config, learning, step)
    run.add_evaluation(evaluation, records)
    progress(evaluation)


def _learner(config: LearnConfig, learning: Learning) -> Learner:
    scorer = learning.opened.scorer

    def judge_completions(
        examples: Sequence[Example], completions: Sequence[Completion | Failure]
    ) -> list[Score | Failure]:
        return judge(scorer, examples, completions)

    return Learner(
        learning.policy,
        learning.reference,
        judge_completions,
        learning.estimator,
        settings=config.learner,
        sampling=config.sampling,
    )


def _encode(config: LearnConfig) -> bytes:
    import tomli_w

    return tomli_w.dumps(msgspec.to_builtins(config)).encode()


def _close(
    config: LearnConfig, learning: Learning, run: LearningFolder, *, timing: manifests.Timing, command: Sequence[str]
) -> Learned:
    opened = learning.opened
    manifest = manifests.Manifest(
        **manifests.made_here(),
        kind="learn",
        room=room_of(opened, run.run, Path(config.dataset).stem, learning.scorer),
        policy=learning.reference.spec,
        scorer=opened.scorer.spec,
        selection={"draws": config.learner.group, "selector": "none"},
        draws=config.learner.group,
        seed=config.sampling.seed,
        command=list(command),
        inputs=manifests.Inputs(dataset=config.dataset),
        threads=config.threads,
        timing=timing,
        files={},
    )
    entries = run.close_files()
    summary = sum_up_learning(run.path, _plan(config, learning))
    derived = {LEARNING_JSON: indented_json(summary), LEARNING_MD: render_learning(summary).encode()}
    entries |= run.run.finish(derived)
    for path in weight_files(run.path):
        entries[str(path.relative_to(run.path))] = manifests.measure_file(path)
    manifest = msgspec.structs.replace(manifest, files=dict(sorted(entries.items())))
    run.seal(manifest)
    return Learned(run.path, manifest, summary)


def _plan(config: LearnConfig, learning: Learning) -> Plan:
    return Plan(
        policy=learning.reference.spec.name,
        preset=config.preset,
        estimator=learning.estimator,
        biased=learning.biased,
        scorer=learning.opened.scorer.spec.name,
        dataset=config.dataset,
        dev=config.dev or "",
        steps=config.learner.steps,
        prompts=config.prompts or 0,
        group=config.learner.group,
        draws=config.draws or 0,
        sampling=config.sampling,
        exact=learning.exact,
        controls=config.controls,
        confidence=config.confidence,
    )
