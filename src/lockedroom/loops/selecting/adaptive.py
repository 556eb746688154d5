"""Rejection sampling on a live policy: drawing really stops at the first pass, so what is not needed is never paid for.

Examples are taken some at a time. Draw 0 is made for all of them, draw 1 for those that have not passed, and so on: waves.
A draw is seeded by (seed, example id, draw), so each is the one that drawing everything at once would have made.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from lockedroom.dataset.load import canonical_line, read_examples
from lockedroom.errors import BadInput, CannotWrite
from lockedroom.jsonl import encode_lines
from lockedroom.loops.attempt import attempt
from lockedroom.loops.evaluating.configuration import EvaluateConfig, check_config, encode_config, settle
from lockedroom.loops.opening.named import Opened, identify, open_named, room_of
from lockedroom.records import Example, Record
from lockedroom.results.evaluation.rendering import render_summary
from lockedroom.results.evaluation.summary import Summary, summarise
from lockedroom.results.evaluation.tally import Tally
from lockedroom.results.run_folder import (
    SUMMARY_JSON,
    SUMMARY_MD,
    GrowingFile,
    RunFolder,
    indented_json,
    writing,
)
from lockedroom.results.selection.adaptive import (
    ADAPTIVE_JSON,
    ATTEMPTS,
    KIND,
    Adaptive,
    AdaptiveSums,
    by_example,
    read_attempts,
)
from lockedroom.results.selection.selectors import passed
from lockedroom.safeguards import manifest as manifests
from lockedroom.safeguards.room import ScorerIdentity
from lockedroom.wording import counted

# Examples whose waves are drawn together: what a kill can cost.
EXAMPLES_AT_A_TIME = 64


class Rejected(msgspec.Struct, frozen=True):
    """A finished run of rejection sampling."""

    path: Path
    manifest: manifests.Manifest
    summary: Summary
    adaptive: Adaptive


def draw_until_pass(
    config: EvaluateConfig,
    out: Path,
    *,
    resume: bool = False,
    command: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
) -> Rejected:
    """Draw up to `config.draws` completions of each example, stop at the first pass, and write the run folder `out`.

    `resume` continues an interrupted one; it then ends with the same bytes of records. Raises BadInput.
    """
    check_config(config, 1)
    started, wall, cpu = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic(), time.process_time()
    with open_named(config) as opened:
        budget = opened.draws
        scorer = identify(opened.scorer)
        config = settle(config, scorer, budget)
        run = RunFolder(out, encode_config(config), draws=1, resume=resume)
        try:
            tally = Tally(draws=1, codes={}, failures={}, passes={}, graded_passes={})
            sums = AdaptiveSums(budget)
            with _attempts(run) as (file, old):
                for examples in _examples(config, opened, run):
                    for part, made in _made(config, opened, examples, run.recorded - sums.examples, old):
                        _enter(run, file, part, made, sums=sums, tally=tally, opened=opened)
                        if progress is not None:
                            progress(len(part))
                entry = file.close()
            timing = manifests.Timing(
                started, round(time.monotonic() - wall, 3), round(time.process_time() - cpu, 3), sums.draws
            )
            return _close(
                config, opened, run, scorer, tally=tally, sums=sums, attempts=entry, timing=timing, command=command
            )
        except BadInput as error:
            remove = not isinstance(error, CannotWrite) and not run.holds_attempts()
            if remove:
                (run.path / ATTEMPTS).unlink(missing_ok=True)
            run.abandon(remove=remove)
            raise
        except BaseException:  # Ctrl-C and bugs too: the files are closed, and what is finished stays for --resume
            run.abandon(remove=False)
            raise


@contextlib.contextmanager
def _attempts(run: RunFolder) -> Iterator[tuple[GrowingFile, Iterator[list[Record]]]]:
    """Yield the growing file of draws, cut to the examples that are recorded, and those examples' draws."""
    path, keep, examples = run.path / ATTEMPTS, 0, 0
    if path.exists() and run.recorded:
        with path.open("rb") as lines:
            last = b""
            for line in lines:
                name = (
                    msgspec.json.decode(line, type=_IdOnly).id.encode("utf-8", "surrogatepass")
                    if line.endswith(b"\n")
                    else b"\0"
                )
                if name != last:
                    examples, last = examples + 1, name
                if examples > run.recorded:
                    break
                keep += len(line)
    with writing(run.path):
        file = GrowingFile(path, keep)
    try:
        yield file, by_example(read_attempts(run.path, stop=keep)) if keep else iter(())
    finally:
        file.abandon()


