"""The court on a real language model: the trainer's own sampled gradient against the exact ∇J of the same examples.

With a strict scorer the paid completions of an example are a handful of strings, so its pass probability is a finite sum
over the ways to write them in tokens. That sum is differentiable: J and ∇J are known without sampling.
Letters: X examples, N token sequences, D parameters.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from lockedroom.dataset.load import read_examples
from lockedroom.errors import BadInput
from lockedroom.learning.court import without_kl
from lockedroom.learning.estimator import GROUP_BASELINES, PRESETS, Estimator, biased, check_group
from lockedroom.learning.exact_gradient import GradientFinding, GradientTally, pass_probabilities
from lockedroom.loops.attempt import judge
from lockedroom.loops.evaluating.exact import Accepted, measure_exactly, require_exact
from lockedroom.loops.learning.update import Learner, LearnerSettings
from lockedroom.loops.microscope.court import one_choice_each
from lockedroom.policy.tiny.exact import build_trie
from lockedroom.policy.tiny.policy import TinyPolicy
from lockedroom.policy.tiny.tokenizer import END
from lockedroom.protocols import TokenPolicy
from lockedroom.records import Completion, Example, Failure, Sampling, Score
from lockedroom.results.microscope.exact_gradient import ExactGradientResult, JudgedGradient
from lockedroom.scorer.builtin import BuiltinScorer
from lockedroom.wording import counted

MAX_TOKENS = 24
SEQUENCES_AT_ONCE = 512  # in one training pass; bounds memory
FEWEST_SEEN = 100  # completions expected to pass, and to fail
AGREES = 1e-5  # float32 passes of different shape

Listed = tuple[tuple[int, ...], list[tuple[int, ...]]]  # a prompt's ids, and the token sequences that are paid after it


class Exact(msgspec.Struct, frozen=True):
    """The exact side: pass_X, the gradient of their mean, how many sequences were summed, and how well that agrees."""

    pass_X: Tensor
    gradient_D: Tensor
    sequences: int
    disagreement: float


def judge_on_policy(
    policy: TokenPolicy,
    scorer: BuiltinScorer,
    dataset: Path,
    asked: Sequence[tuple[str, Estimator]],
    *,
    examples: int,
    group: int,
    batches: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> ExactGradientResult:
    """Judge what is asked, beside REINFORCE; or, asked nothing, every preset and every choice of advantage and loss.

    The first `examples` rows of the dataset are the whole objective. Raises BadInput for a policy or a scorer whose paid
    token sequences cannot be listed, for a holdout, and for sizes that say nothing.
    """
    began = time.process_time()
    network = _listable(policy)
    rows, beside = _prepared(asked), _beside(asked, group)
    _check(group, seed, [estimator for _, estimator, _ in (*rows, *beside)])
    chosen = _examples(dataset, scorer, examples)
    sampling = Sampling(max_tokens=MAX_TOKENS, seed=seed)
    exact = exact_gradient(network, require_exact(policy, scorer)[1], chosen, sampling)
    _refuse_unseen(float(exact.pass_X.mean()), examples * group * batches)
    findings = _sampled(
        network, scorer, chosen, [estimator for _, estimator, _ in (*rows, *beside)], exact.gradient_D,
        sampling=sampling, group=group, batches=batches, progress=progress or (lambda _: None),
    )  # fmt: skip
    plain = findings[len(rows)]  # REINFORCE leads the rows beside
    judged = tuple(_judged(*row, found, plain) for row, found in zip((*rows, *beside), findings, strict=True))
    return ExactGradientResult(
        policy=policy.spec,
        dataset=str(dataset),
        scorer=scorer.spec.name,
        examples=tuple(example.id for example in chosen),
        parameters=len(exact.gradient_D),
        group=group,
        batches=batches,
        max_tokens=MAX_TOKENS,
        seed=seed,
        objective=float(exact.pass_X.mean()),
        gradient_norm=float(exact.gradient_D.norm()),
        sequences=exact.sequences,
        disagreement=exact.disagreement,
        asked=judged[: len(rows)],
        builtin=judged[len(rows) :],
        cpu_seconds=time.process_time() - began,
    )


def _listable(policy: TokenPolicy) -> TinyPolicy:
    if not isinstance(policy, TinyPolicy):
        raise BadInput(
            f"--policy {policy.spec.name}: its paid token sequences are too many to list with gradients; use an embedded "
            "model: tiny, tiny-weak, tiny-hedge, or a run or file of that kind"
        )
    return policy


def exact_gradient(policy: TinyPolicy, accepted: Accepted, examples: Sequence[Example], sampling: Sampling) -> Exact:
    """Return the pass probability of each example and the gradient of their mean, summed over every paid token sequence."""
    listed = [_listed(policy, accepted(example), example, sampling) for example in examples]
    pass_X = torch.zeros(len(examples), dtype=torch.float64)
    _forget_gradients(policy)
    for part in _parts(listed):
        prompts = [listed[x][0] for x, _ in part]
        read = policy.training_pass(prompts, [sequences for _, sequences in part], sampling)
        example_N = torch.tensor([x for x, sequences in part for _ in sequences])
        part_X = pass_probabilities(read.logprobs_NT, example_N, len(examples))
        torch.autograd.backward(part_X.mean())  # gradients of the parts add up
        pass_X += part_X.detach()
    gradient_D = _gradient(policy) if any(sequences for _, sequences in listed) else _no_gradient(policy)
    _forget_gradients(policy)
    checked = [row.accepted for row in measure_exactly(policy, accepted, examples, sampling)]
    disagreement = float((pass_X - torch.tensor(checked, dtype=torch.float64)).abs().max())
    assert disagreement < AGREES, f"two ways to sum one probability differ by {disagreement}"
    return Exact(pass_X, gradient_D, sum(len(sequences) for _, sequences in listed), disagreement)


def _listed(policy: TinyPolicy, texts: Sequence[str], example: Example, sampling: Sampling) -> Listed:
    """Return every token sequence, as the sampler would return it, whose text is one of `texts`."""
    prompt = policy.prompt_ids(example.prompt, example.id)
    paths: list[tuple[int, ...]] = [()]
    sequences = []
    for depth, level in enumerate(build_trie(policy.tokenizer, texts, (), policy.token_limit(prompt, sampling))):
        if depth > 0:
            paths = [(*paths[parent], token) for parent, token in zip(level.parents, level.tokens, strict=True)]
        for node, token, _, _ in level.endings:  # without stop strings: the end token, or -1 at the token limit
            sequences.append((*paths[node], END) if token == END else paths[node])
    return prompt, sorted(sequences)


def _parts(listed: Sequence[Listed]) -> Iterator[list[tuple[int, list[tuple[int, ...]]]]]:
    """Yield (example, some of its sequences) for one pass at a time, at most SEQUENCES_AT_ONCE in all."""
    part: list[tuple[int, list[tuple[int, ...]]]] = []
    room = SEQUENCES_AT_ONCE
    for x, (_, sequences) in enumerate(listed):
        start = 0
        while start < len(sequences):
            some = sequences[start : start + room]
            part.append((x, some))
            start, room = start + len(some), room - len(some)
            if room == 0:
                yield part
                part, room = [], SEQUENCES_AT_ONCE
    if part:
        yield part


def _sampled(
    policy: TinyPolicy,
    scorer: BuiltinScorer,
    examples: Sequence[Example],
    estimators: Sequence[Estimator],
    target_D: Tensor,
    *,
    sampling: Sampling,
    group: int,
    batches: int,
    progress: Callable[[int], None],
) -> list[GradientFinding]:
    """Return how each estimator's gradients, all made from the same completions, compare with the target."""
    settings = LearnerSettings(
        steps=batches, learning_rate=0.0, schedule="constant", optimizer="sgd", group=group, max_grad_norm=math.inf
    )

    def judge_completions(
        asked: Sequence[Example], completions: Sequence[Completion | Failure]
    ) -> list[Score | Failure]:
        return judge(scorer, asked, completions)

    learners = [
        Learner(policy, None, judge_completions, estimator, settings=settings, sampling=sampling)
        for estimator in estimators
    ]
    tallies = [GradientTally(target_D, batches) for _ in estimators]
    for batch in range(batches):
        draw = learners[0].draw(examples, batch)
        for learner, tally in zip(learners, tallies, strict=True):
            learner.update(draw, batch)  # at a learning rate of 0: the gradient is left, the policy stays
            tally.add(-_gradient(policy))  # of a loss
        progress(len(draw.completions))
    _forget_gradients(policy)
    return [tally.finding() for tally in tallies]


