"""Reader of Inspect logs (`.eval`, `.json`), through Inspect's own Python API."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lockedroom.adapters.reading import (
    Asked,
    Attempt,
    Log,
    chosen,
    known,
    not_drawn,
    once,
    question_of,
    scored,
    whole_text,
)
from lockedroom.adapters.writing import not_scored
from lockedroom.errors import BadInput
from lockedroom.records import Completion, Failure, FinishReason, Score
from lockedroom.visible import visible
from lockedroom.wording import counted

_FINISH = {"stop": FinishReason.STOP, "max_tokens": FinishReason.LENGTH, "model_length": FinishReason.LENGTH}
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


def read(path: Path, asked: Asked) -> Log:
    """Read a log, every sample and epoch; a sample that ended with an error stays an attempt."""
    if asked.answer_field is not None:
        raise BadInput("--answer-field: an Inspect log keeps the answer as the sample's target; leave the flag out")
    log = _open(path)
    if not log.samples:
        raise BadInput(f"{path}: the log holds no attempt ({log.status}); nothing was imported")
    samples = sorted(log.samples, key=lambda sample: sample.epoch)
    once(path, ((f"sample {sample.id!r}, epoch {sample.epoch}", str(path)) for sample in samples))
    name, notes = chosen(path, asked.score, (name for sample in samples for name in _scores(sample)))
    attempts = [_attempt(path, sample, name) for sample in samples]
    sampling, differing = _sampling(log, samples)
    policy = {"model": log.eval.model, "task": log.eval.task, "created": str(log.eval.created)}
    notes += [*differing, *_not_in_the_log(log), *_further_choices(samples)]
    return Log(attempts, [path], {"policy": known(policy), "sampling": known(sampling)}, name, notes)


def _sampling(log: Any, samples: Sequence[Any]) -> tuple[dict[str, Any], list[str]]:
    """Return how the completions were drawn: as each model call says, or else as the eval was configured."""
    found = [_settings(call.config) for sample in samples if (call := _call_of(sample)) is not None]
    if not found:  # recorded outputs, or a log without events
        return _settings(log.eval.model_generate_config.merge(log.plan.config)), []
    if any(settings != found[0] for settings in found):
        return {}, ["samples were drawn under differing settings, so the sampling stays undeclared"]
    return found[0], []


def _call_of(sample: Any) -> Any:
    """Return the model call that gave the sample's completion; a solver may make others, and so may a model that grades."""
    calls = [event for event in sample.events if event.event == "model" and event.output == sample.output]
    return calls[-1] if calls else None


def _settings(config: Any) -> dict[str, Any]:
    return {
        "temperature": config.temperature,
        "top_p": config.top_p,
        "top_k": config.top_k,
        "max_tokens": config.max_tokens,
        "stop": config.stop_seqs,
        "seed_scheme": None if config.seed is None else f"inspect seed {config.seed}",
    }


def _not_in_the_log(log: Any) -> list[str]:
    """Say how many attempts an eval that was cut short had still to make: the log holds no prompt of theirs."""
    planned = len(log.eval.dataset.sample_ids or ()) * (log.eval.config.epochs or 1)
    missing = planned - len(log.samples)
    if missing <= 0:
        return []
    return [
        f"{missing} of {counted(planned, 'attempt is', 'attempts are')} not in the log ({log.status}); --dataset FILE counts them as missing"
    ]


def _further_choices(samples: Sequence[Any]) -> list[str]:
    further = sum(max(len(sample.output.choices) - 1, 0) for sample in samples)
    return [f"{further} further choices of the model: Inspect scores the first alone"] if further else []


def _open(path: Path) -> Any:
    log = api()
    if path.suffix not in (".eval", ".json"):
        raise BadInput(f"{path}: an Inspect log ends in .eval or .json; check --from and the file")
    if path.suffix == ".eval" and not zipfile.is_zipfile(path):
        raise BadInput(f"{path}: not a whole .eval archive: it was cut short, or is no log; check --from and the file")
    try:
        return log.read_eval_log(str(path))
    except Exception as error:  # noqa: BLE001  (whatever its decompressors and pydantic raise for a broken file)
        said = " ".join(line.strip() for line in (str(error) or type(error).__name__).splitlines()[:3])
        raise BadInput(
            f"{path}: Inspect cannot read this log: {visible(said, 200)}; check --from and the file"
        ) from None


def _attempt(path: Path, sample: Any, name: str | None) -> Attempt:
    where = f"{path}: sample {sample.id!r}, epoch {sample.epoch}"
    target = sample.target if isinstance(sample.target, str) or len(sample.target) != 1 else sample.target[0]
    choices = sample.output.choices
    result: Score | Failure
    drawn = None
    if not choices:
        broke = sample.error.message if sample.error is not None else sample.output.error
        result = not_drawn(broke or "the output has no choice")
    else:
        drawn = Completion(choices[0].message.text, finish_reason=_FINISH.get(choices[0].stop_reason))
        result = _score(sample, name)
    return Attempt(
        where,
        str(sample.id),
        whole_text(_prompt(sample.input)),
        target,
        drawn,
        result,
        question=question_of(_prompt(sample.input)),
        metadata={"choices": list(sample.choices)} if sample.choices else None,
    )


def _prompt(given: Any) -> Any:
    return given if isinstance(given, str) else [{"role": message.role, "content": message.text} for message in given]


def _scores(sample: Any) -> dict[str, tuple[Any, Any]]:
    """Return every value and its score by name; a score of several values gives `NAME.KEY` for each."""
    found: dict[str, tuple[Any, Any]] = {}
    for name, score in (sample.scores or {}).items():
        parts = {f"{name}.{key}": value for key, value in score.value.items()} if isinstance(score.value, dict) else {}
        found |= {part: (value, score) for part, value in (parts or {name: score.value}).items()}
    return found


def _score(sample: Any, name: str | None) -> Score | Failure:
    if sample.error is not None:
        return not_scored(visible(f"the sample ended with an error: {sample.error.message}", 300))
    value, score = _scores(sample).get(name or "", (None, None))
    if score is None:
        return not_scored("the log holds no score of this sample")
    value = _LETTERS.get(value, value) if isinstance(value, str) else value
    return scored(value, parsed=score.answer, message=score.explanation or "")
