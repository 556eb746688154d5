"""What a guided search cost and how far it strayed: `search.json`, derived from `search.jsonl`, one line an example."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from lockedroom.jsonl import read_batches
from lockedroom.records import Outcome
from lockedroom.results.evaluation.summary import Summary
from lockedroom.results.run_folder import indented_json
from lockedroom.safeguards.manifest import Manifest

FORMAT = "lockedroom.search/1"
SEARCH_JSON, SEARCH_JSONL = "search.json", "search.jsonl"
STRATEGIES = ("viable-sampling", "viable-beam", "beam")
BEAMS = ("viable-beam", "beam")


class SearchRow(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Of one example: the tokens spent, the dead ends met, and Σ over its `draws` of log q − log p, in nats.

    q is what was searched with, p the policy; a beam is certain of its one result, so there log q is 0.
    """

    id: str
    draws: int
    tokens: int
    redraws: int
    strayed: float


class Search(msgspec.Struct, frozen=True):
    """`kl` estimates KL(search ‖ policy), in nats, by the mean of log q − log p over all draws."""

    format: str
    selector: str
    examples: int
    draws: int
    tokens: float
    redraws: int
    kl: float


def sum_up_search(rows: Sequence[SearchRow], selector: str) -> Search:
    """Return the means over the examples of a search."""
    m, draws = len(rows), sum(row.draws for row in rows)
    return Search(
        format=FORMAT,
        selector=selector,
        examples=m,
        draws=rows[0].draws,
        tokens=sum(row.tokens for row in rows) / m,
        redraws=sum(row.redraws for row in rows),
        kl=math.fsum(row.strayed for row in rows) / draws,
    )


def check_search(run: Path, manifest: Manifest) -> list[str]:
    """Return what does not hold of a search run; empty for a run of another kind. The rows are taken as written."""
    if SEARCH_JSON not in manifest.files:
        return []
    rows = [row for batch in read_batches(run / SEARCH_JSONL, SearchRow) for row in batch.rows]
    if len(rows) != manifest.room.dataset.examples:
        return [f"{SEARCH_JSONL}: does not hold one line an example"]
    derived = sum_up_search(rows, str(manifest.selection.get("selector")))
    if indented_json(derived) != (run / SEARCH_JSON).read_bytes():
        return [f"{SEARCH_JSON}: its numbers are not those that {SEARCH_JSONL} gives"]
    return []


def render_search(search: Search, summary: Summary) -> str:
    """Return what a search found, cost and changed, as text."""
    rate = summary.pass_rate
    interval = "" if rate is None or rate.low is None else f"   95% interval [{rate.low:.4f}, {rate.high:.4f}]".replace(
        "95%", f"{summary.confidence:.0%}"
    )  # fmt: skip
    value = "none" if rate is None else f"{rate.value:.4f}"
    lines = []
    if summary.truncated:
        lines.append(f"cut         {summary.truncated:,} of {search.examples:,} at the token limit")
    malformed = sum(code.count for code in summary.codes if code.outcome is Outcome.MALFORMED)
    if search.selector.startswith("viable") and malformed:
        lines.append(
            f"malformed   {malformed:,} of {search.examples:,}: `viable` led on to no well-formed end, or the token limit came first"
        )
    return "\n".join([
        f"pass rate   {value}{interval}",
        f"tokens      {search.tokens:.2f} an example, abandoned draws and beams included ({search.redraws} dead ends)",
        f"KL          {search.kl:.4f} nats from the policy: what is found is not distributed as the policy writes",
        *lines,
    ]) + "\n"  # fmt: skip