def _gradient(policy: TinyPolicy) -> Tensor:
    parts = [parameter.grad for parameter in policy.parameters()]
    return torch.cat([part.flatten().double() for part in parts if part is not None])


def _no_gradient(policy: TinyPolicy) -> Tensor:
    return torch.zeros(sum(parameter.numel() for parameter in policy.parameters()), dtype=torch.float64)


def _forget_gradients(policy: TinyPolicy) -> None:
    for parameter in policy.parameters():
        parameter.grad = None


Row = tuple[str, Estimator, tuple[str, ...]]


def _prepared(asked: Sequence[tuple[str, Estimator]]) -> list[Row]:
    """Return what can be judged of each: its first update, without the KL term; and what was changed."""
    rows = []
    for name, estimator in asked:
        changed = []
        if estimator.kl != "none":
            changed.append(f"without its KL term ({estimator.kl})")
        if estimator.epochs > 1:
            changed.append(f"first of {counted(estimator.epochs, 'update')}")
        rows.append((name, msgspec.structs.replace(without_kl(estimator), epochs=1), tuple(changed)))
    return rows


def _beside(asked: Sequence[tuple[str, Estimator]], group: int) -> list[Row]:
    """Return REINFORCE, which is the measure of noise, and when nothing was asked all that groups of this size allow."""
    rows = _prepared([("reinforce", PRESETS["reinforce"])])
    if asked:
        return rows
    met = {estimator for _, estimator, _ in rows}
    choices = [(name, one) for name, one in one_choice_each() if one.kl == "none" and one.epochs == 1]
    for row in _prepared([*PRESETS.items(), *choices]):
        grouped = row[1].baseline in GROUP_BASELINES or row[1].scale == "group-std"
        if row[1] not in met and not (grouped and group == 1):
            met.add(row[1])
            rows.append(row)
    return rows


