"""Reading answers, for votes, with a person's own scorer: what it parses from a completion, whatever the right answer is.

The scorer is asked with one *probe* for all completions of a selection, so what it reads depends on the text alone and can
hint at no right answer. The probe's answer is one that no dataset holds, of the kind that this dataset has; where the scorer
judges no such answer (one of the letters A to D, say), it is the answer of the first example.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.errors import BadInput
from lockedroom.jsonl import read_batches
from lockedroom.loops.evaluating.configuration import read_toml
from lockedroom.protocols import BatchScorer
from lockedroom.records import Example, Record, Score
from lockedroom.results.run_folder import CONFIG, EXAMPLES, RECORDS
from lockedroom.results.selection.selectors import PROBE, KnownAnswers
from lockedroom.safeguards.room import ScorerIdentity
from lockedroom.scorer.identity import source_sha256


class OwnReader:
    """A person's scorer and the answers it has read of the texts at hand. `sha256` is of its file."""

    def __init__(self, scorer: BatchScorer, probe: Example, name: str) -> None:
        self.name, self.sha256 = name, source_sha256(scorer.source)
        self.known = KnownAnswers()
        self._scorer, self._probe = scorer, probe

    def read(self, records: Sequence[Record]) -> None:
        """Read these draws' answers, and forget those of others. What the scorer cannot judge has no answer."""
        texts = list(dict.fromkeys(record.completion.text for record in records if record.completion is not None))
        results = self._scorer.score_batch([self._probe] * len(texts), texts)
        self.known.by_text = {
            text: result.details.parsed if isinstance(result, Score) else None
            for text, result in zip(texts, results, strict=True)
        }


def make_reader(scorer: BatchScorer, name: str, run: Path) -> OwnReader:
    """Return the reader of answers that a person's scorer is for the completions of a run."""
    first = next(iter(read_batches(run / EXAMPLES, Example))).rows[0]
    record = next(iter(read_batches(run / RECORDS, Record))).rows[0]
    text = "" if record.completion is None else record.completion.text
    probe = msgspec.structs.replace(first, id=PROBE.id)
    for answer in _probe_answers(first.expected_answer):
        asked = msgspec.structs.replace(probe, expected_answer=answer)
        if scorer.first_refused([answer]) is None and isinstance(scorer.score_batch([asked], [text])[0], Score):
            return OwnReader(scorer, asked, name)
    return OwnReader(scorer, probe, name)


def _probe_answers(like: Any) -> list[Any]:
    """Answers that no dataset holds, of the kind of `like`."""
    if type(like) is int:
        return [int(PROBE.expected_answer)]
    return [PROBE.expected_answer] if type(like) is str else []


def scorer_file_of(run: Path, scorer: ScorerIdentity) -> str | None:
    """Return the name of the person's scorer that judged a run, where its file is still here unchanged."""
    with contextlib.suppress(BadInput):
        name = read_toml(run / CONFIG).get("scorer")
        if isinstance(name, str) and _is_unchanged(name, scorer):
            return name
    return None


def _is_unchanged(name: str, scorer: ScorerIdentity) -> bool:
    path = Path(name if name.endswith(".py") else name.rpartition(":")[0])
    return path.suffix == ".py" and path.is_file() and source_sha256(path) == scorer.source_sha256
