"""`export run`: a finished run as an Inspect log, as samples of lm-evaluation-harness, or as a Parquet table."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from lockedroom.adapters.exported import answer_text
from lockedroom.adapters.logs_inspect import api
from lockedroom.errors import BadInput, MissingExtra
from lockedroom.jsonl import encode_lines, read_batches
from lockedroom.policy.declared import UNDECLARED
from lockedroom.records import Completion, Example, Failure, FinishReason, Outcome, Record, Score
from lockedroom.results.run_folder import EXAMPLES, RECORDS, write_atomically, writing
from lockedroom.results.verify import verify
from lockedroom.safeguards.manifest import Manifest

ROWS_TOGETHER = 2048
_SURROGATE = re.compile("[\ud800-\udfff]")


def export_run(run: Path, to: str, out: Path) -> int:
    """Verify a run, write the file `out`, and return the number of attempts in it.

    Raises Tampered for a run that does not verify, and BadInput for an unknown target, a file that exists, or a package that is missing.
    """
    write = WRITERS.get(to)
    if write is None:
        raise BadInput(f"--to {to!r}: unknown target; use one of {', '.join(WRITERS)}")
    if out.exists():
        raise BadInput(f"{out}: exists already; name another --out, or remove it")
    manifest = verify(run).manifest
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        return write(run, manifest, out)


def attempts_of(run: Path, draws: int) -> Iterator[tuple[Example, list[Record]]]:
    """Yield every example of a run with its records."""
    records = (record for batch in read_batches(run / RECORDS, Record) for record in batch.rows)
    for batch in read_batches(run / EXAMPLES, Example):
        for example in batch.rows:
            yield example, list(itertools.islice(records, draws))


def _parquet(run: Path, manifest: Manifest, out: Path) -> int:
    """One row an attempt; a failure has no reward (null) and says why in `failure`."""
    try:
        import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types
        import pyarrow.parquet as pq  # type: ignore[import-untyped]
    except ImportError:
        raise MissingExtra("writing Parquet", "parquet") from None
    kinds = {"draw": pa.int64(), "reward": pa.float64(), "logprob": pa.float64(), "ref_logprob": pa.float64()}
    schema = pa.schema(
        [(name, kinds.get(name, pa.string())) for name in PARQUET_COLUMNS], {"lockedroom": manifest.run_id}
    )
    rows = (_row(example, record) for example, group in attempts_of(run, manifest.draws) for record in group)
    count = 0
    temporary = out.with_name(f".{out.name}.writing")
    try:
        with pq.ParquetWriter(temporary, schema) as writer:
            while part := list(itertools.islice(rows, ROWS_TOGETHER)):
                writer.write_table(pa.Table.from_pylist(part, schema=schema))
                count += len(part)
        temporary.replace(out)
    except UnicodeEncodeError:
        raise BadInput(
            f"{run}: a completion holds a lone surrogate, which Parquet cannot hold; export it --to lm-eval"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
    return count


PARQUET_COLUMNS = (
    "id",
    "draw",
    "prompt",
    "expected_answer",
    "completion",
    "logprob",
    "ref_logprob",
    "finish_reason",
    "reward",
    "code",
    "outcome",
    "parsed",
    "message",
    "failure",
)


def _row(example: Example, record: Record) -> dict[str, Any]:
    drawn, result = record.completion or Completion(""), record.result
    row: dict[str, Any] = {
        "id": record.id,
        "draw": record.draw,
        "prompt": example.prompt,
        "expected_answer": answer_text(example.expected_answer),
        "completion": None if record.completion is None else drawn.text,
        "logprob": drawn.logprob,
        "ref_logprob": drawn.ref_logprob,
        "finish_reason": None if drawn.finish_reason is None else drawn.finish_reason.value,
    }
    if isinstance(result, Failure):
        return {**row, "failure": result.code.value, "message": result.message}
    details = result.details
    return {
        **row,
        "reward": result.reward,
        "code": details.code,
        "outcome": details.outcome.value,
        "parsed": details.parsed,
        "message": details.message,
    }


def _lm_eval(run: Path, manifest: Manifest, out: Path) -> int:
    """One line an example, as `samples_*.jsonl`; an attempt without completion is null in `resps`, and left out where they are filtered."""
    lines: list[bytes] = []
    count = 0
    for number, (example, records) in enumerate(attempts_of(run, manifest.draws)):
        lines.append(encode_lines([_sample(number, example, records, manifest)]))
        count += len(records)
    write_atomically(out, b"".join(lines))
    return count


def _sample(number: int, example: Example, records: list[Record], manifest: Manifest) -> dict[str, Any]:
    doc = {"id": example.id, "prompt": example.prompt, "expected_answer": example.expected_answer}
    target = answer_text(example.expected_answer)
    drawn = [None if record.completion is None else record.completion.text for record in records]
    rewards = [record.result.reward for record in records if isinstance(record.result, Score)]
    sampling = manifest.room.sampling
    settings = {
        "temperature": sampling["temperature"],
        "max_gen_toks": sampling["max_tokens"],
        "until": sampling["stop"],
    }
    declared = {name: value for name, value in settings.items() if value != UNDECLARED}
    return {
        "doc_id": number,
        "doc": doc,
        "target": target,
        "arguments": {"gen_args_0": {"arg_0": example.prompt, "arg_1": declared}},
        "resps": [drawn],
        "filtered_resps": [text for text in drawn if text is not None],
        "filter": "none",
        "metrics": ["reward", "could_not_judge"],
        "doc_hash": _sha256(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _sha256(example.prompt),
        "target_hash": _sha256(target),
        "reward": sum(rewards) / len(rewards) if rewards else None,
        "could_not_judge": (len(records) - len(rewards)) / len(records),
    }


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _inspect(run: Path, manifest: Manifest, out: Path) -> int:
    """An `EvalLog`, one sample an attempt (the draw is the epoch); what could not be judged is unscored or an error."""
    log = api()
    from inspect_ai.model import GenerateConfig  # type: ignore[import-not-found,unused-ignore]

    if out.suffix not in (".eval", ".json"):
        raise BadInput(f"--out {out}: an Inspect log ends in .eval or .json; name it so")
    sampling = {
        name: value
        for name, value in (
            *((name, manifest.room.sampling.get(name)) for name in ("temperature", "top_p", "max_tokens")),
            ("stop_seqs", manifest.room.sampling.get("stop")),
        )
        if value not in (None, UNDECLARED, [], ())
    }
    samples = [
        _inspect_sample(example, record, manifest)
        for example, records in attempts_of(run, manifest.draws)
        for record in records
    ]
    dataset = manifest.room.dataset
    spec = log.EvalSpec(
        created=manifest.timing.started,
        task=dataset.split,
        dataset=log.EvalDataset(name=dataset.split, samples=dataset.examples),
        model=manifest.policy.name,
        model_generate_config=GenerateConfig(**sampling),
        config=log.EvalConfig(epochs=manifest.draws),
        run_id=manifest.run_id,
        metadata={"lockedroom_run": manifest.run_id, "scorer_source_sha256": manifest.room.scorer.source_sha256},
    )
    scored = [sample for sample in samples if sample.scores]
    results = log.EvalResults(
        total_samples=len(samples),
        completed_samples=sum(sample.error is None for sample in samples),
        scores=[_inspect_metrics(manifest, [record for sample in scored for record in sample.scores.values()])],
    )
    _refuse_surrogates(run, (record.completion for _, group in attempts_of(run, manifest.draws) for record in group))
    done = log.EvalLog(status="success", eval=spec, results=results, samples=samples)
    log.write_eval_log(done, str(out))
    return len(samples)


def _refuse_surrogates(run: Path, completions: Iterable[Completion | None]) -> None:
    """Raise BadInput for text that Inspect would write down as another."""
    if any(drawn is not None and _SURROGATE.search(drawn.text) for drawn in completions):
        raise BadInput(
            f"{run}: a completion holds a lone surrogate, which Inspect writes down as other text; export it --to lm-eval"
        )


def _inspect_sample(example: Example, record: Record, manifest: Manifest) -> Any:
    from inspect_ai.log import EvalError, EvalSample  # type: ignore[import-not-found,unused-ignore]
    from inspect_ai.model import ChatMessageUser, ModelOutput
    from inspect_ai.scorer import Score as InspectScore  # type: ignore[import-not-found,unused-ignore]

    name, result = manifest.scorer.name, record.result
    answer = example.expected_answer
    sample = EvalSample(
        id=record.id,
        epoch=record.draw + 1,
        input=example.prompt,
        target=answer if isinstance(answer, list) else answer_text(answer),
        messages=[ChatMessageUser(content=example.prompt)],
        output=ModelOutput(model=manifest.policy.name),
    )
    if record.completion is None:
        assert isinstance(result, Failure)  # verified: a score has a completion
        sample.error = EvalError(message=result.message, traceback="", traceback_ansi="")
        return sample
    long = record.completion.finish_reason is FinishReason.LENGTH
    sample.output = ModelOutput.from_content(
        manifest.policy.name, record.completion.text, stop_reason="max_tokens" if long else "stop"
    )
    sample.messages.append(sample.output.message)
    if isinstance(result, Failure):
        unscored = InspectScore.unscored(reason="scoring_failed", explanation=result.message)
        sample.scores = {name: unscored}
        return sample
    details = result.details
    metadata = {"code": details.code, "outcome": details.outcome.value}
    sample.scores = {
        name: InspectScore(value=result.reward, answer=details.parsed, explanation=details.message, metadata=metadata)
    }
    return sample


def _inspect_metrics(manifest: Manifest, scores: list[Any]) -> Any:
    from inspect_ai.log import EvalMetric, EvalScore

    judged = [score for score in scores if score.reason != "scoring_failed"]
    correct = sum(score.metadata["outcome"] == Outcome.CORRECT.value for score in judged)
    values = (
        {"mean": sum(score.value for score in judged) / len(judged), "pass": correct / len(judged)} if judged else {}
    )
    return EvalScore(
        name=manifest.scorer.name,
        scorer=manifest.scorer.name,
        scored_samples=len(judged),
        unscored_samples=len(scores) - len(judged),
        metrics={name: EvalMetric(name=name, value=value) for name, value in values.items()},
    )


WRITERS: dict[str, Callable[[Path, Manifest, Path], int]] = {
    "inspect": _inspect,
    "lm-eval": _lm_eval,
    "parquet": _parquet,
}
