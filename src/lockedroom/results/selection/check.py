"""Verifying a selection run: verdicts made again, choices made again, and every number derived again from the pool."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from lockedroom.errors import BadInput
from lockedroom.jsonl import encode_lines, read_batches
from lockedroom.records import Record
from lockedroom.results.evaluation.exact import EXACT_JSONL
from lockedroom.results.run_folder import RECORDS, indented_json
from lockedroom.results.selection.files import (
    ANSWERS,
    CHOICES,
    CONFIRM,
    POOL,
    PROXY_RESULTS,
    SELECTION_JSON,
    SELECTION_MD,
    Answers,
    read_answers,
    read_choices,
    read_exact,
    read_pools,
)
from lockedroom.results.selection.numbers import FORMAT, Selection, best_at, confirm, finish
from lockedroom.results.selection.picking import Picks, Plan, Pool, pick, places_of, tiers_of
from lockedroom.results.selection.rendering import render_selection
from lockedroom.results.selection.selectors import PROXY, KnownAnswers, Parse, builtin_selector, parser
from lockedroom.results.selection.sums import SelectionSums
from lockedroom.safeguards.manifest import Manifest
from lockedroom.scorer.builtin import BuiltinScorer, find_builtin
from lockedroom.scorer.identity import source_sha256
from lockedroom.visible import visible

SHOWN = 5
OWN = "own:"  # begins the name of what a person's file did


class _FormatOnly(msgspec.Struct):
    format: str


def refuse_other_format(run: Path, manifest: Manifest) -> None:
    """Raise BadInput for a selection whose numbers another version derived, by rules that this one does not have."""
    if SELECTION_JSON not in manifest.files:
        return
    try:
        found = msgspec.json.decode((run / SELECTION_JSON).read_bytes(), type=_FormatOnly).format
    except msgspec.DecodeError:
        return  # not written by any version: what derives it says so
    if found != FORMAT:
        raise BadInput(
            f"{run / SELECTION_JSON}: is of format {visible(found, 40)!r}, and this version derives {FORMAT!r}: select again from "
            "the run that was chosen from, or verify with the version that wrote it"
        )


def check_selection(run: Path, manifest: Manifest, scorer: BuiltinScorer | None) -> list[str]:
    """Return what does not hold of a selection run; `scorer` judges the pool again. Empty for a run of another kind."""
    if manifest.kind != "select" or SELECTION_JSON not in manifest.files:
        return []
    saved = msgspec.json.decode((run / SELECTION_JSON).read_bytes(), type=Selection)
    trouble = list(_check_plan(saved.plan, manifest))
    if trouble:
        return trouble
    exact = read_exact(run) if EXACT_JSONL in manifest.files else None
    check = _Check(run, manifest, saved.plan, scorer)
    sums = check.pool(saved.plan, saved.draws, "")
    confirmed = None
    if saved.confirmed is not None:
        plan = msgspec.structs.replace(saved.plan, ns=(saved.plan.ns[best_at(sums)],))
        confirmed = confirm(sums, check.pool(plan, saved.confirmed.fresh_draws, CONFIRM))
    derived = finish(sums, source_run_id=saved.source_run_id, exact=exact, confirmed=confirmed)
    if indented_json(derived) != (run / SELECTION_JSON).read_bytes():
        check.trouble.append(f"{SELECTION_JSON}: its numbers are not those that {POOL} and {CHOICES} give")
    elif render_selection(derived).encode() != (run / SELECTION_MD).read_bytes():
        check.trouble.append(f"{SELECTION_MD}: its text is not what {SELECTION_JSON} gives")
    return check.trouble


def not_checked_of(manifest: Manifest) -> list[str]:
    """Return what of a selection cannot be made again here: picks of a person's selector, verdicts of another proxy."""
    selector = str(manifest.selection.get("selector", "none"))
    not_checked = []
    if selector.startswith(OWN):
        not_checked.append(f"picks were not made again: {selector} is a person's own selector")
    found = find_builtin(selector.removeprefix(PROXY)) if selector.startswith(PROXY) else None
    known = None if found is None else source_sha256(found.source)
    if selector.startswith(PROXY) and manifest.selection.get("proxy_source_sha256") != known:
        not_checked.append(f"what {selector} said was not judged again: it is not this installation's built-in scorer")
    if ANSWERS in manifest.files:
        not_checked.append(f"answers were not read again: a person's own scorer read them ({ANSWERS})")
    return not_checked


