"""Reader of Inspect logs (`.eval`, `.json`), through Inspect's own Python API."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

from lockedroom.adapters.reading import Attempt, Log, known, not_drawn, scored, whole_text
from lockedroom.adapters.writing import not_scored
from lockedroom.errors import BadInput
from lockedroom.records import Completion, Failure, FinishReason, Score

_FINISH = {"stop": FinishReason.STOP, "max_tokens": FinishReason.LENGTH, "model_length": FinishReason.LENGTH}
# What Inspect's reader raises for a broken file (pydantic's and json's errors are ValueErrors).
_BROKEN = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OSError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
# How Inspect's accuracy reads the letters of a score.
_LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}


def api() -> Any:
    """Return `inspect_ai.log`. Raises BadInput, with the install line, where Inspect is not installed."""
    try:
        from inspect_ai import log  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise BadInput(
            "Inspect logs are read and written by Inspect's own Python API, which is not installed here; "
            "install it beside lockedroom: pip install inspect-ai"
        ) from None
    return log


def read(path: Path, answer_field: str | None) -> Log:
    """Read a log, every sample and epoch; a sample that ended with an error stays an attempt."""
    if answer_field is not None:
        raise BadInput("--answer-field: an Inspect log keeps the answer as the sample's target; leave the flag out")
    log = _open(path)
    if not log.samples:
        raise BadInput(f"{path}: the log holds no attempt ({log.status}); nothing was imported")
    samples = sorted(log.samples, key=lambda sample: sample.epoch)
    name = next(iter(sample.scores)) if (sample := next((s for s in samples if s.scores), None)) else None
    attempts = [_attempt(path, sample, name) for sample in samples]
    config = log.eval.model_generate_config
    sampling = {
        "temperature": config.temperature,
        "top_p": config.top_p,
        "top_k": config.top_k,
        "max_tokens": config.max_tokens,
        "stop": config.stop_seqs,
        "seed_scheme": None if config.seed is None else f"inspect seed {config.seed}",
    }
    policy = {"model": log.eval.model, "task": log.eval.task, "created": str(log.eval.created)}
    return Log(attempts, [path], {"policy": known(policy), "sampling": known(sampling)}, name)


def _open(path: Path) -> Any:
    log = api()
    if path.suffix not in (".eval", ".json"):
        raise BadInput(f"{path}: an Inspect log ends in .eval or .json; check --from and the file")
    try:
        return log.read_eval_log(str(path))
    except _BROKEN as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise BadInput(f"{path}: Inspect cannot read this log: {first}; check --from and the file") from None


def _attempt(path: Path, sample: Any, name: str | None) -> Attempt:
    where = f"{path}: sample {sample.id!r}, epoch {sample.epoch}"
    target = sample.target if isinstance(sample.target, str) or len(sample.target) != 1 else sample.target[0]
    choices = sample.output.choices
    result: Score | Failure
    drawn = None
    if sample.error is not None:
        result = not_drawn(sample.error.message)
    elif not choices:
        result = not_drawn(sample.output.error or "the output has no choice")
    else:
        drawn = Completion(choices[0].message.text, finish_reason=_FINISH.get(choices[0].stop_reason))
        result = _score(sample.scores, name)
    return Attempt(where, str(sample.id), whole_text(_prompt(sample.input)), target, drawn, result)


def _prompt(given: Any) -> Any:
    return given if isinstance(given, str) else [{"role": message.role, "content": message.text} for message in given]


def _score(scores: Any, name: str | None) -> Score | Failure:
    if name is None or not scores or name not in scores:
        return not_scored("the log holds no score of this sample")
    score = scores[name]
    value = _LETTERS.get(score.value, score.value) if isinstance(score.value, str) else score.value
    return scored(value, parsed=score.answer, message=score.explanation or "")