class _IdOnly(msgspec.Struct):
    id: str


def _examples(config: EvaluateConfig, opened: Opened, run: RunFolder) -> Iterator[list[Example]]:
    count = 0
    for rows in read_examples(Path(config.dataset), opened.first_refused, scorer_name=opened.scorer.spec.name):
        batch = rows if config.limit is None else rows[: config.limit - count]
        if not batch:
            return
        run.examples.append(canonical_line(batch), len(batch))
        count += len(batch)
        yield batch
    if config.limit is not None and count < config.limit:
        raise BadInput(
            f"--limit {config.limit}: {config.dataset} holds only {counted(count, 'example')}; lower the limit"
        )


def _made(
    config: EvaluateConfig, opened: Opened, examples: list[Example], recorded: int, old: Iterator[list[Record]]
) -> Iterator[tuple[list[Example], list[list[Record]]]]:
    """Yield examples with their draws: first those of an interrupted run, then new ones."""
    known = max(0, min(recorded, len(examples)))
    if known:
        yield examples[:known], list(itertools.islice(old, known))
    for start in range(known, len(examples), EXAMPLES_AT_A_TIME):
        part = examples[start : start + EXAMPLES_AT_A_TIME]
        yield part, _waves(config, opened, part)


def _waves(config: EvaluateConfig, opened: Opened, examples: Sequence[Example]) -> list[list[Record]]:
    """Return the draws of each example, up to its first pass. A failure is no pass: drawing goes on."""
    made: list[list[Record]] = [[] for _ in examples]
    waiting = list(range(len(examples)))
    for draw in range(opened.draws):
        part = [examples[i] for i in waiting]
        for i, record in zip(
            waiting,
            attempt(opened.policy, opened.scorer, part, range(draw, draw + 1), config.sampling),
            strict=True,
        ):
            made[i].append(record)
        waiting = [i for i in waiting if not passed(made[i][-1].result)]
        if not waiting:
            break
    return made


def _enter(
    run: RunFolder,
    file: GrowingFile,
    examples: Sequence[Example],
    made: list[list[Record]],
    *,
    sums: AdaptiveSums,
    tally: Tally,
    opened: Opened,
) -> None:
    """Write draws before the records that say they are complete."""
    if [draws[0].id for draws in made] != [example.id for example in examples]:
        raise BadInput(
            f"{run.path / ATTEMPTS}: does not hold the draws of the examples that are recorded; start a new run"
        )
    flat = [record for draws in made for record in draws]
    file.append(encode_lines(flat), len(flat))
    kept = [Record(draws[0].id, 0, draws[-1].completion, draws[-1].result) for draws in made]
    run.records.append(encode_lines(kept), len(kept))
    tally.add(kept, opened.scorer.spec)
    for draws in made:
        sums.add(draws)


def _close(
    config: EvaluateConfig,
    opened: Opened,
    run: RunFolder,
    scorer: ScorerIdentity,
    *,
    tally: Tally,
    sums: AdaptiveSums,
    attempts: manifests.FileEntry,
    timing: manifests.Timing,
    command: Sequence[str],
) -> Rejected:
    summary = summarise(tally, opened.scorer.spec, config.confidence)
    found = sums.finish(config.confidence)
    manifest = manifests.Manifest(
        **manifests.made_here(),
        kind=KIND,
        room=room_of(opened, run, config.split or Path(config.dataset).stem, scorer),
        policy=opened.policy.spec,
        scorer=opened.scorer.spec,
        selection={"draws": 1, "selector": "rejection-sampling", "n": sums.budget},
        draws=1,
        seed=config.sampling.seed,
        command=list(command),
        inputs=manifests.Inputs(dataset=config.dataset),
        threads=config.threads,
        timing=timing,
        files={},
    )
    derived = {
        SUMMARY_JSON: indented_json(summary),
        SUMMARY_MD: render_summary(summary, manifest).encode(),
        ADAPTIVE_JSON: indented_json(found),
    }
    entries = {**run.finish(derived), ATTEMPTS: attempts}
    manifest = msgspec.structs.replace(manifest, files=dict(sorted(entries.items())))
    run.seal(manifest)
    return Rejected(run.path, manifest, summary, found)
