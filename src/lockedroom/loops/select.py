"""Loop B: spend draws, choose among them, and say what it bought. The policy does not change.

Read top to bottom: `select` takes a finished run with several draws an example (live draws are such a run too), lets the
selector pick from groups of n draws, and writes a new run that holds the picks, in the same room, with the selector and n
as its declared knob. Memory does not grow with the number of draws.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.dataset.load import canonical_line
from lockedroom.jsonl import encode_lines, read_batches
from lockedroom.loops.opening.engine import Engine
from lockedroom.loops.selecting.opening import (
    Chosen,
    Judges,
    SelectConfig,
    Source,
    encode_select_config,
    open_fresh,
    open_judges,
    open_selector,
    open_source,
    require_selector,
    settle_select_config,
)
from lockedroom.loops.selecting.parcels import judge_draws, judged_on
from lockedroom.records import Example, Record
from lockedroom.results.evaluation.exact import EXACT_JSONL
from lockedroom.results.evaluation.rendering import render_summary
from lockedroom.results.evaluation.summary import Summary, summarise
from lockedroom.results.evaluation.tally import Tally
from lockedroom.results.notebook import as_html
from lockedroom.results.run_folder import (
    EXAMPLES,
    RECORDS,
    SUMMARY_JSON,
    SUMMARY_MD,
    GrowingFile,
    RunFolder,
    indented_json,
    writing,
)
from lockedroom.results.selection.files import (
    ANSWERS,
    CHOICES,
    CONFIRM,
    POOL,
    PROXY_RESULTS,
    SELECTION_JSON,
    SELECTION_MD,
    Answers,
    read_exact,
)
from lockedroom.results.selection.numbers import Selection, best_at, confirm, finish
from lockedroom.results.selection.picking import make_pool, pick, places_of, tiers_of
from lockedroom.results.selection.rendering import render_selection
from lockedroom.results.selection.sums import SelectionSums
from lockedroom.safeguards import manifest as manifests

RECORDS_AT_A_TIME = 16_384
Progress = Callable[[int], None]


class Selected(msgspec.Struct, frozen=True):
    """A finished selection; `source` is the manifest of the run it chose from."""

    path: Path
    manifest: manifests.Manifest
    summary: Summary
    selection: Selection
    source: manifests.Manifest

    def __fspath__(self) -> str:
        """The run folder: a result stands wherever a path may."""
        return str(self.path)

    def _repr_html_(self) -> str:
        """What the selection bought, as a notebook shows it."""
        return as_html(render_selection(self.selection))


def select(
    config: SelectConfig,
    out: Path,
    *,
    resume: bool = False,
    engine: Engine | None = None,
    command: Sequence[str] = (),
    progress: Progress | None = None,
) -> Selected:
    """Choose among the draws of the run `config.run` and write the selection to the run folder `out`.

    With an `engine`, scorers that have to judge the draws anew do so there.
    `resume` takes over a folder that was interrupted: what stands there is made again and must be the same.
    Raises Tampered for a run that does not verify, NotComparable for fresh draws that are not of the same policy in the
    same room, and BadInput for anything else that cannot be used.
    """
    clock = _Clock()
    config = settle_select_config(config)
    require_selector(config.selector)
    source = open_source(Path(config.run))
    fresh = None if config.confirm is None else open_fresh(Path(config.confirm), source)
    with contextlib.ExitStack() as stack:
        judges = open_judges(config, source, stack)
        chosen = open_selector(config, source, judges, stack)
        run = RunFolder(out, encode_select_config(config), draws=1, resume=resume)
        try:
            on = None if engine is None or (judges.measure, judges.proxy) == (None, None) else (engine, config)
            sums, tally = _choose(run, source, judges, chosen, on=on, progress=progress)
            files = _names(source, judges, chosen)
            confirmed = None
            if fresh is not None:
                again = _confirm_plan(chosen, sums)
                confirmed = confirm(sums, _choose(run, fresh, judges, again, on=on, progress=progress)[0])
                files += _names(fresh, judges, chosen)
            exact = _take_exact(run, source, judges)
            selection = finish(sums, source_run_id=source.manifest.run_id, exact=exact, confirmed=confirmed)
            return _close(
                run, source, judges, chosen, selection=selection, tally=tally, files=files,
                timing=clock.read(selection.examples * selection.draws), command=command,
            )  # fmt: skip
        except BaseException:
            _remove(run)  # everything here can be made again from the run
            raise


def _choose(
    run: RunFolder,
    source: Source,
    judges: Judges,
    chosen: Chosen,
    *,
    on: tuple[Engine, SelectConfig] | None,
    progress: Progress | None,
) -> tuple[SelectionSums, Tally]:
    """Stream the pool through the selector: write the pool, the picks and (for the pool itself) the chosen records."""
    draws = source.manifest.draws
    spec = source.manifest.scorer if judges.measure is None else judges.measure.spec
    sums = SelectionSums(chosen.plan, draws, chosen.parse)
    tally = Tally(draws=1, codes={}, failures={}, passes={}, graded_passes={})
    with _growing(run, source, judges, chosen) as grown:
        for examples, records, told in _judged(source, judges) if on is None else judged_on(*on, source, judges):
            if chosen.reader is not None:
                chosen.reader.read(records)
            pools = [
                make_pool(example, records[i : i + draws], told[i : i + draws], chosen.plan.ties)
                for example, i in zip(examples, range(0, len(records), draws), strict=True)
            ]
            places = [places_of(chosen.selector, pool) for pool in pools]
            picks = [pick(chosen.selector, pool, chosen.plan.ns, one) for pool, one in zip(pools, places, strict=True)]
            for pool, row, one in zip(pools, picks, places, strict=True):
                sums.add(pool, row, tiers_of(chosen.selector, pool, one))
            grown.append(CHOICES, picks)
            if judges.measure is not None:
                grown.append(POOL, records)
            if judges.proxy is not None:
                said = [Record(one.id, one.draw, None, result) for one, result in zip(records, told, strict=True)]
                grown.append(PROXY_RESULTS, said)
            if chosen.reader is not None:
                grown.append(ANSWERS, [Answers(pool.example.id, pool.answers(chosen.parse)) for pool in pools])
            if not source.prefix:
                best = [pool.records[row.picks[-1][0]] for pool, row in zip(pools, picks, strict=True)]
                kept = [Record(one.id, 0, one.completion, one.result) for one in best]
                run.examples.append(canonical_line(examples), len(examples))
                run.records.append(encode_lines(kept), len(kept))
                tally.add(kept, spec)
            if progress is not None:
                progress(len(records))
    return sums, tally


def _judged(source: Source, judges: Judges) -> Iterator[tuple[list[Example], list[Record], Sequence[Any]]]:
    """Yield examples, their records as the measuring scorer judges them, and what the selector would be told of each."""
    draws = source.manifest.draws
    records = (record for batch in read_batches(source.path / RECORDS, Record) for record in batch.rows)
    size = max(1, RECORDS_AT_A_TIME // draws)
    for batch in read_batches(source.path / EXAMPLES, Example):
        for start in range(0, len(batch.rows), size):
            examples = batch.rows[start : start + size]
            old = list(itertools.islice(records, len(examples) * draws))
            yield examples, *judge_draws(examples, old, judges.measure, judges.proxy)


def _confirm_plan(chosen: Chosen, sums: SelectionSums) -> Chosen:
    plan = msgspec.structs.replace(chosen.plan, ns=(chosen.plan.ns[best_at(sums)],))
    return msgspec.structs.replace(chosen, plan=plan)


class _Grown:
    """The files of a selection that grow line by line, by name."""

    def __init__(self, files: dict[str, GrowingFile]) -> None:
        self._files = files

    def append(self, name: str, rows: Sequence[Any]) -> None:
        self._files[name].append(encode_lines(rows), len(rows))


@contextlib.contextmanager
def _growing(run: RunFolder, source: Source, judges: Judges, chosen: Chosen) -> Iterator[_Grown]:
    """Open the files of a pool; verdicts that stand are copied as they are, and the pool then does not grow."""
    names = _names(source, judges, chosen)
    with writing(run.path):
        if judges.measure is None:
            names.remove(f"{source.prefix}{POOL}")
            shutil.copyfile(source.path / RECORDS, run.path / f"{source.prefix}{POOL}")
        files = {name.removeprefix(source.prefix): GrowingFile(run.path / name, 0) for name in names}
    try:
        yield _Grown(files)
        for file in files.values():
            file.close()
    finally:
        for file in files.values():
            file.abandon()


def _names(source: Source, judges: Judges, chosen: Chosen) -> list[str]:
    proxy = [PROXY_RESULTS] if judges.proxy else []
    answers = [ANSWERS] if chosen.reader else []
    return [f"{source.prefix}{name}" for name in (POOL, CHOICES, *proxy, *answers)]


def _take_exact(run: RunFolder, source: Source, judges: Judges) -> dict[str, float] | None:
    """Copy the exact pass probabilities of the run, where it has them and they are of the scorer that measures."""
    if EXACT_JSONL not in source.manifest.files or judges.measure is not None:
        return None
    with writing(run.path):
        shutil.copyfile(source.path / EXACT_JSONL, run.path / EXACT_JSONL)
    return dict(read_exact(run.path))


def _remove(run: RunFolder) -> None:
    for prefix, name in itertools.product(("", CONFIRM), (POOL, CHOICES, PROXY_RESULTS, ANSWERS, EXACT_JSONL)):
        (run.path / f"{prefix}{name}").unlink(missing_ok=True)
    for name in (SELECTION_JSON, SELECTION_MD):
        (run.path / name).unlink(missing_ok=True)
    run.abandon(remove=True)


def _close(
    run: RunFolder,
    source: Source,
    judges: Judges,
    chosen: Chosen,
    *,
    selection: Selection,
    tally: Tally,
    files: list[str],
    timing: manifests.Timing,
    command: Sequence[str],
) -> Selected:
    spec = source.manifest.scorer if judges.measure is None else judges.measure.spec
    summary = summarise(tally, spec, chosen.plan.confidence)
    missing = tally.failures.get("missing_completion")
    manifest = msgspec.structs.replace(
        source.manifest,
        **manifests.made_here(),
        kind="select",
        room=msgspec.structs.replace(source.manifest.room, scorer=judges.measured_by),
        scorer=spec,
        selection=chosen.knob,
        draws=1,
        command=list(command),
        inputs=msgspec.structs.replace(
            source.manifest.inputs,
            missing_completions=missing.count if missing else 0,
            missing_first=tuple(name for name, _ in missing.shown) if missing else (),
        ),
        timing=timing,
        files={},
    )
    derived = {
        SUMMARY_JSON: indented_json(summary),
        SUMMARY_MD: render_summary(summary, manifest).encode(),
        SELECTION_JSON: indented_json(selection),
        SELECTION_MD: render_selection(selection).encode(),
    }
    entries = run.finish(derived)
    exact = [EXACT_JSONL] if (run.path / EXACT_JSONL).exists() else []
    entries |= {name: manifests.measure_file(run.path / name) for name in (*files, *exact)}
    manifest = msgspec.structs.replace(manifest, files=dict(sorted(entries.items())))
    run.seal(manifest)
    return Selected(run.path, manifest, summary, selection, source.manifest)


class _Clock:
    """Wall and CPU time since it was made."""

    def __init__(self) -> None:
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def read(self, attempts: int) -> manifests.Timing:
        wall, cpu = time.monotonic() - self._wall, time.process_time() - self._cpu
        return manifests.Timing(self._started, round(wall, 3), round(cpu, 3), attempts)
