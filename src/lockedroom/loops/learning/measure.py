"""Measuring what was learned: evaluations in between, then the policy before and after as ordinary runs in one room."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from lockedroom.learning import kl
from lockedroom.loops.attempt import attempt, judge
from lockedroom.loops.evaluate import evaluate
from lockedroom.loops.evaluating.configuration import EvaluateConfig
from lockedroom.loops.evaluating.exact import measure_exactly, require_exact
from lockedroom.loops.learning.opening import LearnConfig, Learning
from lockedroom.loops.learning.order import permutation, step_examples
from lockedroom.loops.learning.update import Judge, Learner
from lockedroom.loops.opening.policy import HUGGING_FACE, LEARNED_FOLDER, LEARNED_WEIGHTS, open_token_policy
from lockedroom.loops.select import select
from lockedroom.loops.selecting.opening import SelectConfig
from lockedroom.protocols import TrainablePolicy
from lockedroom.records import Completion, Example, Failure, Outcome, Record, Score
from lockedroom.results.learning.metrics import Evaluation, measure_drawn, pass_interval
from lockedroom.results.learning.summary import BASE, GREEDY, LEARNED, VOTE, control_run
from lockedroom.results.run_folder import CONFIG, sync_to_disk, writing
from lockedroom.safeguards import manifest as manifests

Say = Callable[[str], None]
STATES_AT_A_TIME = 64  # completions whose whole next-token distributions are held at once


def evaluate_now(config: LearnConfig, learning: Learning, step: int) -> tuple[Evaluation, list[Record]]:
    """Return how the policy does on the first `eval_examples` dev examples, one completion each.

    The draws are the same numbers every time, and torch's generator is put back: training does not notice.
    """
    examples = learning.dev[: config.eval_examples]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        records = attempt(learning.policy, learning.opened.scorer, examples, range(1), config.sampling)
        exact = None
        if learning.exact:
            policy, accepted = require_exact(learning.policy, learning.opened.scorer)
            rows = measure_exactly(policy, accepted, examples, config.sampling)
            exact = math.fsum(min(1.0, row.accepted) for row in rows) / len(rows)
        kl_exact, entropy_exact, ref_logprobs = _exact_states(config, learning, examples, records)
    kept = [_slim(record, ref) for record, ref in zip(records, ref_logprobs, strict=True)]
    drawn = measure_drawn(kept, 1)
    low, high = pass_interval(drawn, config.confidence)
    evaluation = Evaluation(
        **msgspec.structs.asdict(drawn), step=step, pass_low=low, pass_high=high,
        exact_pass_at_1=exact, kl_exact=kl_exact, entropy_exact=entropy_exact,
    )  # fmt: skip
    return evaluation, kept


def _exact_states(
    config: LearnConfig, learning: Learning, examples: Sequence[Example], records: Sequence[Record]
) -> tuple[float, float, list[float | None]]:
    """Return mean Σ_t KL(state), mean entropy of a state, and each completion's log-probability under the reference."""
    reference_sampling = msgspec.structs.replace(config.sampling, top_k=0, top_p=1.0)
    drawn = [n for n, record in enumerate(records) if record.completion is not None and record.completion.token_ids]
    logprobs: list[float | None] = [None] * len(records)
    kl_sum = entropy_sum = 0.0
    states = 0
    for start in range(0, len(drawn), STATES_AT_A_TIME):
        rows = drawn[start : start + STATES_AT_A_TIME]
        prompts = [learning.policy.prompt_ids(examples[n].prompt) for n in rows]
        ids = [[_ids(records[n])] for n in rows]
        read = learning.policy.training_pass(prompts, ids, config.sampling)
        other = learning.reference.training_pass(prompts, ids, reference_sampling)
        kl_R = kl.exact_per_state(read.vocabulary_RV, other.vocabulary_RV)
        entropy_R = kl.entropy_per_state(read.vocabulary_RV)
        kl_sum += float(kl_R[read.state_NT].where(read.mask_NT, 0.0).sum())
        entropy_sum += float(entropy_R[read.state_NT].where(read.mask_NT, 0.0).sum())
        states += int(read.mask_NT.sum())
        for n, found in zip(rows, other.logprobs_NT.sum(-1).tolist(), strict=True):
            logprobs[n] = found
    return kl_sum / max(len(drawn), 1), entropy_sum / max(states, 1), logprobs


def _ids(record: Record) -> tuple[int, ...]:
    assert record.completion is not None, "only what was drawn is read"
    return record.completion.token_ids or ()


def _slim(record: Record, ref_logprob: float | None) -> Record:
    drawn = record.completion
    if drawn is None:
        return record
    kept = Completion(drawn.text, drawn.logprob, ref_logprob, drawn.finish_reason, drawn.token_ids)
    return msgspec.structs.replace(record, completion=kept)


def learned_name(policy: TrainablePolicy, arm: str = "") -> str:
    """Return the file (or, for a Hugging Face model, the folder) of a run that holds what was learned."""
    name = LEARNED_WEIGHTS if policy.spec.kind == "tiny" else LEARNED_FOLDER
    return f"{arm}-{name}" if arm else name


def save_learned(policy: TrainablePolicy, path: Path, *, origin: dict[str, Any]) -> None:
    """Save a policy in place of what an interrupted run may have left there."""
    with writing(path):
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        policy.save(path, origin=origin)
        sync_to_disk(path)