class _Check:
    """One selection run being checked; `trouble` grows."""

    def __init__(self, run: Path, manifest: Manifest, plan: Plan, scorer: BuiltinScorer | None) -> None:
        self.run, self.scorer = run, scorer
        self.known = KnownAnswers() if plan.parse.startswith(OWN) else None
        self.parse: Parse = parser(plan.parse) if self.known is None else self.known
        self.trouble: list[str] = []
        self.selector = builtin_selector(
            plan.selector, seed=plan.seed, beta=plan.beta, parse=self.parse, ties=plan.ties
        )
        self.is_proxy = plan.selector.startswith(PROXY)
        self.proxy = _unchanged_proxy(plan, manifest.selection) if self.is_proxy else None

    def pool(self, plan: Plan, draws: int, prefix: str) -> SelectionSums:
        """Derive the sums of one pool again; a pool without prefix is also held against the run's records."""
        sums = SelectionSums(plan, draws, self.parse)
        pools = read_pools(self.run, draws, plan.ties, prefix=prefix, proxy=self.is_proxy)
        chosen = _records(self.run / RECORDS) if not prefix else None
        found: list[str] = []
        answers = iter(()) if self.known is None else read_answers(self.run, prefix)
        for pool, saved in itertools.zip_longest(pools, read_choices(self.run, prefix)):
            if pool is None or saved is None:
                raise BadInput(f"{prefix}{CHOICES}: does not hold one line an example")
            if self.known is not None:
                self.known.by_text = _answers_of(pool, next(answers, None), f"{prefix}{ANSWERS}")
            places = None if self.selector is None else places_of(self.selector, pool)
            found += itertools.islice(self._check_example(pool, saved, plan, prefix, chosen), SHOWN - len(found))
            sums.add(pool, saved, tiers_of(self.selector, pool, places))
        self.trouble += found
        return sums

    def _check_example(
        self, pool: Pool, saved: Picks, plan: Plan, prefix: str, chosen: Iterator[Record] | None
    ) -> Iterator[str]:
        where = f"{prefix}{CHOICES}: id {pool.example.id!r}"
        shape = [len(row) for row in saved.picks]
        draws = len(pool.records)
        if saved.id != pool.example.id or shape != [draws // n for n in plan.ns]:
            raise BadInput(f"{where}: is not the line of this example")
        if any(not g * n <= i < (g + 1) * n for n, row in zip(plan.ns, saved.picks, strict=True)
               for g, i in enumerate(row)):  # fmt: skip
            raise BadInput(f"{where}: picks a draw outside its group")
        if self.selector is not None and pick(self.selector, pool, plan.ns) != saved:
            yield f"{where}: {plan.selector} picks otherwise from this pool"
        for scorer, name, results in (
            (self.scorer, POOL, [record.result for record in pool.records]),
            (self.proxy, PROXY_RESULTS, pool.told),
        ):
            for record, result in zip(pool.records, results, strict=True):
                if scorer is not None and record.completion is not None:
                    again = scorer.score(pool.example, record.completion.text)
                    if again != result:
                        yield f"{prefix}{name}: id {record.id!r}, draw {record.draw}: {scorer.spec.name} judges otherwise"
        if chosen is not None:
            best = pool.records[saved.picks[-1][0]]
            if next(chosen, None) != Record(best.id, 0, best.completion, best.result):
                yield f"{RECORDS}: id {pool.example.id!r}: is not the draw that was chosen"


def _answers_of(pool: Pool, read: Answers | None, where: str) -> dict[str, str | None]:
    """Return the answers of an example's texts. Raises BadInput where the line is not one of this example."""
    if read is None or read.id != pool.example.id or len(read.answers) != len(pool.records):
        raise BadInput(f"{where}: does not hold one line an example, with one answer a draw")
    found: dict[str, str | None] = {}
    for record, answer in zip(pool.records, read.answers, strict=True):
        text = None if record.completion is None else record.completion.text
        if (text is None and answer is not None) or (text is not None and found.setdefault(text, answer) != answer):
            raise BadInput(f"{where}: id {pool.example.id!r}: its answers do not belong to the texts of its draws")
    return found


def _check_plan(plan: Plan, manifest: Manifest) -> Iterator[str]:
    said = {"selector": manifest.selection.get("selector"), "n": manifest.selection.get("n")}
    if said != {"selector": plan.selector, "n": plan.ns[-1] if plan.ns else None}:
        yield f"the manifest's selection {said} is not that of {SELECTION_JSON}"
    needed = [POOL, CHOICES, SELECTION_MD] + [PROXY_RESULTS] * plan.selector.startswith(PROXY)
    needed += [ANSWERS] * plan.parse.startswith(OWN)
    yield from (f"the manifest does not list {name}" for name in needed if name not in manifest.files)


def _unchanged_proxy(plan: Plan, selection: Mapping[str, object]) -> BuiltinScorer | None:
    found = find_builtin(plan.selector.removeprefix(PROXY))
    if found is None or selection.get("proxy_source_sha256") != source_sha256(found.source):
        return None
    return found


def _records(path: Path) -> Iterator[Record]:
    for batch in read_batches(path, Record):
        if encode_lines(batch.rows) != batch.raw:
            raise BadInput(f"{path.name}:{batch.first_line}: from here on, a line is not as lockedroom writes it")
        yield from batch.rows
