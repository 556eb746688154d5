"""What a run's own completions say of the scorer that paid them: read from its records, and as text."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from lockedroom.results.evaluation.inspection import read_pairs
from lockedroom.results.text_table import text_table
from lockedroom.safeguards.audit.mining import Find, Mined, Miner, Share
from lockedroom.safeguards.manifest import Manifest
from lockedroom.visible import visible
from lockedroom.wording import counted


class MinedRun(msgspec.Struct, frozen=True):
    """`suspicious` counts completions that were paid and are doubted."""

    path: Path
    run: str
    scorer: str
    mined: Mined
    finds: list[Find]

    @property
    def suspicious(self) -> int:
        return self.mined.split[1].count

    def summary(self) -> dict[str, Any]:
        """Return what `summary.json` holds."""
        return {"run": self.run, "scorer": self.scorer, "mined": self.mined}


def read_mined(run: Path, manifest: Manifest, out: Path, confidence: float) -> MinedRun:
    """Read the completions of a verified run."""
    miner = Miner(manifest.scorer.reward_range[1], confidence)
    for _, group in itertools.groupby(read_pairs(run, manifest.draws), key=lambda pair: pair[0].id):
        pairs = list(group)
        miner.read(pairs[0][0], [record for _, record in pairs])
    identity = manifest.room.scorer
    return MinedRun(out, str(run), f"{identity.name} version {identity.version}", miner.result(), miner.finds)


def render_mined(done: MinedRun) -> str:
    """Return the split as tables, and completions to look at."""
    mined = done.mined
    lines = [
        f"# What {visible(done.scorer, 80)} paid for in {visible(done.run, 200)}", "",
        f"{counted(mined.scored, 'scored attempt')} of {counted(mined.examples, 'example')}; {counted(mined.failures, 'failure is', 'failures are')} in no share.", "",
        *_table("attempts", mined.split), "",
    ]  # fmt: skip
    for title, shares in (
        ("why paid completions are doubted", mined.doubts),
        ("where the answer stands in what was lost", mined.losses),
    ):
        if shares:
            lines += [*_table(title, shares), ""]
    for find in done.finds:
        odd = f"  ({', '.join(find.characters)})" if find.characters else ""
        lines.append(
            f"- {visible(find.id, 80)}: {find.why}; reward {find.reward:g}, expected {visible(str(find.expected_answer), 40)}: "
            f"{visible(find.completion, 160)}{odd}"
        )
    return "\n".join(lines)


def _table(title: str, shares: Sequence[Share]) -> list[str]:
    rows = [
        [
            one.what,
            f"{one.count:,}",
            f"{one.share:.4f}",
            f"[{one.interval.low:.4f}, {one.interval.high:.4f}]" if one.interval else "undefined",
        ]
        for one in shares
    ]
    return text_table((title, "count", "share", "interval"), rows, numbers=(1, 2))