def weight_files(run: Path) -> list[Path]:
    """Return the files of every policy that a learning run saved, its control arms included."""
    saved = [path for name in (LEARNED_WEIGHTS, LEARNED_FOLDER) for path in run.glob(f"*{name}")]
    files = [[path] if path.is_file() else [inside for inside in path.rglob("*") if inside.is_file()] for path in saved]
    return sorted(path for some in files for path in some)


def measure(config: LearnConfig, learning: Learning, out: Path, *, command: Sequence[str], progress: Say) -> None:
    """Write the runs that are compared: base and learned, sampled, greedy and by majority vote, and the control arms."""
    learned = _policy_at(learning.policy, out / learned_name(learning.policy))
    for name, policy in ((BASE, config.policy), (LEARNED, learned)):
        progress(f"measuring the {name} policy on {config.dev}")
        _evaluate(config, learning, policy, out / name, command=command)
        _evaluate(config, learning, policy, out / f"{name}-{GREEDY}", command=command, greedy=True)
        if (config.draws or 0) > 1:
            _vote(config, out / name, out / f"{name}-{VOTE}", command=command)
    for control in config.controls:
        if control == "best-of-n":
            continue  # the base policy's votes and its pass@k are that control
        progress(f"control arm: {control}")
        _control(config, learning, out, control, command=command)


def _evaluate(
    config: LearnConfig, learning: Learning, policy: str, out: Path, *, command: Sequence[str], greedy: bool = False,
    seed: int | None = None,
) -> None:  # fmt: skip
    seed = config.sampling.seed if seed is None else seed
    sampling = msgspec.structs.replace(config.sampling, seed=seed)
    if greedy:
        sampling = msgspec.structs.replace(sampling, temperature=0.0)
    asked = EvaluateConfig(
        dataset=config.dev or "", policy=policy, scorer=config.scorer, scorer_timeout=config.scorer_timeout,
        scorer_memory=config.scorer_memory, draws=1 if greedy else config.draws, exact=learning.exact and not greedy,
        sampling=sampling, threads=config.threads, backend=config.backend, confidence=config.confidence,
    )  # fmt: skip
    if not (out / manifests.NAME).is_file():
        evaluate(asked, out, resume=(out / CONFIG).is_file(), command=command)


def _vote(config: LearnConfig, source: Path, out: Path, *, command: Sequence[str]) -> None:
    if (out / manifests.NAME).is_file():
        return
    shutil.rmtree(out, ignore_errors=True)
    asked = SelectConfig(run=str(source), selector="majority-vote", ns=(config.draws or 1,), resamples=0,
                         confidence=config.confidence, seed=config.sampling.seed)  # fmt: skip
    select(asked, out, command=command)


def _policy_at(policy: TrainablePolicy, path: Path) -> str:
    return str(path) if policy.spec.kind == "tiny" else f"{HUGGING_FACE}{path}"


def _control(config: LearnConfig, learning: Learning, out: Path, control: str, *, command: Sequence[str]) -> None:
    """Learn on the same budget from a reward that holds nothing to learn (or nothing but format), and measure it."""
    run = out / control_run(control)
    if (run / manifests.NAME).is_file():
        return
    if control == "frozen":
        # The same policy drawn again, with other random numbers: what a difference of nothing looks like.
        _evaluate(config, learning, config.policy, run, command=command, seed=config.sampling.seed + 1)
        return
    policy = open_token_policy(config.policy, threads=config.threads, backend=config.backend)
    assert isinstance(policy, TrainablePolicy), "it was trained a moment ago"
    settings = config.learner
    learner = Learner(policy, learning.reference, control_judge(config, learning, control), learning.estimator,
                      settings=settings, sampling=config.sampling)  # fmt: skip
    for step in range(settings.steps):
        learner.step(step_examples(learning.train, config, step), step)
    path = out / learned_name(policy, control)
    save_learned(policy, path, origin={"learned_from": learning.reference.spec.identity, "control": control})
    _evaluate(config, learning, _policy_at(policy, path), run, command=command)


def control_judge(config: LearnConfig, learning: Learning, control: str) -> Judge:
    """Return the judge of a control arm.

    random: reward 1 with probability ½, whatever was written. format-only: 1 for whatever is not malformed. shuffled: the
    scorer's verdict against another example's answer.
    """
    scorer = learning.opened.scorer
    order = permutation(len(learning.train), config.sampling.seed, "shuffled answers")
    # A rotation of a random order: no example keeps its own row.
    other = {
        learning.train[a].id: learning.train[b].expected_answer
        for a, b in zip(order, [*order[1:], order[0]], strict=True)
    }
    calls = 0

    def judged(examples: Sequence[Example], completions: Sequence[Completion | Failure]) -> list[Score | Failure]:
        nonlocal calls
        calls += 1
        if control == "shuffled":
            asked = [msgspec.structs.replace(one, expected_answer=other[one.id]) for one in examples]
            return judge(scorer, asked, completions)
        results = judge(scorer, examples, completions)
        coins = _coins(config.sampling.seed, calls, len(results))
        return [
            result if isinstance(result, Failure)
            else msgspec.structs.replace(
                result, reward=coin if control == "random" else float(result.details.outcome is not Outcome.MALFORMED))
            for result, coin in zip(results, coins, strict=True)
        ]  # fmt: skip

    return judged


def _coins(seed: int, call: int, count: int) -> list[float]:
    """Return fair coins that belong to a seed and a step of a control arm."""
    bits = hashlib.shake_128(f"lockedroom control {seed}/{call}".encode()).digest(count)
    return [float(byte & 1) for byte in bits]
