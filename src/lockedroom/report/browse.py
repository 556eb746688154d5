"""The records that a page holds: all of a small run, a stated sample of a large one, every code represented."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from lockedroom.records import Completion, Example, Record, Score
from lockedroom.report.blocks import Piece, Records, Shown
from lockedroom.results.evaluation.inspection import code_of, read_pairs, read_summary
from lockedroom.safeguards.manifest import Manifest
from lockedroom.visible import visible

MOST_RECORDS = 1000  # of one run on a page
MOST_CHARACTERS = 1_500_000  # of all texts of one run on a page
LONGEST_TEXT, LONGEST_PROMPT, LONGEST_FIELD = 4000, 1000, 200

Decoder = Callable[[Sequence[int]], list[str]]


def browse(run: Path, manifest: Manifest, most: int = MOST_RECORDS, characters: int = MOST_CHARACTERS) -> Records:
    """Return the records of a run for a page: all, or up to `most`, as many of each code as the rarest codes leave.

    Where their texts are longer than `characters` altogether, fewer are taken, of every code alike.

    Which of a code are taken depends on a hash of (id, draw) alone, so it is no selection by anything that was measured.
    """
    summary = read_summary(run)
    counts = Counter(code_of(record) for _, record in read_pairs(run, summary.draws))
    kept = _sample(read_pairs(run, summary.draws), _quotas(counts, most), counts)
    decoder = decoder_of(manifest)
    shown = [_shown(example, record, decoder) for example, record in kept]
    while (size := sum(map(_characters, shown))) > characters and len(shown) > len(counts):
        fewer = max(len(counts), min(len(kept) - 1, int(len(kept) * characters / size)))
        have = Counter(code_of(record) for _, record in kept)
        kept = _sample(kept, _quotas(have, fewer), have)
        shown = [_shown(example, record, decoder) for example, record in kept]
    total = summary.attempts
    how = f"all {total:,} records" if total > 1 else "its only record"
    if len(shown) < total:
        how = (
            f"{len(shown):,} of {total:,} records: each code up to a quota, which ones by a hash of their id and draw; "
            "the rest is in records.jsonl (lockedroom inspect)"
        )
    return Records(run=visible(run.name, 80), total=total, shown=shown, how=how, token_texts=decoder is not None)


def _characters(one: Shown) -> int:
    return len(one.prompt) + len(one.completion) + len(one.message) + 12 * len(one.tokens)


def _quotas(counts: Mapping[str, int], most: int) -> dict[str, int]:
    """Share `most` places among the codes: rare codes whole, the others equally; codes beyond that number get none."""
    quota: dict[str, int] = {}
    left, waiting = most, sorted(counts, key=lambda code: (counts[code], code))
    for i, code in enumerate(waiting):
        quota[code] = min(counts[code], max(1, left // (len(waiting) - i)), left)
        left -= quota[code]
    return quota


def _sample(
    pairs: Iterable[tuple[Example, Record]], quota: Mapping[str, int], counts: Mapping[str, int]
) -> list[tuple[Example, Record]]:
    """Return the quota of each code in the order of the run."""
    heaps: dict[str, list[tuple[int, int, Example, Record]]] = {code: [] for code in quota}
    for position, (example, record) in enumerate(pairs):
        code = code_of(record)
        if quota[code] == 0:
            continue
        if quota[code] == counts[code]:
            heaps[code].append((0, position, example, record))
            continue
        key = f"{record.draw}/{record.id}".encode("utf-8", "surrogatepass")
        rank = -int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
        heap = heaps[code]
        if len(heap) < quota[code]:
            heapq.heappush(heap, (rank, -position, example, record))
        elif rank > heap[0][0]:
            heapq.heapreplace(heap, (rank, -position, example, record))
    kept = [(abs(position), example, record) for heap in heaps.values() for _, position, example, record in heap]
    kept.sort(key=lambda item: item[0])
    return [(example, record) for _, example, record in kept]


def _shown(example: Example, record: Record, decoder: Decoder | None) -> Shown:
    result, completion = record.result, record.completion
    expected = example.expected_answer
    reward, outcome, parsed = None, "failure", ""
    message = result.message if not isinstance(result, Score) else result.details.message
    if isinstance(result, Score):
        reward, outcome, parsed = result.reward, result.details.outcome.value, result.details.parsed or ""
    return Shown(
        id=visible(record.id, LONGEST_FIELD),
        draw=record.draw,
        prompt=visible(example.prompt, LONGEST_PROMPT),
        expected=visible(expected if isinstance(expected, str) else json.dumps(expected), LONGEST_FIELD),
        completion="" if completion is None else visible(completion.text, LONGEST_TEXT),
        code=visible(code_of(record), LONGEST_FIELD),
        outcome=outcome,
        reward=reward,
        message=visible(message, LONGEST_FIELD),
        parsed=visible(parsed, LONGEST_FIELD),
        tokens=_tokens(completion, decoder),
    )


def _tokens(completion: Completion | None, decoder: Decoder | None) -> list[Piece]:
    """The tokens as they were sampled; where the tokenizer is not at hand, their ids stand for their texts."""
    if completion is None or completion.token_ids is None or completion.token_logprobs is None:
        return []
    ids = completion.token_ids[:LONGEST_TEXT]
    texts = [f"#{one}" for one in ids] if decoder is None else decoder(ids)
    return [
        Piece(visible(text), round(logprob, 3)) for text, logprob in zip(texts, completion.token_logprobs, strict=False)
    ]


def decoder_of(manifest: Manifest) -> Decoder | None:
    """Return what turns token ids into texts for the embedded models; None for other policies."""
    if manifest.policy.kind != "tiny":
        return None
    from lockedroom.policy.tiny.tokenizer import Tokenizer
    from lockedroom.policy.tiny.weights import load_shipped

    tokenizer = Tokenizer(load_shipped("tiny").header.tokenizer)
    return lambda ids: [tokenizer.pieces[one] for one in ids]  # the end token's piece is empty
