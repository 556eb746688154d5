"""Loop A: draw completions, score them, estimate E[R], and name every failure mode.

Read top to bottom: `evaluate` opens what the configuration names, streams examples through `attempt`, and closes the
run with its summary and manifest. Memory does not grow with the number of records, except for the check that no example
id appears twice.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from lockedroom.dataset.load import canonical_line, read_examples
from lockedroom.errors import BadInput, CannotWrite, Sealed
from lockedroom.jsonl import encode_lines, read_batches
from lockedroom.loops.attempt import attempt
from lockedroom.loops.evaluating.configuration import EvaluateConfig, check_config, encode_config, settle
from lockedroom.loops.evaluating.exact import measure_exactly, require_exact
from lockedroom.loops.evaluating.receipts import USAGE_JSON, ReceiptFile
from lockedroom.loops.evaluating.resuming import take_over
from lockedroom.loops.evaluating.streaming import open_receipts, stream_records
from lockedroom.loops.opening.engine import Engine, refuse_streaming
from lockedroom.loops.opening.named import Opened, identify, open_named, room_of
from lockedroom.policy.recorded import RecordedPolicy
from lockedroom.protocols import BatchScorer, TokenPolicy
from lockedroom.records import Example, Record, Sampling
from lockedroom.results.evaluation.exact import (
    EXACT_JSON,
    EXACT_JSONL,
    Exact,
    ExactExample,
    render_exact,
    sampled_beside,
    sum_up,
)
from lockedroom.results.evaluation.rendering import render_summary
from lockedroom.results.evaluation.summary import Summary, summarise
from lockedroom.results.evaluation.tally import Tally
from lockedroom.results.notebook import as_html
from lockedroom.results.run_folder import EXAMPLES, PIECES, SUMMARY_JSON, SUMMARY_MD, RunFolder, indented_json
from lockedroom.safeguards import manifest as manifests
from lockedroom.safeguards.room import ScorerIdentity
from lockedroom.scorer.identity import source_sha256
from lockedroom.visible import visible
from lockedroom.wording import counted

# A chunk is what is lost when a run is killed: about this many seconds of scoring.
CHUNK_SECONDS = 0.25
FIRST_CHUNK = 16
# Attempts that are held in memory at a time.
LONGEST_CHUNK = 4096
LONGEST_ID_SHOWN = 60


class Evaluated(msgspec.Struct, frozen=True):
    """A finished run, and what a person should be told about how it went."""

    path: Path
    manifest: manifests.Manifest
    summary: Summary
    exact: Exact | None = None

    def __fspath__(self) -> str:
        """The run folder: a result stands wherever a path may."""
        return str(self.path)

    def _repr_html_(self) -> str:
        """The summary, as a notebook shows it."""
        return as_html(
            render_summary(self.summary, self.manifest) + ("" if self.exact is None else render_exact(self.exact))
        )


Progress = Callable[[int], None]


def evaluate(
    config: EvaluateConfig,
    out: Path,
    *,
    resume: bool = False,
    workers: int = 1,
    engine: Engine | None = None,
    command: Sequence[str] = (),
    progress: Progress | None = None,
) -> Evaluated:
    """Measure a policy on a dataset and write the run folder `out`, here, in `workers` processes or on an `engine`.

    Raises BadInput for anything that cannot be used as given, before or while running; what was finished stays on disk
    and `resume` continues it.
    """
    check_config(config, workers)
    clock = _Clock()
    with open_named(config) as opened:
        draws = range(opened.draws)
        if config.exact:
            require_exact(opened.policy, opened.scorer)
        if engine is not None:
            refuse_streaming(opened.policy)
        scorer = identify(opened.scorer)
        config = settle(config, scorer, opened.draws)
        run = RunFolder(out, encode_config(config), draws=len(draws), resume=resume)
        try:
            if opened.costly:
                _validate_first(config, opened)
            tally = Tally(draws=len(draws), codes={}, failures={}, passes={}, graded_passes={})
            receipts = open_receipts(opened, run, workers)
            if engine is not None or workers > 1 or (run.path / PIECES).is_dir():
                parts = _parts(config, opened, run, identity=scorer, workers=workers, engine=engine)
                _in_parts(config, opened, run, tally, parts, progress=progress)
            else:
                for records in _records(config, opened, run, draws, receipts):
                    tally.add(records, opened.scorer.spec)
                    run.records.append(encode_lines(records), len(records))
                    if progress is not None:
                        progress(len(records))
            _refuse_changed(config, opened)
            inputs = _reconcile(config, opened, tally)
            summary = summarise(tally, opened.scorer.spec, config.confidence)
            timing = clock.read(summary.attempts - run.recorded)
            return _close(
                config, opened, run, summary,
                scorer=scorer, inputs=inputs, timing=timing, command=command, receipts=receipts,
            )  # fmt: skip
        except (BadInput, Sealed) as error:
            # The disk is full, or attempts were costly: what is finished is kept. Else the run is made again in no time.
            run.abandon(remove=not isinstance(error, CannotWrite) and not (opened.costly and run.holds_attempts()))
            raise
        except BaseException:  # Ctrl-C and bugs too: the files are closed, and what is finished stays for --resume
            run.abandon(remove=False)
            raise


def _records(
    config: EvaluateConfig, opened: Opened, run: RunFolder, draws: range, receipts: ReceiptFile | None
) -> Iterator[list[Record]]:
    """Yield the records of whole examples: first those of an interrupted run, then new ones."""
    if receipts is not None:
        yield from stream_records(opened, run, config.sampling, _examples(config, opened, run), receipts)
        return
    old = run.old_records()
    position = 0
    longest = max(1, LONGEST_CHUNK // len(draws))
    # A model reads `batch` sequences at a time, and pads to them: fewer cost as much.
    least = min(longest, -(-config.backend.batch // len(draws))) if isinstance(opened.policy, TokenPolicy) else 1
    chunk = min(max(least, FIRST_CHUNK), longest) if opened.costly else longest
    for batch in _examples(config, opened, run):
        start = 0
        while start < len(batch):
            if position < run.recorded:
                part = batch[start : start + (run.recorded - position) // len(draws)]
                records = take_over(opened.policy, part, list(itertools.islice(old, len(part) * len(draws))), draws)
            else:
                part = batch[start : start + chunk]
                began = time.monotonic()
                records = attempt(opened.policy, opened.scorer, part, draws, config.sampling)
                if opened.costly:
                    chunk = _next_chunk(chunk, time.monotonic() - began, least, longest)
            yield records
            start += len(part)
            position += len(records)


def _examples(config: EvaluateConfig, opened: Opened, run: RunFolder) -> Iterator[list[Example]]:
    """Yield the validated examples, keeping their canonical form in the run folder."""
    count = 0
    for rows in read_examples(Path(config.dataset), opened.first_refused, scorer_name=opened.scorer.spec.name):
        batch = rows if config.limit is None else rows[: config.limit - count]
        if not batch:
            return
        run.examples.append(canonical_line(batch), len(batch))
        count += len(batch)
        yield batch
    _refuse_short(config, count)


def _refuse_short(config: EvaluateConfig, count: int) -> None:
    if config.limit is not None and count < config.limit:
        raise BadInput(
            f"--limit {config.limit}: {config.dataset} holds only {counted(count, 'example')}; lower the limit"
        )


def _parts(
    config: EvaluateConfig,
    opened: Opened,
    run: RunFolder,
    *,
    identity: ScorerIdentity,
    workers: int,
    engine: Engine | None,
) -> Callable[[range], Iterator[tuple[Tally, Iterator[tuple[bytes, int]]]]]:
    """Return what scores examples elsewhere: pieces in processes of this machine, or parcels on an engine."""
    if engine is None:
        from lockedroom.loops.evaluating.pieces import run_pieces  # multiprocessing, for those who ask for it

        return lambda examples: run_pieces(config, opened, run.path, examples, workers)
    from lockedroom.loops.evaluating.parcels import run_parcels

    return lambda examples: run_parcels(config, opened, run.path, examples, identity=identity, engine=engine)


def _in_parts(
    config: EvaluateConfig,
    opened: Opened,
    run: RunFolder,
    tally: Tally,
    parts: Callable[[range], Iterator[tuple[Tally, Iterator[tuple[bytes, int]]]]],
    *,
    progress: Progress | None,
) -> None:
    """Take in the whole dataset, let `parts` of it be scored elsewhere, and join them in order."""
    draws = range(opened.draws)
    old = run.old_records()
    finished = run.recorded // len(draws)
    count = 0
    for batch in _examples(config, opened, run):
        part = batch[: max(0, finished - count)]
        if part:
            records = take_over(opened.policy, part, list(itertools.islice(old, len(part) * len(draws))), draws)
            tally.add(records, opened.scorer.spec)
            run.records.append(encode_lines(records), len(records))
        if isinstance(opened.policy, RecordedPolicy):
            opened.policy.rows_of([example.id for example in batch[len(part) :]])  # finds repeated and left-over ids
        count += len(batch)
    for piece_tally, blocks in parts(range(finished, count)):
        for block, lines in blocks:
            run.records.append(block, lines)
        tally.merge(piece_tally)
        if progress is not None:
            progress(piece_tally.examples * opened.draws)


def _validate_first(config: EvaluateConfig, opened: Opened) -> None:
    """Read the whole dataset once before anything is spent on its first example."""
    count = 0
    for rows in read_examples(Path(config.dataset), opened.first_refused, scorer_name=opened.scorer.spec.name):
        count += len(rows)
        if config.limit is not None and count >= config.limit:
            return
    _refuse_short(config, count)


def _next_chunk(chunk: int, seconds: float, least: int, longest: int) -> int:
    return max(least, min(chunk * 2, longest, int(chunk * CHUNK_SECONDS / max(seconds, 1e-6))))


def _refuse_changed(config: EvaluateConfig, opened: Opened) -> None:
    """A person's scorer is read again when its process has to be replaced, so the file has to stay as it was."""
    if isinstance(opened.scorer, BatchScorer) and source_sha256(opened.scorer.source) != config.scorer_sha256:
        raise BadInput(
            f"{opened.scorer.source}: the scorer was changed while it judged this run; start a new run in another folder"
        )