def _judged(
    name: str, estimator: Estimator, changed: tuple[str, ...], found: GradientFinding, plain: GradientFinding
) -> JudgedGradient:
    noise = None if found.spread is None or plain.spread is None else found.spread / plain.spread
    return JudgedGradient(
        name=name, estimator=estimator, changed=changed, reasons=biased(estimator), finding=found, noise=noise
    )


def _check(group: int, seed: int, estimators: Sequence[Estimator]) -> None:
    if not 1 <= group <= 1024:
        raise BadInput(f"--group {group}: expected 1 to 1,024 completions an example")
    if not 0 <= seed < 2**63:
        raise BadInput(f"--seed {seed}: expected 0 or more, below 2^63")
    for estimator in estimators:
        check_group(estimator, group)


def _refuse_unseen(objective: float, completions: int) -> None:
    """A mean of rewards that hardly ever differ is far from normal, and its interval would accuse falsely."""
    rarer = completions * min(objective, 1 - objective)
    if rarer < FEWEST_SEEN:
        raise BadInput(
            f"of {counted(completions, 'completion')} about {rarer:.3g} would {'pass' if objective < 0.5 else 'fail'} (exact J = "
            f"{objective:.3g}): too few to judge a gradient by, {FEWEST_SEEN} are needed; raise --batches, or choose "
            "other examples"
        )


def _examples(dataset: Path, scorer: BuiltinScorer, count: int) -> list[Example]:
    if not 1 <= count <= 256:
        raise BadInput(f"--examples {count}: expected 1 to 256")
    if dataset.stem.lower() == "holdout":
        raise BadInput(f"{dataset}: a holdout is measured once, at the end, and not looked at before; use train or dev")
    found: list[Example] = []
    for batch in read_examples(dataset, scorer.first_refused, scorer_name=scorer.spec.name):
        found += batch
    if len(found) < count:
        raise BadInput(f"--examples {count}: {dataset} holds only {len(found)}; lower it")
    return found[:count]
