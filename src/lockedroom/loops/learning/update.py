"""One update of Loop C: completions are drawn, judged, turned into advantages, and the policy is moved.

`Learner.step` is the algorithm of every learning run, from a bandit of three arms to a language model; which estimator
it is comes from `lockedroom.learning`, where the court judges it. Text is what is scored; tokens are what is learned:
the update reads the token ids that were sampled and the log-probabilities recorded with them, never text.

Shape letters: P prompts, G completions of each (a group), N = P·G rows prompt by prompt, T tokens of the longest, C features,
R states (a prompt and a beginning of a completion), V vocabulary. A row without a completion (the policy failed) is outside every mask.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
import torch
from torch import Tensor

from lockedroom.errors import BadInput
from lockedroom.learning import kl
from lockedroom.learning.advantages import Advantages, estimate_advantages
from lockedroom.learning.estimator import Estimator, check_estimator, check_group
from lockedroom.learning.objective import PolicyLoss, policy_loss
from lockedroom.learning.value_head import ValueHead, new_value_head, predict_values, updated_value_head
from lockedroom.loops.learning.batch import Batch, Draw, Part, largest_mismatch, mean_advantages, records_of
from lockedroom.protocols import TrainablePolicy, TrainingPass
from lockedroom.records import Completion, Example, Failure, Record, Sampling, Score
from lockedroom.results.learning.metrics import StepMetrics, StepTiming, measure_drawn
from lockedroom.wording import counted

LARGEST_VOCABULARY = 1024  # up to which the reference's whole distributions of a step are kept, for the exact KL

Judge = Callable[[Sequence[Example], Sequence[Completion | Failure]], list[Score | Failure]]


class LearnerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How an estimated gradient becomes a step; how it is estimated is the Estimator's.

    steps: of the whole run, for the schedule (`linear` and `cosine` end at 0). group: completions a prompt.
    max_grad_norm: longer gradients are scaled to it (inf: never). micro_batch: prompts in one pass, for memory; None all.
    """

    steps: int = 120
    learning_rate: float = 1e-3
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    optimizer: Literal["adamw", "sgd"] = "adamw"
    group: int = 8
    max_grad_norm: float = 1.0
    micro_batch: int | None = None


class StepResult(msgspec.Struct, frozen=True):
    """One step: its metrics, its records (with `ref_logprob`, without token-level logprobs), what it learned from.

    `advantages` are means over the tokens of each completion, None where it was not learned from.
    """

    metrics: StepMetrics
    records: list[Record]
    completions: list[Completion | Failure]
    results: list[Score | Failure]
    advantages: list[float | None]
    timing: StepTiming


class Moved(msgspec.Struct, frozen=True):
    """The metrics that only the update knows; `StepMetrics` says what they are."""

    loss: float
    loss_kl: float
    gradient_norm: float
    clipped: float
    mismatch: float
    kl_exact: float | None


class Referred(msgspec.Struct, frozen=True):
    """What the reference policy, if any, says of a batch: of the sampled tokens; by part, vocabulary_RV if it is small."""

    ref_NT: Tensor | None
    vocabularies: list[Tensor | None]


class LearnerState(msgspec.Struct, frozen=True):
    """Everything that outlives a step, as named tensors and plain numbers; what `restore` takes."""

    tensors: dict[str, Tensor]
    ema: float
    updates: int


