"""Verifier-guided search as a run: the scorer says which prefixes are viable, the policy's tokens are searched among them.

The scorer's `viable` and, for complete texts, its outcome on an example that no dataset holds are all that the search is
told; neither depends on the right answer. Of several constrained draws the most probable under the policy is kept.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from lockedroom.dataset.load import canonical_line, first_refused_by, read_examples
from lockedroom.errors import BadInput
from lockedroom.jsonl import encode_lines
from lockedroom.loops.attempt import judge
from lockedroom.loops.opening.named import Opened, identify, open_named, room_of
from lockedroom.loops.selecting.viability import open_language
from lockedroom.policy.backend import Backend
from lockedroom.protocols import Scorer, Searchable
from lockedroom.records import Completion, Example, Record, Sampling
from lockedroom.results.evaluation.rendering import render_summary
from lockedroom.results.evaluation.summary import Summary, summarise
from lockedroom.results.evaluation.tally import Tally
from lockedroom.results.run_folder import SUMMARY_JSON, SUMMARY_MD, RunFolder, indented_json
from lockedroom.results.selection.search import (
    BEAMS,
    SEARCH_JSON,
    SEARCH_JSONL,
    STRATEGIES,
    Search,
    SearchRow,
    sum_up_search,
)
from lockedroom.safeguards import manifest as manifests

if TYPE_CHECKING:
    from lockedroom.policy.tiny.guided import Guided, Language

EXAMPLES_AT_A_TIME = 256


class SearchConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What to search and how: `draws` of viable-sampling, `width` of viable-beam. Also what `open_named` asks for."""

    dataset: str
    selector: str
    policy: str | None = "tiny"
    scorer: str = "final-int"
    draws: int | None = None
    width: int = 2
    limit: int | None = None
    split: str | None = None
    confidence: float = 0.95
    completions: str | None = None
    declare: tuple[str, ...] = ()
    scorer_timeout: float = 5.0
    scorer_memory: int = 512
    threads: int = 1
    sampling: Sampling = Sampling()
    backend: Backend = Backend()


class Searched(msgspec.Struct, frozen=True):
    """A finished search."""

    path: Path
    manifest: manifests.Manifest
    summary: Summary
    search: Search


def search(
    config: SearchConfig,
    out: Path,
    *,
    resume: bool = False,
    command: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
) -> Searched:
    """Search a completion for every example and write the run folder `out`, one record an example.

    `resume` takes over a folder that was interrupted: a search is seeded, so it is made again and must be the same.
    Raises BadInput for a policy that cannot be searched, a scorer without `viable`, and whatever cannot be used.
    """
    started, wall, cpu = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic(), time.process_time()
    _check(config)
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(open_named(config))
        policy = _require_tokens(opened)
        language = (
            None if config.selector == "beam" else stack.enter_context(open_language(policy, opened.scorer, config))
        )
        run = RunFolder(out, _encode_config(config), draws=1, resume=resume)
        try:
            rows: list[SearchRow] = []
            tally = Tally(draws=1, codes={}, failures={}, passes={}, graded_passes={})
            for examples in _examples(config, opened.scorer):
                found = _find(config, policy, language, examples)
                completions = [_kept(group, config) for group in found]
                results = judge(opened.scorer, examples, completions)
                records = [
                    Record(example.id, 0, completion, result)
                    for example, completion, result in zip(examples, completions, results, strict=True)
                ]
                rows += [_row(example, group, config) for example, group in zip(examples, found, strict=True)]
                run.examples.append(canonical_line(examples), len(examples))
                run.records.append(encode_lines(records), len(records))
                tally.add(records, opened.scorer.spec)
                if progress is not None:
                    progress(len(records))
            timing = manifests.Timing(
                started, round(time.monotonic() - wall, 3), round(time.process_time() - cpu, 3), len(rows)
            )
            return _close(config, opened, run, tally, rows, timing=timing, command=command)
        except BaseException:
            for name in (SEARCH_JSON, SEARCH_JSONL):
                (run.path / name).unlink(missing_ok=True)
            run.abandon(remove=True)  # a search is seeded and can be made again
            raise