def _reconcile(config: EvaluateConfig, opened: Opened, tally: Tally) -> manifests.Inputs:
    """Account for the inputs: what the completions file held that no example asked for, and what it lacked."""
    if not isinstance(opened.policy, RecordedPolicy):
        return manifests.Inputs(dataset=config.dataset)
    missing = tally.failures.get("missing_completion")
    if missing is not None and missing.count == tally.examples * tally.draws:
        raise BadInput(
            f"{opened.policy.path}: holds no completion for any of the {counted(tally.examples, 'example')} of {config.dataset}; "
            "these are completions for another dataset"
        )
    extra = [] if config.limit is not None else opened.policy.leftovers()
    return manifests.Inputs(
        dataset=config.dataset,
        completions=str(opened.policy.path),
        completions_sha256=opened.policy.sha256(),
        missing_completions=missing.count if missing else 0,
        missing_first=tuple(example_id for example_id, _ in missing.shown) if missing else (),
        extra_ids=len(extra),
        extra_first=tuple(visible(name, LONGEST_ID_SHOWN) for name in extra[:3]),
    )


def _close(
    config: EvaluateConfig,
    opened: Opened,
    run: RunFolder,
    summary: Summary,
    *,
    scorer: ScorerIdentity,
    inputs: manifests.Inputs,
    timing: manifests.Timing,
    command: Sequence[str],
    receipts: ReceiptFile | None,
) -> Evaluated:
    manifest = manifests.Manifest(
        **manifests.made_here(),
        kind="evaluate",
        room=room_of(opened, run, config.split or Path(config.dataset).stem, scorer),
        policy=opened.policy.spec,
        scorer=opened.scorer.spec,
        selection={"draws": opened.draws, "selector": "none"},
        draws=opened.draws,
        seed=config.sampling.seed,
        command=list(command),
        inputs=inputs,
        threads=config.threads,
        timing=timing,
        files={},
    )
    derived = {SUMMARY_JSON: indented_json(summary), SUMMARY_MD: render_summary(summary, manifest).encode()}
    exact = None
    if config.exact:
        rows = _exact_rows(opened, run, config.sampling)
        exact = sum_up(rows, sampled_beside(summary), opened.draws, config.confidence)
        derived |= {EXACT_JSONL: encode_lines(rows), EXACT_JSON: indented_json(exact)}
    if receipts is not None:
        derived[USAGE_JSON] = indented_json(receipts.usage())
    manifest = msgspec.structs.replace(manifest, files=run.finish(derived))
    if receipts is not None:
        receipts.remove()
    run.seal(manifest)
    return Evaluated(run.path, manifest, summary, exact)


def _exact_rows(opened: Opened, run: RunFolder, sampling: Sampling) -> list[ExactExample]:
    policy, accepted = require_exact(opened.policy, opened.scorer)
    batches = read_batches(run.path / EXAMPLES, Example)
    return [row for batch in batches for row in measure_exactly(policy, accepted, batch.rows, sampling)]


class _Clock:
    """Wall and CPU time since it was made, children included."""

    def __init__(self) -> None:
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._wall, self._cpu = time.monotonic(), _cpu_seconds()

    def read(self, attempts: int) -> manifests.Timing:
        wall, cpu = time.monotonic() - self._wall, _cpu_seconds() - self._cpu
        return manifests.Timing(self._started, round(wall, 3), round(cpu, 3), attempts)


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