class Learner:
    """A policy being trained. Raises BadInput for an estimator, settings or sampling that no learning can use."""

    def __init__(
        self,
        policy: TrainablePolicy,
        reference: TrainablePolicy | None,
        judge: Judge,
        estimator: Estimator,
        *,
        settings: LearnerSettings,
        sampling: Sampling,
    ) -> None:
        check_estimator(estimator)
        check_group(estimator, settings.group)
        check_settings(settings, sampling)
        if reference is None and estimator.kl != "none":
            raise BadInput(f"estimator: kl = {estimator.kl} needs a reference policy; give one, or set kl to none")
        self.policy, self.reference, self.judge = policy, reference, judge
        self.estimator, self.settings, self.sampling = estimator, settings, sampling
        # KL is to the whole reference: a token that only truncation rules out has a finite log-probability there.
        self.reference_sampling = msgspec.structs.replace(sampling, top_k=0, top_p=1.0)
        self.parameters = policy.parameters()
        self.optimizer = _optimizer(settings, self.parameters)
        self.value_head: ValueHead | None = None
        self.ema = 0.0
        self.updates = 0
        self._drifts: dict[tuple[int, ...], bool] = {}

    def step(self, examples: Sequence[Example], step: int) -> StepResult:
        """Draw a group of completions for each example, judge them, and move the policy once (or `epochs` times)."""
        return self.update(self.draw(examples, step), step)

    def draw(self, examples: Sequence[Example], step: int) -> Draw:
        """Draw and judge the groups of a step. The policy stays as it is, so this may be repeated."""
        began = time.monotonic()
        group = range(self.settings.group)
        completions = list(self.policy.complete(examples, group, self.sampling, step=step))
        drawn = time.monotonic()
        asked = [example for example in examples for _ in group]
        if len(completions) != len(asked):
            raise BadInput(
                f"policy {self.policy.spec.name}: gave {counted(len(completions), 'result')} for {len(asked)} asked; fix the policy"
            )
        results = self.judge(asked, completions)
        return Draw(list(examples), completions, results, (drawn - began, time.monotonic() - drawn))

    def update(self, draw: Draw, step: int) -> StepResult:
        """Learn from what was drawn. Raises BadInput when the loss or its gradient is not a finite number."""
        began = time.monotonic()
        batch = Batch(self.policy, draw, self.settings.group, self.settings.micro_batch)
        reference = self._reference(batch)
        referred = time.monotonic()
        values_NT, features_NTC = self._values(batch)
        k1_NT = None
        if reference.ref_NT is not None:
            k1_NT = kl.log_ratio(batch.old_NT, reference.ref_NT, batch.mask_NT)
        found = estimate_advantages(
            self.estimator, batch.rewards_PG, batch.scored_PG, batch.mask_NT,
            k1_NT=k1_NT, values_NT=values_NT, passed_PG=batch.passed_PG, ema=self.ema,
        )  # fmt: skip
        rate = learning_rate(self.settings, step)
        moved = self._move(batch, found, reference, rate, step)
        self._learn_baseline(batch, found, k1_NT, features_NTC)
        records = records_of(draw, self.settings.group, k1_NT, batch)
        drawn = measure_drawn(records, self.settings.group)
        metrics = StepMetrics(
            **msgspec.structs.asdict(drawn), **msgspec.structs.asdict(moved),
            step=step, learning_rate=rate, baseline=found.baseline_mean, drift=self._count_drift(batch),
        )  # fmt: skip
        timing = StepTiming(step, *draw.seconds, referred - began, time.monotonic() - referred)
        return StepResult(metrics, records, draw.completions, draw.results, mean_advantages(found), timing)

    def _reference(self, batch: Batch) -> Referred:
        if self.reference is None:
            return Referred(None, [None] * len(batch.parts))
        ref_NT = torch.zeros_like(batch.old_NT)
        vocabularies: list[Tensor | None] = []
        with torch.no_grad():
            for part in batch.parts:
                read = self.reference.training_pass(part.prompts, part.groups, self.reference_sampling)
                ref_NT[part.rows, : read.logprobs_NT.shape[1]] = read.logprobs_NT.double().cpu()
                small = read.vocabulary_RV.shape[1] <= LARGEST_VOCABULARY
                vocabularies.append(read.vocabulary_RV if small else None)
        return Referred(ref_NT, vocabularies)

    def _values(self, batch: Batch) -> tuple[Tensor | None, Tensor | None]:
        """Predict with the head as it is: a baseline that has seen the batch would be biased."""
        if self.estimator.baseline != "value":
            return None, None
        features_NTC: Tensor | None = None
        for part in batch.parts:
            found = self.policy.value_features(part.prompts, part.groups).cpu()
            if features_NTC is None:
                features_NTC = found.new_zeros(*batch.old_NT.shape, found.shape[-1])
            features_NTC[part.rows, : found.shape[1]] = found
        if features_NTC is None:
            return torch.zeros_like(batch.old_NT), None
        self.value_head = self.value_head or new_value_head(features_NTC.shape[-1])
        return predict_values(self.value_head, features_NTC), features_NTC

    def _move(self, batch: Batch, found: Advantages, reference: Referred, rate: float, step: int) -> Moved:
        """Take one optimizer step an epoch; return the metrics that only the update knows."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = loss_kl = norm = clipped = mismatch = 0.0
        before: list[Tensor | None] = []  # the exact KL of each state of each part, before the first update
        for epoch in range(self.estimator.epochs):
            self.optimizer.zero_grad()
            loss = loss_kl = 0.0
            for index, part in enumerate(batch.parts):
                read = self.policy.training_pass(part.prompts, part.groups, self.sampling)
                exact_NT = self._exact_kl(part, read, reference.vocabularies[index])
                if epoch == 0:
                    mismatch = max(mismatch, largest_mismatch(read, batch.old_NT[part.rows]))
                    before.append(exact_NT)
                lost = self._loss(part, read, batch, found, ref_NT=reference.ref_NT, exact_NT=exact_NT)
                lost.loss.backward()  # type: ignore[no-untyped-call]  # PyTorch leaves it untyped
                loss, loss_kl = loss + float(lost.loss.detach()), loss_kl + float(lost.kl)
                clipped += float(lost.clipped)
            norm = self._gradient_norm()
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise BadInput(
                    f"step {step}: the loss is {loss} and the norm of its gradient {norm}: learning has diverged; lower "
                    f"--learning-rate (now {self.settings.learning_rate:g}) or raise --kl, in a new run"
                )
            if found.tokens:  # where nothing was judged, momentum alone must not move the policy either
                self.optimizer.step()
                self.updates += 1
        share = clipped / (found.tokens * self.estimator.epochs) if found.tokens else 0.0
        return Moved(loss, loss_kl, norm, share, mismatch, _mean_of_completions(before))

    def _loss(
        self, part: Part, read: TrainingPass, batch: Batch, found: Advantages, *,
        ref_NT: Tensor | None, exact_NT: Tensor | None,
    ) -> PolicyLoss:  # fmt: skip
        T = read.logprobs_NT.shape[1]
        device = read.logprobs_NT.device
        rows = (part.rows, slice(0, T))
        return policy_loss(
            self.estimator,
            read.logprobs_NT,
            batch.old_NT[rows].to(device),
            found.advantages_NT[rows].to(device),
            found.mask_NT[rows].to(device),
            completions=found.completions,
            tokens=found.tokens,
            max_tokens=self.sampling.max_tokens,
            ref_logprobs_NT=None if ref_NT is None else ref_NT[rows].to(device),
            kl_exact_NT=exact_NT,
        )

    def _exact_kl(self, part: Part, read: TrainingPass, ref_RV: Tensor | None) -> Tensor | None:
        """Return the exact KL of the state before each token, with a gradient where the loss holds it.

        Where the vocabulary is large it is made only for a loss that needs it, by one more pass of the reference.
        """
        in_loss = self.estimator.kl == "exact-in-loss"
        if ref_RV is None:
            if self.reference is None or not in_loss:
                return None
            with torch.no_grad():
                again = self.reference.training_pass(part.prompts, part.groups, self.reference_sampling)
            ref_RV = again.vocabulary_RV
        with torch.set_grad_enabled(in_loss):
            kl_R = kl.exact_per_state(read.vocabulary_RV, ref_RV)
            return kl_R[read.state_NT].where(read.mask_NT, 0.0)

    def _gradient_norm(self) -> float:
        """Return the norm of the gradient as estimated, after scaling down one that exceeds max_grad_norm."""
        return float(torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.max_grad_norm))

    def _learn_baseline(
        self, batch: Batch, found: Advantages, k1_NT: Tensor | None, features_NTC: Tensor | None
    ) -> None:
        self.ema = found.ema
        if self.value_head is None or features_NTC is None:
            return
        returns_NT = batch.rewards_PG.reshape(-1, 1).expand(batch.mask_NT.shape)
        if self.estimator.kl == "k1-in-reward" and k1_NT is not None:
            charged_NT = kl.to_go(k1_NT) if self.estimator.kl_per == "token" else k1_NT.sum(-1, keepdim=True)
            returns_NT = returns_NT - self.estimator.beta * charged_NT
        self.value_head = updated_value_head(self.value_head, features_NTC, returns_NT, found.mask_NT)

    def _count_drift(self, batch: Batch) -> int:
        """Count completions whose sampled tokens are not what the tokenizer makes of the text they spell."""
        if len(self._drifts) > 100_000:
            self._drifts.clear()
        count = 0
        for part in batch.parts:
            for group in part.groups:
                for ids in group:
                    if ids not in self._drifts:
                        spelled = ids[:-1] if ids[-1] in self.policy.end_ids else ids
                        self._drifts[ids] = tuple(self.policy.encode(self.policy.decode(spelled))) != tuple(spelled)
                    count += self._drifts[ids]
        return count

    def state(self) -> LearnerState:
        """Return a copy of everything that decides the steps to come: weights, optimizer, baselines, torch's generator."""
        tensors = {f"policy.{i}": parameter.detach().cpu().clone() for i, parameter in enumerate(self.parameters)}
        for i, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{name}": value.detach().cpu().clone() for name, value in values.items()
                        if isinstance(value, Tensor)}  # fmt: skip
        if self.value_head is not None:
            tensors |= {
                f"value.{name}": value.clone() for name, value in msgspec.structs.asdict(self.value_head).items()
            }
        tensors["generator"] = torch.random.get_rng_state()
        return LearnerState(tensors, self.ema, self.updates)

    def restore(self, state: LearnerState) -> None:
        """Continue where `state` was taken. Raises BadInput when it is that of another policy or optimizer."""
        own = {f"policy.{i}": tuple(parameter.shape) for i, parameter in enumerate(self.parameters)}
        saved = {name: tuple(tensor.shape) for name, tensor in state.tensors.items() if name.startswith("policy.")}
        if own != saved:
            raise BadInput("checkpoint: holds the weights of another network; resume with the policy it was begun with")
        with torch.no_grad():
            for i, parameter in enumerate(self.parameters):
                parameter.copy_(state.tensors[f"policy.{i}"])
        of_each: dict[int, dict[str, Tensor]] = {}
        for name, tensor in state.tensors.items():
            if name.startswith("optimizer."):
                _, number, what = name.split(".", 2)
                of_each.setdefault(int(number), {})[what] = tensor.clone()
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": of_each})
        head = {
            name.removeprefix("value."): tensor for name, tensor in state.tensors.items() if name.startswith("value.")
        }
        self.value_head = ValueHead(**head) if head else None
        torch.random.set_rng_state(state.tensors["generator"])
        self.ema, self.updates = state.ema, state.updates