def _check(config: SearchConfig) -> None:
    if config.selector not in STRATEGIES:
        raise BadInput(f"--selector {config.selector!r}: a search is one of {', '.join(STRATEGIES)}")
    for name, value in (("--draws", config.draws), ("--width", config.width), ("--limit", config.limit)):
        if value is not None and value < 1:
            raise BadInput(f"{name} {value}: must be at least 1")
    if config.selector in BEAMS and config.draws not in (None, 1):
        raise BadInput("--draws: a beam search is deterministic, so it has one result; give --width instead")


def _require_tokens(opened: Opened) -> Searchable:
    if not isinstance(opened.policy, Searchable):
        raise BadInput(f"--policy {opened.policy.spec.name}: token-level search reads the distribution of every next token; use "
                       "tiny or its kind, or a Hugging Face model (hf:PATH)")  # fmt: skip
    return opened.policy


def _examples(config: SearchConfig, scorer: Scorer) -> list[list[Example]]:
    rows = [
        example
        for batch in read_examples(Path(config.dataset), first_refused_by(scorer.accepts), scorer_name=scorer.spec.name)
        for example in batch
    ]
    kept = rows if config.limit is None else rows[: config.limit]
    return [list(kept[i : i + EXAMPLES_AT_A_TIME]) for i in range(0, len(kept), EXAMPLES_AT_A_TIME)]


def _find(
    config: SearchConfig, policy: Searchable, language: Language | None, examples: Sequence[Example]
) -> list[list[Guided]]:
    """Return what was found for each example: every constrained draw, or the one beam result."""
    from lockedroom.policy.tiny.guided import beam_search, sample_viable

    if language is None or config.selector in BEAMS:
        return [[one] for one in beam_search(policy, examples, config.width, config.sampling, language)]
    draws = config.draws or 1
    drawn = sample_viable(policy, examples, range(draws), config.sampling, language)
    return [drawn[i : i + draws] for i in range(0, len(drawn), draws)]


def _kept(group: Sequence[Guided], config: SearchConfig) -> Completion:
    """The most probable under the policy; the first of equals."""
    best = max(group, key=lambda one: math.fsum(one.policy_logprobs))
    return Completion(
        best.text,
        logprob=None if config.selector in BEAMS else best.logprob,
        finish_reason=best.finish_reason,
        token_ids=best.token_ids,
        token_policy_logprobs=best.policy_logprobs,
    )


def _row(example: Example, group: Sequence[Guided], config: SearchConfig) -> SearchRow:
    certain = config.selector in BEAMS
    strayed = math.fsum((0.0 if certain else one.logprob) - math.fsum(one.policy_logprobs) for one in group)
    return SearchRow(
        example.id, len(group), sum(one.tokens for one in group), sum(one.redraws for one in group), strayed
    )


def _encode_config(config: SearchConfig) -> bytes:
    import tomli_w

    return tomli_w.dumps(msgspec.to_builtins(config)).encode()


def _close(
    config: SearchConfig,
    opened: Opened,
    run: RunFolder,
    tally: Tally,
    rows: Sequence[SearchRow],
    *,
    timing: manifests.Timing,
    command: Sequence[str],
) -> Searched:
    size: dict[str, Any] = {"width": config.width} if config.selector in BEAMS else {"n": config.draws or 1}
    summary = summarise(tally, opened.scorer.spec, config.confidence)
    found = sum_up_search(rows, config.selector)
    manifest = manifests.Manifest(
        **manifests.made_here(),
        kind="search",
        room=room_of(opened, run, config.split or Path(config.dataset).stem, identify(opened.scorer)),
        policy=opened.policy.spec,
        scorer=opened.scorer.spec,
        selection={"draws": 1, "selector": config.selector, **size},
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
        SEARCH_JSONL: encode_lines(rows),
        SEARCH_JSON: indented_json(found),
    }
    manifest = msgspec.structs.replace(manifest, files=run.finish(derived))
    run.seal(manifest)
    return Searched(run.path, manifest, summary, found)
