"""The advantages of a learning run's records, computed again from its rewards by the functions that the run used."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import torch

from lockedroom.errors import BadInput
from lockedroom.jsonl import read_batches
from lockedroom.learning.advantages import Advantages, estimate_advantages
from lockedroom.learning.estimator import Estimator, make_estimator
from lockedroom.loops.learning.opening import LearnConfig
from lockedroom.records import Outcome, Record, Score
from lockedroom.results.run_folder import RECORDS

GONE = "The policy that drew this at its step is gone: log-probabilities are those of the policy the run ended with."


class StepAdvantages(msgspec.Struct, frozen=True):
    """What was found of each step asked about; `missing` says why nothing could be."""

    steps: dict[int, Advantages]
    missing: str | None

    def of(self, step: int, row: int) -> tuple[list[float | None] | None, tuple[str, ...]]:
        """Return the advantage of each token of a row (None: not learned from), and what has to be said with it."""
        if self.missing is not None:
            return None, (GONE, self.missing)
        found = self.steps[step]
        learned_T = found.mask_NT[row].tolist()
        weights = [a if used else None for a, used in zip(found.advantages_NT[row].tolist(), learned_T, strict=True)]
        said = "" if any(learned_T) else " Nothing was learned from this completion."
        return weights, (f"{GONE}{said}",)


def advantages_of_steps(run: Path, config: LearnConfig, steps: set[int]) -> StepAdvantages:
    """Return the advantages of some steps. A running mean needs all steps before them, which are then read too."""
    estimator = make_estimator(config.estimator, config.preset)
    missing = _missing(estimator)
    if missing is not None:
        return StepAdvantages({}, missing)
    found: dict[int, Advantages] = {}
    ema = 0.0
    for step, records in enumerate(_steps(run, (config.prompts or 1) * config.learner.group)):
        if step > max(steps):
            break
        if step in steps or estimator.baseline == "ema":
            made = _advantages(estimator, records, config.learner.group, ema)
            ema = made.ema
            if step in steps:
                found[step] = made
    return StepAdvantages(found, None)


def _missing(estimator: Estimator) -> str | None:
    """Return why advantages do not follow from the records, if they do not."""
    if estimator.baseline == "value":
        return "Advantages are not shown: the value head that was subtracted at this step is gone."
    if estimator.kl == "k1-in-reward" and estimator.kl_per == "token":
        return "Advantages are not shown: they hold a KL term of each token, of which records keep the sum alone."
    return None


def _steps(run: Path, rows: int) -> Iterator[list[Record]]:
    records = (record for batch in read_batches(run / RECORDS, Record) for record in batch.rows)
    while step := list(itertools.islice(records, rows)):
        if len(step) < rows:
            raise BadInput(f"{run / RECORDS}: its last step is not whole; run lockedroom verify {run}")
        yield step


def _advantages(estimator: Estimator, records: Sequence[Record], group: int, ema: float) -> Advantages:
    drawn = [record.completion for record in records]
    lengths_N = torch.tensor([len(one.token_ids or ()) if one is not None else 0 for one in drawn])
    mask_NT = torch.arange(max(1, int(lengths_N.max()))) < lengths_N[:, None]
    # Only the sum of k1 over a completion is read, so all of it may stand on the first token.
    k1_NT = torch.zeros(mask_NT.shape, dtype=torch.float64)
    for n, one in enumerate(drawn):
        if one is not None and one.logprob is not None and one.ref_logprob is not None:
            k1_NT[n, 0] = one.logprob - one.ref_logprob
    scores = [record.result if isinstance(record.result, Score) else None for record in records]
    rewards_N = torch.tensor([0.0 if one is None else one.reward for one in scores], dtype=torch.float64)
    passed_N = torch.tensor([one is not None and one.details.outcome is Outcome.CORRECT for one in scores])
    scored_N = torch.tensor([one is not None for one in scores])
    return estimate_advantages(
        estimator, rewards_N.view(-1, group), scored_N.view(-1, group), mask_NT,
        k1_NT=k1_NT, passed_PG=passed_N.view(-1, group), ema=ema,
    )  # fmt: skip
