"""Judging the saved completions of finished runs with another scorer: new runs, no policy called.

Everything but the instrument stays: examples, prompts, sampling, policy, token fields, and the attempts for which no
completion was drawn. The new run names its origin in `manifest.inputs.rescored_from`.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from lockedroom.dataset.load import canonical_line, first_refused_by
from lockedroom.errors import BadInput
from lockedroom.jsonl import encode_lines, read_batches
from lockedroom.loops.attempt import judge
from lockedroom.loops.opening.named import identify, open_scorer
from lockedroom.protocols import BatchScorer, Scorer
from lockedroom.records import Completion, Example, Failure, Record
from lockedroom.results.evaluation.inspection import read_summary
from lockedroom.results.evaluation.rendering import render_summary
from lockedroom.results.evaluation.summary import Summary, summarise
from lockedroom.results.evaluation.tally import Tally
from lockedroom.results.run_folder import EXAMPLES, RECORDS, SUMMARY_JSON, SUMMARY_MD, RunFolder, indented_json
from lockedroom.results.verify import verify
from lockedroom.safeguards import manifest as manifests
from lockedroom.safeguards.room import ScorerIdentity
from lockedroom.visible import visible

Progress = Callable[[int], None]


class RescoreConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Which scorer, and what it may spend; saved in the new run's `config.toml` with the run it was given."""

    scorer: str
    scorer_timeout: float = 5.0
    scorer_memory: int = 512


class Rescored(msgspec.Struct, frozen=True):
    """A new run beside the one it was made from."""

    origin: Path
    path: Path
    manifest: manifests.Manifest
    summary: Summary


def rescore_all(
    runs: Sequence[Path],
    outs: Sequence[Path],
    config: RescoreConfig,
    *,
    command: Sequence[str] = (),
    progress: Progress | None = None,
) -> list[Rescored]:
    """Verify every run, then write each one judged anew to its folder of `outs`, in order.

    Raises Tampered for a run that does not verify, and BadInput for a scorer that cannot judge its answers.
    """
    origins = [verify(run).manifest for run in runs]
    with open_scorer(config.scorer, timeout_s=config.scorer_timeout, memory_mb=config.scorer_memory) as scorer:
        identity = identify(scorer)
        for run in runs:
            _refuse_unjudgeable(run, scorer)
        return [
            _rescore(run, origin, out, scorer, identity, config=config, command=command, progress=progress)
            for run, origin, out in zip(runs, origins, outs, strict=True)
        ]


def judge_again(run: Path, draws: int, scorer: Scorer) -> Iterator[tuple[list[Example], list[Record]]]:
    """Yield the examples of a run in batches, and its records with this scorer's verdicts."""
    records = (record for batch in read_batches(run / RECORDS, Record) for record in batch.rows)
    for batch in read_batches(run / EXAMPLES, Example):
        old = list(itertools.islice(records, len(batch.rows) * draws))
        asked = [example for example in batch.rows for _ in range(draws)]
        results = judge(scorer, asked, [_drawn(record) for record in old])
        yield (
            batch.rows,
            [
                Record(record.id, record.draw, record.completion, result)
                for record, result in zip(old, results, strict=True)
            ],
        )


def _drawn(record: Record) -> Completion | Failure:
    if record.completion is not None:
        return record.completion
    assert isinstance(record.result, Failure)  # verified: a score has a completion
    return record.result


def _refuse_unjudgeable(run: Path, scorer: Scorer) -> None:
    first_refused = scorer.first_refused if isinstance(scorer, BatchScorer) else first_refused_by(scorer.accepts)
    for batch in read_batches(run / EXAMPLES, Example):
        index = first_refused([example.expected_answer for example in batch.rows])
        if index is not None:
            example = batch.rows[index]
            raise BadInput(
                f"{run / EXAMPLES}:{batch.first_line + index}: id {visible(example.id, 60)!r}: {scorer.spec.name} cannot "
                f"judge the expected answer {visible(str(example.expected_answer), 60)!r}; use a scorer that can"
            )


def _rescore(
    run: Path,
    origin: manifests.Manifest,
    out: Path,
    scorer: Scorer,
    identity: ScorerIdentity,
    *,
    config: RescoreConfig,
    command: Sequence[str],
    progress: Progress | None,
) -> Rescored:
    started, wall, cpu = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic(), time.process_time()
    folder = RunFolder(out, _encode_config(run, config), draws=origin.draws, resume=False)
    tally = Tally(draws=origin.draws, codes={}, failures={}, passes={}, graded_passes={})
    try:
        for examples, records in judge_again(run, origin.draws, scorer):
            folder.examples.append(canonical_line(examples), len(examples))
            folder.records.append(encode_lines(records), len(records))
            tally.add(records, scorer.spec)
            if progress is not None:
                progress(len(records))
        summary = summarise(tally, scorer.spec, read_summary(run).confidence)
        timing = manifests.Timing(
            started, round(time.monotonic() - wall, 3), round(time.process_time() - cpu, 3), summary.attempts
        )
        manifest = _manifest(run, origin, scorer, identity, timing=timing, command=command)
        derived = {SUMMARY_JSON: indented_json(summary), SUMMARY_MD: render_summary(summary, manifest).encode()}
        manifest = msgspec.structs.replace(manifest, files=folder.finish(derived))
        folder.seal(manifest)
    except BaseException:
        folder.abandon(remove=True)  # everything here can be made again from the origin
        raise
    return Rescored(run, out, manifest, summary)


def _encode_config(run: Path, config: RescoreConfig) -> bytes:
    import tomli_w

    return tomli_w.dumps({"rescore": str(run), **msgspec.structs.asdict(config)}).encode()


def _manifest(
    run: Path,
    origin: manifests.Manifest,
    scorer: Scorer,
    identity: ScorerIdentity,
    *,
    timing: manifests.Timing,
    command: Sequence[str],
) -> manifests.Manifest:
    """The origin's manifest with another instrument; its policy, room and selection are carried over as they are."""
    came_from = origin.inputs.rescored_from
    if came_from is None:
        digest = hashlib.sha256((run / manifests.NAME).read_bytes()).hexdigest()
        came_from = manifests.Origin(origin.run_id, digest)
    return msgspec.structs.replace(
        origin,
        **manifests.made_here(),
        kind="rescore",
        room=msgspec.structs.replace(origin.room, scorer=identity),
        scorer=scorer.spec,
        command=list(command),
        inputs=msgspec.structs.replace(origin.inputs, rescored_from=came_from),
        timing=timing,
        files={},
    )