def _mean_of_completions(kl_of_parts: Sequence[Tensor | None]) -> float | None:
    """Return the mean over completions of Σ_t KL(state t); None where it is not known, or nothing was drawn."""
    known = [kl_NT for kl_NT in kl_of_parts if kl_NT is not None]
    if not known or len(known) < len(kl_of_parts):
        return None
    return sum(float(kl_NT.detach().sum()) for kl_NT in known) / sum(len(kl_NT) for kl_NT in known)


def check_settings(settings: LearnerSettings, sampling: Sampling) -> None:
    """Raise BadInput for what no run can use."""
    problems = (
        (settings.steps < 1, f"--steps {settings.steps}: must be at least 1"),
        (not (math.isfinite(settings.learning_rate) and settings.learning_rate >= 0),
         f"--learning-rate {settings.learning_rate}: must be a finite number, 0 or above"),
        (not settings.max_grad_norm > 0,
         f"--max-grad-norm {settings.max_grad_norm}: must be above 0"),
        (settings.micro_batch is not None and settings.micro_batch < 1,
         f"--micro-batch {settings.micro_batch}: must be at least 1"),
        (sampling.temperature == 0,
         "--temperature 0: greedy completions of a prompt are all equal, so there is nothing to learn from; give 1"),
    )  # fmt: skip
    for wrong, message in problems:
        if wrong:
            raise BadInput(message)


def learning_rate(settings: LearnerSettings, step: int) -> float:
    """Return the learning rate of a step, a function of the step alone."""
    done = min(step / settings.steps, 1.0)
    if settings.schedule == "linear":
        return settings.learning_rate * (1 - done)
    if settings.schedule == "cosine":
        return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    return settings.learning_rate


def _optimizer(settings: LearnerSettings, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=settings.learning_rate)
    return torch.optim.AdamW(parameters, lr=settings.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
